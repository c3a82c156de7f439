//! What a successful request answers: schemas, cells, counts, several statements.

use serde_json::{Value, json};

use super::World;
use crate::server::Server;

#[test]
fn a_select_has_its_schema_rows_and_count() {
    let mut world = World::new(&[]);
    let response =
        world.alice.post("/v1/api/sql", &json!({"sql": "SELECT id, body AS text, n + 1 FROM w.mail ORDER BY id"}));
    assert_eq!(response.status, 200);
    assert!(response.header("content-type").unwrap().starts_with("application/json"));
    let mut body = response.json();
    assert!(body["took"].is_number());
    body.as_object_mut().unwrap().remove("took");
    let name = body["results"][0]["schema"][2]["name"].take();
    assert!(name.as_str().unwrap().contains("n"), "a computed column is named after its expression: {name}");
    assert_eq!(
        body,
        json!({"status": "success", "error": null, "results": [{
            "schema": [
                {"name": "id", "data_type": "BigInt", "index": 0, "flags": ["pk", "nn", "uq"]},
                {"name": "text", "data_type": "Text", "index": 1, "flags": ["nn"]},
                {"name": null, "data_type": "BigInt", "index": 2},
            ],
            "rows": [["1", "hello", "2"], ["2", "again", "3"]],
            "row_count": 2,
            "as_user": "alice",
        }]})
    );
    // Nothing found: the schema is there all the same.
    let empty = &world.alice.sql("SELECT id FROM w.mail WHERE id > 100")[0];
    assert_eq!(
        (&empty["rows"], &empty["row_count"], empty["schema"].as_array().unwrap().len()),
        (&json!([]), &json!(0), 1)
    );
    // * shows the system columns.
    let all = &world.alice.sql("SELECT * FROM w.mail WHERE id = 1")[0];
    let names: Vec<&str> = all["schema"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["id", "body", "n", "_seq", "_deleted"]);
    let seq = all["rows"][0][3].as_str().expect("_seq is a string");
    assert!(seq.parse::<i64>().unwrap() > 1 << 22);
}

#[test]
fn what_is_done_is_counted_and_said() {
    let mut world = World::new(&[]);
    let cases = [
        ("INSERT INTO w.mail VALUES (10, 'a', 1), (11, 'b', 2)", 2, "Inserted 2 row(s)"),
        ("UPDATE w.mail SET n = 5 WHERE id >= 10", 2, "Updated 2 row(s)"),
        ("DELETE FROM w.mail WHERE id = 10", 1, "Deleted 1 row(s)"),
        ("DELETE FROM w.mail WHERE id = 10", 0, "Deleted 0 row(s)"),
    ];
    for (sql, count, message) in cases {
        assert_eq!(
            world.alice.sql(sql),
            [json!({"row_count": count, "message": message, "as_user": "alice"})],
            "{sql}"
        );
    }
    let ddl = world.admin.sql("CREATE NAMESPACE more");
    assert_eq!(ddl, [json!({"row_count": 0, "message": "Namespace 'more' created successfully", "as_user": "admin"})]);
}

#[test]
fn cells_of_every_type() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c");
    admin.sql(
        "CREATE SHARED TABLE c.t (id BIGINT PRIMARY KEY, b BOOLEAN, s SMALLINT, i INT, f FLOAT, d DOUBLE, t TEXT, raw BYTES, \
         day DATE, clock TIME, at TIMESTAMP, utc DATETIME, u UUID, p DECIMAL(10,2), j JSON, e EMBEDDING(2), x FILE)",
    );
    let params = json!([
        9_223_372_036_854_775_807_i64,
        true,
        -7,
        2_000_000_000,
        1.5,
        -0.1,
        "ünïcödé \"\\\n\u{1}",
        "AP8=",
        "2024-02-29",
        "01:02:03.000004",
        "2024-01-01T00:00:00.000001Z",
        "2024-01-01 00:00:00",
        "018f0c4e-7f5a-7000-8000-0123456789ab",
        "12.30",
        "{\"a\": 1}",
        "[0.5, -1]",
        null
    ]);
    let placeholders: Vec<String> = (1..=17).map(|n| format!("${n}")).collect();
    admin.sql_with(&format!("INSERT INTO c.t VALUES ({})", placeholders.join(", ")), params);
    let expected = json!([
        "9223372036854775807",
        true,
        -7,
        2_000_000_000,
        1.5,
        -0.1,
        "ünïcödé \"\\\n\u{1}",
        "AP8=",
        19_782,
        3_723_000_004_i64,
        1_704_067_200_000_001_i64,
        1_704_067_200_000_000_i64,
        "018f0c4e-7f5a-7000-8000-0123456789ab",
        "12.30",
        "{\"a\": 1}",
        [0.5, -1.0],
        null
    ]);
    let columns = "id, b, s, i, f, d, t, raw, day, clock, at, utc, u, p, j, e, x";
    let direct = admin.sql(&format!("SELECT {columns} FROM c.t WHERE id = 9223372036854775807")).swap_remove(0);
    assert_eq!(direct["rows"], json!([expected]));
    let types: Vec<&Value> = direct["schema"].as_array().unwrap().iter().map(|column| &column["data_type"]).collect();
    let names = json!([
        "BigInt", "Boolean", "SmallInt", "Int", "Float", "Double", "Text", "Bytes", "Date", "Time", "Timestamp", "DateTime",
        "Uuid", {"Decimal": {"precision": 10, "scale": 2}}, "Json", {"Embedding": 2}, "File"
    ]);
    assert_eq!(json!(types), names);
    let engine = admin.sql(&format!("SELECT {columns} FROM c.t WHERE id + 0 > 1")).swap_remove(0);
    assert_eq!(engine, direct, "the engine and the direct read answer alike");
}

#[test]
fn computed_cells() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    let cases = [
        ("SELECT COUNT(*) FROM system.users", json!("2")),
        ("SELECT SUM(x) FROM (VALUES (9007199254740993), (1)) AS t(x)", json!("9007199254740994")),
        ("SELECT CAST(1 AS SMALLINT)", json!(1)),
        ("SELECT CAST(1 AS DECIMAL(10,3))", json!("1.000")),
        ("SELECT 1.5e0", json!(1.5)),
        ("SELECT NULL", Value::Null),
        ("SELECT true AND false", json!(false)),
        ("SELECT DATE '1970-01-11'", json!(10)),
        ("SELECT TIMESTAMP '1970-01-01 00:00:01'", json!(1_000_000)),
        ("SELECT TIME '00:00:01'", json!(1_000_000)),
    ];
    for (sql, cell) in cases {
        assert_eq!(admin.rows(sql), json!([[cell]]), "{sql}");
    }
    let failure = admin.refused("SELECT CAST('NaN' AS DOUBLE)");
    assert_eq!(failure.code, "SQL_EXECUTION_ERROR", "JSON has no such number: {failure}");
}

#[test]
fn parameters_of_every_kind_in_every_statement() {
    let mut world = World::new(&[]);
    let alice = &mut world.alice;
    let done = |result: &Value| result["row_count"].as_u64().unwrap();
    assert_eq!(done(&alice.sql_with("INSERT INTO w.mail (id, body, n) VALUES ($1, $2, $3)", json!([7, "p", null]))), 1);
    assert_eq!(done(&alice.sql_with("UPDATE w.mail SET n = $2 WHERE id = $1", json!([7, 70]))), 1);
    assert_eq!(done(&alice.sql_with("UPDATE w.mail SET n = n + $1 WHERE body = $2", json!([5, "p"]))), 1);
    let select = alice.sql_with("SELECT n, $2 FROM w.mail WHERE id = $1 OR body LIKE $3", json!([7, true, "none%"]));
    assert_eq!(select["rows"], json!([[75, true]]));
    let select = alice.sql_with("SELECT id FROM w.mail WHERE id IN ($1, $2) ORDER BY id LIMIT $3", json!([7, "1", 1]));
    assert_eq!(select["rows"], json!([["1"]]), "a text is read as the type that it is compared with");
    assert_eq!(done(&alice.sql_with("DELETE FROM w.mail WHERE id = $1", json!([7]))), 1);
    // One parameter, used twice; text that looks like SQL stays text.
    let select = alice.sql_with("SELECT $1 = $1, $2", json!([1, "'; DROP TABLE w.mail; --"]));
    assert_eq!(select["rows"], json!([[true, "'; DROP TABLE w.mail; --"]]));
    assert_eq!(alice.rows("SELECT COUNT(*) FROM w.mail"), json!([["2"]]));
}

#[test]
fn the_namespace_of_a_request() {
    let mut world = World::new(&[]);
    let sql = |sql: &str| json!({"sql": sql, "namespace_id": "w"});
    let rows = world.alice.try_sql(&sql("SELECT COUNT(*) FROM mail")).unwrap();
    assert_eq!(rows[0]["rows"], json!([["2"]]));
    world.alice.try_sql(&sql("INSERT INTO mail VALUES (3, 'x', 3)")).unwrap();
    world.admin.try_sql(&sql("CREATE TABLE plain (id BIGINT PRIMARY KEY)")).unwrap();
    assert_eq!(world.admin.rows("SELECT COUNT(*) FROM w.plain"), json!([["0"]]), "DDL, too (A3)");
    world.admin.try_sql(&sql("DROP TABLE plain")).unwrap();
    assert_eq!(world.alice.refused("SELECT * FROM mail").code, "TABLE_NOT_FOUND");
    let elsewhere = json!({"sql": "SELECT * FROM mail", "namespace_id": "nowhere"});
    let failure = world.alice.try_sql(&elsewhere).unwrap_err();
    assert!(failure.message.contains("nowhere"), "{failure}");
}

#[test]
fn several_statements_have_several_results() {
    let mut world = World::new(&[]);
    let results = world.alice.sql("INSERT INTO w.mail VALUES (5, 'e', 5); SELECT COUNT(*) FROM w.mail; DELETE FROM w.mail WHERE id = 5; SELECT COUNT(*) FROM w.mail");
    assert_eq!(results.len(), 4);
    assert_eq!(results[0], json!({"row_count": 1, "message": "Inserted 1 row(s)", "as_user": "alice"}));
    assert_eq!((&results[1]["rows"], &results[3]["rows"]), (&json!([["3"]]), &json!([["2"]])));
    let as_user = world.service.sql("EXECUTE AS USER 'alice' (SELECT COUNT(*) FROM w.mail); SELECT 1");
    assert_eq!((&as_user[0]["as_user"], &as_user[1]["as_user"]), (&json!("alice"), &json!("worker")));
}

#[test]
fn all_rows_come_however_many() {
    let mut world = World::new(&[]);
    for thousand in 0..5 {
        let rows: Vec<String> =
            (0..1_000).map(|n| format!("({}, '{}', {n})", 1_000 * thousand + n + 100, "x".repeat(50))).collect();
        world.bob.sql(&format!("INSERT INTO w.mail VALUES {}", rows.join(",")));
    }
    let result = world.bob.sql("SELECT id FROM w.mail").swap_remove(0);
    let rows = result["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &result["row_count"]), (5_000, &json!(5_000)));
    assert!(
        rows.iter().enumerate().all(|(at, row)| row[0] == json!((at + 100).to_string())),
        "in the order of writing"
    );
}

#[test]
fn a_result_beyond_the_limit_is_an_error_not_a_part() {
    let mut world = World::new(&["limits.max_result_bytes=64KiB"]);
    let rows: Vec<String> = (0..500).map(|n| format!("({n}, '{}', 0)", "x".repeat(1_000))).collect();
    world.bob.sql(&format!("INSERT INTO w.mail VALUES {}", rows.join(",")));
    let response = world.bob.post("/v1/api/sql", &json!({"sql": "SELECT * FROM w.mail"}));
    let body = response.json();
    assert_eq!(
        (&body["status"], &body["error"]["code"]),
        (&json!("error"), &json!("RESULT_TOO_LARGE")),
        "{}",
        response.status
    );
    assert!(body["error"]["message"].as_str().unwrap().contains("LIMIT"));
    assert_eq!(world.bob.rows("SELECT COUNT(*) FROM w.mail WHERE n = 0"), json!([["500"]]));
}

#[test]
fn subscribe_to_says_where_to_go() {
    let mut world = World::new(&[]);
    let result = world.alice.sql("SUBSCRIBE TO w.mail WHERE n > 1 OPTIONS (last_rows = 5)").swap_remove(0);
    let names: Vec<&str> = result["schema"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["status", "ws_url", "subscription", "message"]);
    let row = &result["rows"][0];
    assert_eq!((&row[0], &row[1]), (&json!("active"), &json!(format!("ws://{}/v1/ws", world.server.address))));
    let subscription: Value = serde_json::from_str(row[2].as_str().unwrap()).unwrap();
    assert_eq!(subscription["sql"], "SELECT * FROM w.mail WHERE n > 1");
    assert_eq!(subscription["options"]["last_rows"], 5);
}

#[test]
fn durability_per_request() {
    let mut world = World::new(&[]);
    for (id, durability) in [(50, "buffered"), (51, "sync")] {
        let body = json!({"sql": format!("INSERT INTO w.mail VALUES ({id}, 'd', 0)"), "durability": durability});
        assert_eq!(world.alice.try_sql(&body).unwrap()[0]["row_count"], 1);
    }
    assert_eq!(world.alice.rows("SELECT COUNT(*) FROM w.mail WHERE body = 'd'"), json!([["2"]]));
}
