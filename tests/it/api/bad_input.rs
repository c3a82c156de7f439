//! Whatever is wrong with a request: its code, its status, a sentence that helps; nothing changes, the server goes on.

use serde_json::{Value, json};

use super::World;
use crate::http::{Client, SqlFailure, results};

/// What was sent, and what must be answered: status, code, SQLSTATE, a part of the message.
type Case<'a> = (Value, u16, &'a str, &'a str, &'a str);

fn sql(text: &str) -> Value {
    json!({ "sql": text })
}

fn check(failure: &SqlFailure, (body, status, code, sqlstate, text): &Case<'_>) {
    let got = (failure.status, failure.code.as_str(), failure.sqlstate.as_str());
    assert_eq!(got, (*status, *code, *sqlstate), "{body}: {failure}");
    assert!(failure.message.contains(text), "{body}: {failure} should say {text}");
}

/// Sends each case as `who`, on one connection, and holds that nothing has changed.
fn refuse_all(world: &mut World, who: fn(&World) -> &Client, cases: &[Case<'_>]) {
    let before = world.state();
    let mut client = who(world).again();
    for case in cases {
        let failure = client.try_sql(&case.0).expect_err(&case.0.to_string());
        check(&failure, case);
        assert!(client.try_sql(&sql("SELECT 1")).is_ok(), "after {}", case.0);
    }
    assert_eq!(world.state(), before);
}

#[test]
fn bodies() {
    let mut world = World::new(&[]);
    let before = world.state();
    let mut client = world.alice.again();
    let cases: &[(&[u8], &str, &str)] = &[
        (b"", "INVALID_INPUT", "Invalid JSON payload"),
        (b"{", "INVALID_INPUT", "Invalid JSON payload"),
        (b"[]", "INVALID_INPUT", "Invalid JSON payload"),
        (b"null", "INVALID_INPUT", "Invalid JSON payload"),
        (b"SELECT 1", "INVALID_INPUT", "line 1 column 1"),
        (b"{\"sql\":\"SELECT 1\"} x", "INVALID_INPUT", "trailing characters"),
        (b"{\"sql\":\"\xff\xfe\"}", "INVALID_INPUT", "Invalid JSON payload"),
        (b"{\"sql\":\"a\nb\"}", "INVALID_INPUT", "control character"),
        (br#"{}"#, "INVALID_INPUT", "missing field `sql`"),
        (br#"{"sql":null}"#, "INVALID_INPUT", "expected a string"),
        (br#"{"sql":["SELECT 1"]}"#, "INVALID_INPUT", "expected a string"),
        (br#"{"sql":"SELECT 1","params":{"a":1}}"#, "INVALID_INPUT", "expected a sequence"),
        (br#"{"sql":"SELECT 1","namespace_id":5}"#, "INVALID_INPUT", "expected a string"),
        (br#"{"sql":"SELECT 1","durability":"whenever"}"#, "INVALID_INPUT", "levels are sync and buffered"),
        (br#"{"sql":""}"#, "EMPTY_SQL", "send at least one statement"),
        (br#"{"sql":" \n\t "}"#, "EMPTY_SQL", "send at least one statement"),
    ];
    for (body, code, text) in cases {
        let shown = String::from_utf8_lossy(body);
        let response = client.request("POST /v1/api/sql", &[("Content-Type", "application/json")], body).unwrap();
        let failure = results(&response).expect_err(&shown);
        assert_eq!((failure.status, failure.code.as_str()), (400, *code), "{shown}: {failure}");
        assert!(failure.message.contains(text), "{shown}: {failure} should say {text}");
    }
    let deep = format!("{{\"sql\":\"SELECT $1\",\"params\":[{}1{}]}}", "[".repeat(100_000), "]".repeat(100_000));
    let response = client.request("POST /v1/api/sql", &[], deep.as_bytes()).unwrap();
    assert_eq!(response.status, 400, "{}", response.body);
    let multipart =
        client.request("POST /v1/api/sql", &[("Content-Type", "multipart/form-data; boundary=B")], b"--B--").unwrap();
    assert_eq!(multipart.status, 400, "{}", multipart.body);
    assert_eq!(world.state(), before);
}

#[test]
fn too_large() {
    let mut world = World::new(&[
        "server.request_body_limit=2MiB",
        "limits.max_sql_bytes=256KiB",
        "limits.max_parameter_bytes=64KiB",
    ]);
    let long = format!("SELECT '{}'", "x".repeat(256 << 10));
    let cases: Vec<Case<'_>> = vec![
        (sql(&long), 400, "INVALID_SQL", "42000", "SQL query too long"),
        (
            json!({"sql": "SELECT $1", "params": ["x".repeat((64 << 10) + 1)]}),
            400,
            "INVALID_PARAMETER",
            "22023",
            "65536 are allowed",
        ),
    ];
    refuse_all(&mut world, |w| &w.alice, &cases);
    let huge = json!({"sql": "SELECT 1", "padding": "x".repeat(3 << 20)}).to_string();
    let response = world.alice.again().post_text("/v1/api/sql", &huge);
    assert_eq!(response.status, 413);
    let body = response.json();
    assert_eq!((&body["error"], &body["max_bytes"]), (&json!("BODY_TOO_LARGE"), &json!(2 << 20)), "{body}");

    // In chunks, the size is known only as they come.
    let token = world.alice.token().to_owned();
    let mut chunks = format!(
        "POST /v1/api/sql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    for _ in 0..3 {
        chunks += &format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    }
    chunks += "0\r\n\r\n";
    if let Ok(response) = world.server.client().exchange(chunks.as_bytes()) {
        assert_eq!(response.status, 413, "{}", response.body);
    }
    // As large as allowed works.
    let text = "y".repeat(64 << 10);
    let result = world.alice.sql_with("SELECT length($1)", json!([text]));
    assert_eq!(result["row_count"], 1);
}

#[test]
fn parameters() {
    let mut world = World::new(&[]);
    let one = |params: Value| json!({"sql": "SELECT $1", "params": params});
    let cases: Vec<Case<'_>> = vec![
        (
            one(json!([[1]])),
            400,
            "INVALID_PARAMETER",
            "22023",
            "Parameter $1 invalid: Array parameters not yet supported",
        ),
        (one(json!([{"a": 1}])), 400, "INVALID_PARAMETER", "22023", "Parameter $1 invalid: Object"),
        (one(json!([9_223_372_036_854_775_808_u64])), 400, "INVALID_PARAMETER", "22023", "beyond BIGINT"),
        (one(json!(vec![1; 51])), 400, "INVALID_PARAMETER", "22023", "maximum 50 parameters allowed, got 51"),
        (json!({"sql": "SELECT $2 FROM w.mail WHERE id = $1", "params": [1]}), 400, "INVALID_PARAMETER", "22023", "$2"),
        (sql("SELECT * FROM w.mail WHERE id = $1"), 400, "INVALID_PARAMETER", "22023", "$1"),
        (sql("INSERT INTO w.mail VALUES ($1, 'x', 1)"), 400, "INVALID_PARAMETER", "22023", "$1"),
        (sql("DELETE FROM w.mail WHERE id = $1"), 400, "INVALID_PARAMETER", "22023", "$1"),
        (json!({"sql": "SELECT $0", "params": [1]}), 400, "INVALID_SQL", "42000", "is no parameter"),
        (
            json!({"sql": "INSERT INTO w.mail VALUES ($1, 'x', 1); SELECT $2", "params": [90]}),
            400,
            "INVALID_PARAMETER",
            "22023",
            "Statement 2 failed: Parameter $2 invalid",
        ),
        (
            json!({"sql": "SELECT * FROM w.mail LIMIT $1", "params": ["many"]}),
            400,
            "INVALID_PARAMETER",
            "22023",
            "LIMIT and OFFSET take a whole number",
        ),
        (
            json!({"sql": "INSERT INTO w.mail VALUES ($1, $2, $3)", "params": [90, "x", "many"]}),
            400,
            "SQL_EXECUTION_ERROR",
            "22P02",
            "column 'n' of type INT",
        ),
        (
            json!({"sql": "INSERT INTO w.mail VALUES ($1, $2, $3)", "params": [90, "x", 3_000_000_000_i64]}),
            400,
            "SQL_EXECUTION_ERROR",
            "22003",
            "out of range for column 'n'",
        ),
        (
            json!({"sql": "INSERT INTO w.mail VALUES ($1, $2, $3)", "params": [90, null, 3]}),
            400,
            "SQL_EXECUTION_ERROR",
            "23502",
            "column 'body' cannot be NULL (row 1)",
        ),
        (
            json!({"sql": "INSERT INTO w.mail VALUES ($1, $2, $3)", "params": [true, "x", 3]}),
            400,
            "SQL_EXECUTION_ERROR",
            "22P02",
            "column 'id' of type BIGINT",
        ),
    ];
    refuse_all(&mut world, |w| &w.alice, &cases);
}

#[test]
fn statements() {
    let mut world = World::new(&[]);
    let cases: Vec<Case<'_>> = vec![
        (sql("SELEC 1"), 400, "INVALID_SQL", "42601", "SELEC"),
        (sql("SELECT * FORM w.mail"), 400, "INVALID_SQL", "42601", ""),
        (sql("SELECT 'open"), 400, "INVALID_SQL", "42601", ""),
        (sql("SELECT \u{0}"), 400, "INVALID_SQL", "42601", ""),
        (sql("DROP DATABASE x"), 400, "INVALID_SQL", "0A000", ""),
        (sql("SELECT * FROM w.nothing"), 400, "TABLE_NOT_FOUND", "42P01", "w.nothing"),
        (sql("SELECT * FROM nowhere.mail"), 400, "TABLE_NOT_FOUND", "42P01", "nowhere.mail"),
        (sql("SELECT bdy FROM w.mail"), 400, "COLUMN_NOT_FOUND", "42703", "Did you mean 'body'"),
        (sql("SELECT bdy FROM w.mail WHERE id = 1"), 400, "COLUMN_NOT_FOUND", "42703", "'bdy'"),
        (sql("INSERT INTO w.mail (id, bdy) VALUES (9, 'x')"), 400, "COLUMN_NOT_FOUND", "42703", "Did you mean 'body'"),
        (sql("UPDATE w.mail SET bdy = 'x' WHERE id = 1"), 400, "COLUMN_NOT_FOUND", "42703", "'bdy'"),
        (sql("DELETE FROM w.mail WHERE bdy = 'x'"), 400, "COLUMN_NOT_FOUND", "42703", "'bdy'"),
        (
            sql("CREATE TABLE nowhere.t (id BIGINT PRIMARY KEY)"),
            403,
            "PERMISSION_DENIED",
            "42501",
            "create SHARED tables",
        ),
        (
            sql("CREATE USER TABLE nowhere.t (id BIGINT PRIMARY KEY)"),
            400,
            "NAMESPACE_NOT_FOUND",
            "3F000",
            "CREATE NAMESPACE nowhere",
        ),
        (sql("USE nowhere"), 400, "NAMESPACE_NOT_FOUND", "3F000", "nowhere"),
        (
            sql("CREATE USER TABLE w.\"a b\" (id BIGINT PRIMARY KEY)"),
            400,
            "SQL_EXECUTION_ERROR",
            "42602",
            "' ' is not a letter",
        ),
        (sql("CREATE USER TABLE w.t (_seq BIGINT PRIMARY KEY)"), 400, "SQL_EXECUTION_ERROR", "42602", "reserved"),
        (
            sql("INSERT INTO w.mail VALUES (1, 'dup', 1)"),
            400,
            "SQL_EXECUTION_ERROR",
            "23505",
            "value '1' already exists in column 'id'",
        ),
        (
            sql("INSERT INTO w.mail VALUES (8, 'a', 1), (8, 'b', 1)"),
            400,
            "SQL_EXECUTION_ERROR",
            "23505",
            "appears multiple times",
        ),
        (
            sql("INSERT INTO w.mail VALUES (8, NULL, 1)"),
            400,
            "SQL_EXECUTION_ERROR",
            "23502",
            "column 'body' cannot be NULL (row 1)",
        ),
        (
            sql("INSERT INTO w.mail (id) VALUES (8)"),
            400,
            "SQL_EXECUTION_ERROR",
            "23502",
            "column 'body' cannot be NULL",
        ),
        (
            sql("INSERT INTO w.mail VALUES ('x', 'a', 1)"),
            400,
            "SQL_EXECUTION_ERROR",
            "22P02",
            "column 'id' of type BIGINT",
        ),
        (
            sql("INSERT INTO w.mail VALUES (8, 'a', 99999999999)"),
            400,
            "SQL_EXECUTION_ERROR",
            "22003",
            "out of range for column 'n'",
        ),
        (
            sql("UPDATE w.mail SET n = 99999999999 WHERE id = 1"),
            400,
            "SQL_EXECUTION_ERROR",
            "22003",
            "out of range for column 'n'",
        ),
        (
            sql("UPDATE w.mail SET body = NULL WHERE id = 1"),
            400,
            "SQL_EXECUTION_ERROR",
            "23502",
            "column 'body' cannot be NULL",
        ),
        (sql("UPDATE w.mail SET n = 1"), 400, "INVALID_SQL", "42000", "UPDATE requires a WHERE clause"),
        (sql("DELETE FROM w.mail"), 400, "INVALID_SQL", "42000", "DELETE requires a WHERE clause"),
        (
            sql("INSERT INTO w.mail VALUES (50, 'first', 1); INSERT INTO w.mail VALUES (51, 'x'"),
            400,
            "INVALID_SQL",
            "42601",
            "",
        ),
        (
            sql("INSERT INTO w.mail VALUES (50, 'first', 1); DROP TABLE w.mail"),
            403,
            "PERMISSION_DENIED",
            "42501",
            "Statement 2 failed: ",
        ),
    ];
    refuse_all(&mut world, |w| &w.alice, &cases);
}

#[test]
fn syntax_errors_have_a_place_and_administrators_see_the_text() {
    let mut world = World::new(&[]);
    let text = "SELECT id\nFROM w.mail\nWHERE ORDER 5";
    let error = world.alice.post("/v1/api/sql", &sql(text)).json()["error"].take();
    assert_eq!(error["line"], 3, "{error}");
    assert!(error["column"].as_u64().unwrap() > 1, "{error}");
    assert!(error.get("details").is_none(), "{error}");
    let error = world.admin.post("/v1/api/sql", &sql(text)).json()["error"].take();
    assert_eq!(error["details"], text);
}

#[test]
fn too_many_and_too_deep() {
    let mut world = World::new(&["limits.max_statements=10"]);
    let brackets = |n: usize| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n));
    let queries = |n: usize| format!("{}SELECT 1{}", "SELECT * FROM (".repeat(n), ") t".repeat(n));
    let unions = vec!["SELECT 1"; 20_000].join(" UNION ALL ");
    let chain = format!("SELECT {}", vec!["1"; 20_000].join("+"));
    let nots = format!("SELECT {} TRUE", "NOT ".repeat(20_000));
    let wheres = format!("DELETE FROM w.mail WHERE {}", vec!["id = 77"; 20_000].join(" OR "));
    let nested_as = "EXECUTE AS USER 'alice' (".repeat(1_000);
    let cases: Vec<Case<'_>> = vec![
        (sql(&"SELECT 1;".repeat(11)), 400, "INVALID_SQL", "42000", "11 statements in one request; 10 are allowed"),
        (sql(&brackets(10_000)), 400, "INVALID_SQL", "42601", ""),
        (sql(&queries(1_000)), 400, "INVALID_SQL", "42601", ""),
        (sql(&unions), 400, "INVALID_SQL", "42601", ""),
        (sql(&chain), 400, "INVALID_SQL", "42601", ""),
        (sql(&nots), 400, "INVALID_SQL", "42601", ""),
        (sql(&wheres), 400, "INVALID_SQL", "42601", ""),
        (sql(&nested_as), 400, "INVALID_SQL", "42601", ""),
        (sql(&format!("SELECT {}", "CASE WHEN TRUE THEN ".repeat(5_000))), 400, "INVALID_SQL", "42601", ""),
        (sql(&format!("SELECT {}1", "-".repeat(20_000).replace('-', "- "))), 400, "INVALID_SQL", "42601", ""),
        (sql(&format!("SELECT {}", "[".repeat(5_000))), 400, "INVALID_SQL", "42601", ""),
    ];
    refuse_all(&mut world, |w| &w.alice, &cases);
    // What a person writes is not too deep.
    assert!(world.alice.try_sql(&sql(&brackets(30))).is_ok());
    assert!(world.alice.try_sql(&sql(&queries(10))).is_ok());
    assert!(world.alice.try_sql(&sql(&"SELECT 1;".repeat(10))).is_ok());
}

#[test]
fn roles() {
    let mut world = World::new(&[]);
    let denied =
        |text: &str| -> Case<'static> { (sql(text), 403, "PERMISSION_DENIED", "42501", "Permission denied: ") };
    let user: Vec<Case<'_>> = [
        "CREATE NAMESPACE mine",
        "DROP NAMESPACE w",
        "ALTER NAMESPACE w SET OPTIONS (a = 1)",
        "CREATE SHARED TABLE w.mine (id BIGINT PRIMARY KEY)",
        "DROP TABLE w.mail",
        "INSERT INTO w.pub VALUES (2, 'x')",
        "DELETE FROM w.pub WHERE id = 1",
        "SELECT * FROM w.priv",
        "INSERT INTO w.priv VALUES (2, 'x')",
        "CREATE USER eve WITH PASSWORD 'a good long password' ROLE user",
        "ALTER USER bob SET ROLE user",
        "DROP USER bob",
        "SELECT * FROM system.users",
        "SELECT * FROM system.live",
        "EXPLAIN SELECT * FROM system.users",
        "EXPLAIN ANALYZE SELECT * FROM w.priv",
        "SELECT * FROM system.jobs",
        "ALTER USER bob RESTORE",
        "KILL LIVE QUERY 'x'",
        "KILL JOB 'x'",
        "EXECUTE AS USER 'bob' (SELECT 1)",
        "EXECUTE AS USER 'bob' (DELETE FROM w.mail WHERE id = 1)",
        "EXECUTE AS USER '*' (SELECT * FROM w.mail)",
    ]
    .map(denied)
    .into();
    refuse_all(&mut world, |w| &w.alice, &user);
    let service: Vec<Case<'_>> = [
        "CREATE NAMESPACE mine",
        "DROP TABLE w.priv",
        "DROP USER bob",
        "SELECT * FROM system.users",
        "EXECUTE AS USER 'admin' (SELECT 1)",
        "EXECUTE AS USER 'alice' (SELECT * FROM w.priv)",
        "EXECUTE AS USER 'alice' (DROP TABLE w.mail)",
    ]
    .map(denied)
    .into();
    refuse_all(&mut world, |w| &w.service, &service);
    let anonymous: Vec<Case<'_>> = [
        "SELECT * FROM w.mail",
        "INSERT INTO w.mail VALUES (1, 'x', 1)",
        "CREATE USER TABLE w.t (id BIGINT PRIMARY KEY)",
    ]
    .map(denied)
    .into();
    refuse_all(&mut world, |w| &w.anonymous, &anonymous);
    let dba: Vec<Case<'_>> = [
        "CREATE USER eve WITH PASSWORD 'a good long password' ROLE system",
        "ALTER USER root SET ROLE user",
        "DROP USER root",
        "EXECUTE AS USER 'root' (SELECT 1)",
    ]
    .map(denied)
    .into();
    refuse_all(&mut world, |w| &w.admin, &dba);
}

#[test]
fn too_many_queries_a_second() {
    let mut world = World::new(&["auth.query_rate_per_user=20"]);
    let mut limited = None;
    for _ in 0..500 {
        if let Err(failure) = world.alice.try_sql(&sql("SELECT 1")) {
            limited = Some(failure);
            break;
        }
    }
    let failure = limited.expect("500 queries at once are more than 20 a second");
    assert_eq!((failure.status, failure.code.as_str()), (429, "RATE_LIMIT_EXCEEDED"), "{failure}");
    assert!(world.bob.try_sql(&sql("SELECT 1")).is_ok(), "others are not concerned");
}

#[test]
fn a_query_without_end_is_stopped() {
    let mut world = World::new(&["limits.statement_timeout=2s"]);
    let endless =
        "SELECT COUNT(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, generate_series(1, 100000) c";
    let failure = world.alice.refused(endless);
    assert_eq!((failure.status, failure.code.as_str()), (400, "STATEMENT_TIMEOUT"), "{failure}");
    assert_eq!(world.alice.rows("SELECT 1"), json!([["1"]]));
}

#[test]
fn memory_is_bounded() {
    let mut world = World::new(&["datafusion.memory_limit=8MiB"]);
    let failure = world.alice.refused("SELECT a, COUNT(*) FROM (SELECT value || 'abcdefghijklmnopqrstuvwxyz' AS a FROM generate_series(1, 1000000)) GROUP BY a ORDER BY a");
    assert!(["OUT_OF_MEMORY", "RESULT_TOO_LARGE"].contains(&failure.code.as_str()), "{failure}");
    assert_eq!(world.alice.rows("SELECT COUNT(*) FROM w.mail"), json!([["2"]]));
}
