//! Queries through a real store.

use arrow::array::Array;

use super::world::{NOW_US, World, parse, text};
use super::*;
use crate::model::{Role, Value};

impl World {
    /// Alice's rows as JSON.
    async fn rows(&self, sql: &str) -> String {
        self.run(self.ctx("alice", Role::User), sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn error(&self, sql: &str) -> Error {
        self.run(self.ctx("alice", Role::User), sql).await.expect_err(sql)
    }

    async fn with_params(&self, sql: &str, params: &[Param]) -> Result<String> {
        self.run(QueryContext { params: params.into(), ..self.ctx("alice", Role::User) }, sql).await
    }
}

fn three_notes() -> World {
    let mut world = World::new();
    world.put("notes", "alice", &[Value::Int(3), text("three"), Value::Int(30)]);
    world.put("notes", "alice", &[Value::Int(1), text("one"), Value::Int(10)]);
    world.put("notes", "bob", &[Value::Int(2), text("bob's"), Value::Int(20)]);
    world.put("notes", "alice", &[Value::Int(2), text("two"), Value::Null]);
    world
}

#[tokio::test]
async fn a_user_sees_their_own_live_rows_in_seq_order() {
    let mut world = three_notes();
    assert_eq!(world.rows("SELECT id, body FROM notes").await, r#"["3","three"] ["1","one"] ["2","two"]"#);
    let updated = world.put("notes", "alice", &[Value::Int(3), text("drei")]);
    let deleted = world.delete("notes", "alice", Value::Int(1));
    assert_eq!(world.rows("SELECT id, body FROM demo.notes").await, r#"["2","two"] ["3","drei"]"#);
    assert_eq!(world.rows("SELECT count(*) FROM notes").await, r#"["2"]"#);
    assert_eq!(
        world.rows("SELECT body, _seq, _deleted FROM notes WHERE id = 3").await,
        format!(r#"["drei","{updated}",false]"#)
    );
    assert_eq!(world.rows("SELECT id FROM notes WHERE id = 1").await, "");
    assert_eq!(
        world.rows("SELECT body, _seq FROM notes WHERE _deleted AND id = 1").await,
        format!(r#"["one","{deleted}"]"#)
    );
    assert_eq!(world.rows("SELECT id FROM notes AS n WHERE n._deleted IN (true, false)").await, r#"["2"] ["3"] ["1"]"#);
}

/// Alice has two notes and one tombstone, of id 1.
#[tokio::test]
async fn a_table_shows_its_tombstones_where_a_filter_mentions_deleted() {
    let mut world = three_notes();
    world.delete("notes", "alice", Value::Int(1));
    let counts = [
        ("SELECT count(*) FROM notes", 2),
        ("SELECT count(*) FROM notes WHERE _deleted", 1),
        ("SELECT count(*) FROM notes WHERE NOT _deleted", 2),
        // What is simplified away was written all the same.
        ("SELECT count(*) FROM notes WHERE _deleted OR NOT _deleted", 3),
        ("SELECT count(*) FROM notes WHERE _deleted OR true", 3),
        ("SELECT count(*) FROM notes WHERE _deleted = _deleted AND id = 1", 1),
        ("SELECT count(*) FROM notes WHERE true OR id IN (SELECT 1 WHERE _deleted)", 3),
        ("SELECT count(*) FROM notes WHERE CASE WHEN _deleted THEN id = 1 ELSE id > 1 END", 3),
        // Only in a filter.
        ("SELECT count(*) FROM (SELECT id, _deleted FROM notes ORDER BY _deleted)", 2),
        ("SELECT count(*) FILTER (WHERE _deleted) FROM notes", 0),
        ("SELECT count(*) FROM notes WHERE id > (SELECT count(_deleted) FROM notes) - 1", 2),
        // Grouped, or computed.
        ("SELECT count(*) FROM notes GROUP BY _deleted HAVING _deleted", 1),
        ("SELECT count(*) FROM notes HAVING bool_or(_deleted)", 3),
        ("SELECT count(*) FROM notes GROUP BY ROLLUP (_deleted) HAVING _deleted IS NULL", 3),
        ("SELECT count(*) FROM (SELECT NOT _deleted AS lives FROM notes) WHERE lives IS NOT NULL", 3),
        ("SELECT id FROM notes QUALIFY row_number() OVER (ORDER BY _deleted DESC) = 1", 1),
        // Each table by itself.
        ("SELECT count(*) FROM notes WHERE id IN (SELECT id FROM notes WHERE _deleted)", 0),
        ("SELECT count(*) FROM notes WHERE _deleted AND id NOT IN (SELECT id FROM notes)", 1),
        ("SELECT count(*) FROM notes a JOIN notes b ON a.id = b.id WHERE a._deleted OR true", 2),
        ("SELECT count(*) FROM notes a JOIN notes b ON a.id = b.id AND (a._deleted OR b._deleted)", 1),
        ("SELECT count(*) FROM notes a LEFT JOIN notes b ON a.id = b.id AND a._deleted", 3),
        ("SELECT count(*) FROM notes a JOIN notes b USING (id, _deleted)", 2),
        ("SELECT count(*) FROM (SELECT id, _deleted FROM notes) a NATURAL JOIN (SELECT id, _deleted FROM notes) b", 2),
        ("SELECT count(*) FROM notes a WHERE EXISTS (SELECT 1 FROM notes b WHERE b.id <> a.id AND a._deleted)", 1),
        ("SELECT count(*) FROM notes a, LATERAL (SELECT 1 FROM notes b WHERE b.id > a.id AND a._deleted) AS x", 2),
        // Through names.
        ("SELECT count(*) FROM (SELECT * FROM notes) AS x WHERE x._deleted", 1),
        ("SELECT count(*) FROM (SELECT id, _deleted AS gone FROM notes) WHERE gone OR NOT gone", 3),
        ("WITH x AS (SELECT * FROM notes) SELECT count(*) FROM x WHERE _deleted OR true", 3),
        ("WITH x AS (SELECT * FROM notes) SELECT count(*) FROM x AS a, x AS b WHERE a._deleted OR true", 9),
        ("SELECT count(*) FROM (SELECT * FROM notes UNION ALL SELECT * FROM notes) WHERE _deleted", 2),
        ("SELECT count(*) FROM (SELECT DISTINCT id, _deleted FROM notes) WHERE _deleted OR true", 3),
        ("SELECT count(*) FROM (SELECT DISTINCT ON (id) id, _deleted FROM notes ORDER BY id) WHERE _deleted", 1),
        ("SELECT count(*) FROM (SELECT unnest([1, 2]) AS n, _deleted FROM notes) WHERE n = 1", 2),
        ("SELECT count(*) FROM (SELECT unnest([1, 2]) AS n, _deleted FROM notes) WHERE n = 1 AND _deleted", 1),
        (
            "WITH RECURSIVE r AS (SELECT id, _deleted FROM notes UNION SELECT id, _deleted FROM r) \
          SELECT count(*) FROM r WHERE _deleted",
            1,
        ),
    ];
    for (sql, expected) in counts {
        assert_eq!(world.rows(sql).await, format!("[\"{expected}\"]"), "{sql}");
    }
}

#[tokio::test]
async fn what_sql_can_say() {
    let world = three_notes();
    let cases = [
        ("SELECT id FROM notes ORDER BY id LIMIT 2", r#"["1"] ["2"]"#),
        ("SELECT id FROM notes LIMIT 1 OFFSET 1", r#"["1"]"#),
        ("SELECT id FROM notes ORDER BY _seq DESC LIMIT 2", r#"["2"] ["1"]"#),
        ("SELECT id, _seq > 0 FROM notes ORDER BY _seq DESC, id LIMIT 1", r#"["2",true]"#),
        ("SELECT sum(n) AS s, avg(n) FROM notes", r#"["40",20.0]"#),
        ("SELECT a.id, b.id FROM notes a JOIN notes b ON a.id + 1 = b.id ORDER BY 1", r#"["1","2"] ["2","3"]"#),
        ("WITH big AS (SELECT * FROM notes WHERE n >= 10) SELECT body FROM big ORDER BY n", r#"["one"] ["three"]"#),
        ("SELECT body FROM notes WHERE id = (SELECT max(id) FROM notes)", r#"["three"]"#),
        ("SELECT id, row_number() OVER (ORDER BY id DESC) FROM notes", r#"["3","1"] ["2","2"] ["1","3"]"#),
        ("SELECT id FROM notes WHERE n IS NULL UNION ALL SELECT 9 ORDER BY id", r#"["2"] ["9"]"#),
        (
            "WITH RECURSIVE t AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM t WHERE i < 3) SELECT i FROM t",
            r#"["1"] ["2"] ["3"]"#,
        ),
        ("SELECT value FROM generate_series(1, 2)", r#"["1"] ["2"]"#),
        ("SELECT 1 WHERE false", ""),
    ];
    for (sql, expected) in cases {
        assert_eq!(world.rows(sql).await, expected, "{sql}");
    }
}

/// Names of the result's columns, and its first row.
#[tokio::test]
async fn columns_may_have_one_name() {
    let world = three_notes();
    let cases = [
        ("SELECT id, n, id FROM notes", "id n id", r#"["3",30,"3"]"#),
        ("SELECT body AS x, n AS X, id AS \"X\" FROM notes", "x x X", r#"["three",30,"3"]"#),
        ("SELECT name, * FROM rooms", "name name doc _seq _deleted", ""),
        ("SELECT *, * FROM rooms", "name doc _seq _deleted name doc _seq _deleted", ""),
        ("SELECT r.*, r.name, v.name FROM rooms r JOIN rooms v USING (name)", "name doc _seq _deleted name name", ""),
        (
            "SELECT name, * FROM rooms r JOIN rooms v USING (name, _seq, _deleted)",
            "name name doc _seq _deleted doc",
            "",
        ),
        ("SELECT count(*), COUNT(*), 1, 1 FROM notes", "count(*) count(*) Int64(1) Int64(1)", r#"["3","3","1","1"]"#),
        ("SELECT 1 AS a, 2 AS a UNION ALL SELECT 3, 3 ORDER BY 2", "a a", r#"["1","2"]"#),
        ("(SELECT 1 AS a, 2 AS a) UNION ALL (SELECT 3, 3 LIMIT 0)", "a a", r#"["1","2"]"#),
        ("WITH x AS (SELECT id AS k FROM notes) SELECT k, * FROM x ORDER BY k", "k k", r#"["1","1"]"#),
        ("SELECT k, * FROM (SELECT id AS k FROM notes) AS x ORDER BY x.k DESC", "k k", r#"["3","3"]"#),
        ("SELECT id, body, id FROM notes ORDER BY notes.id", "id body id", r#"["1","one","1"]"#),
        ("SELECT n AS x, n AS x FROM notes ORDER BY x", "x x", "[10,10]"),
        ("SELECT DISTINCT id, id FROM notes ORDER BY id", "id id", r#"["1","1"]"#),
        ("SELECT n, n, sum(id) FROM notes GROUP BY n HAVING n > 10", "n n sum(notes.id)", r#"[30,30,"3"]"#),
    ];
    for (sql, names, first) in cases {
        let query = world.engine.query(world.ctx("alice", Role::User), &parse(sql)).await;
        let schema = query.unwrap_or_else(|error| panic!("{sql}: {error}")).schema;
        let shown: Vec<&str> = schema.columns().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(shown.join(" "), names, "{sql}");
        assert!(world.rows(sql).await.starts_with(first), "{sql}: {}", world.rows(sql).await);
    }
    let schema =
        world.engine.query(world.ctx("alice", Role::User), &parse("SELECT id, id FROM notes")).await.unwrap().schema;
    assert!(schema.columns().iter().all(|column| column.flags.pk), "types and flags stay");
    let plan = world.run(world.ctx("alice", Role::Dba), "EXPLAIN SELECT id, * FROM notes").await.unwrap();
    assert!(plan.contains("PartitionScan"), "{plan}");

    for (sql, words) in [
        ("SELECT n AS x, body AS x FROM notes ORDER BY x", "ORDER BY \"x\" is ambiguous"),
        ("SELECT a.id, b.id FROM notes a JOIN notes b ON true ORDER BY id", "ORDER BY \"id\" is ambiguous"),
        ("SELECT upper(body) AS body, * FROM notes ORDER BY body", "ORDER BY \"body\" is ambiguous"),
        // Names that can be referred to.
        ("SELECT * FROM (SELECT id, id FROM notes)", "unique"),
        ("WITH x AS (SELECT id, id FROM notes) SELECT 1 FROM x", "unique"),
        ("SELECT id, id, lower(id, id) FROM notes", "lower"),
    ] {
        let error = world.error(sql).await;
        assert!(matches!(&error, Error::InvalidSql(text) if text.contains(words)), "{sql}: {error}");
    }
}

#[tokio::test]
async fn the_store_does_what_it_can() {
    let world = three_notes();
    let dba = || world.ctx("alice", Role::Dba);
    let cases = [
        ("SELECT id FROM notes WHERE id = 1", "by key"),
        ("SELECT id FROM notes WHERE _seq > 5 AND _seq <= 9 LIMIT 3", "_seq=6..=9, Ascending, limit=3"),
        ("SELECT id FROM notes ORDER BY _seq DESC LIMIT 2", "Descending, limit=2"),
        ("SELECT id, _seq FROM notes WHERE body LIKE 'x%' ORDER BY _seq DESC LIMIT 2", "Descending"),
        ("SELECT id FROM notes WHERE _deleted", "with tombstones"),
    ];
    for (sql, expected) in cases {
        let plan = world.run(dba(), &format!("EXPLAIN {sql}")).await.unwrap();
        assert!(plan.contains(expected), "{sql}: {plan}");
        assert!(!plan.contains("SortExec"), "{sql}: {plan}");
    }
    let plan = world.run(dba(), "EXPLAIN SELECT id FROM notes ORDER BY _seq").await.unwrap();
    assert!(!plan.contains("SortExec"), "{plan}");
}

#[tokio::test]
async fn a_result_keeps_its_columns_types_and_flags() {
    let world = three_notes();
    let schema = |sql: &'static str| {
        let query = world.engine.query(world.ctx("alice", Role::User), Box::leak(Box::new(parse(sql))));
        async move { serde_json::to_string(&query.await.unwrap().schema).unwrap() }
    };
    assert_eq!(
        schema("SELECT id AS key, n + 1 AS next, count(*) OVER () FROM notes WHERE false").await,
        concat!(
            r#"[{"name":"key","data_type":"BigInt","index":0,"flags":["pk","nn","uq"]},"#,
            r#"{"name":"next","data_type":"BigInt","index":1},"#,
            r#"{"name":"count(*) ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING","data_type":"BigInt","index":2}]"#,
        )
    );
    let joined = schema("SELECT r.doc, v.id FROM rooms r LEFT JOIN notes v ON r.name = v.body").await;
    assert_eq!(
        joined, r#"[{"name":"doc","data_type":"Json","index":0},{"name":"id","data_type":"BigInt","index":1}]"#,
        "a join repeats rows and pads with NULLs: types stay, flags go"
    );
    assert!(
        schema("SELECT * FROM (SELECT * FROM notes) x")
            .await
            .contains(r#""_seq","data_type":"BigInt","index":9,"flags":["nn"]"#)
    );
}

#[tokio::test]
async fn parameters_are_literals() {
    let world = three_notes();
    let cases: &[(&str, &[Param], &str)] = &[
        ("SELECT id FROM notes WHERE id = $1", &[Param::Int(3)], r#"["3"]"#),
        (
            "SELECT id FROM notes WHERE body = $1 OR n = $2",
            &[Param::Text("two".into()), Param::Int(10)],
            r#"["1"] ["2"]"#,
        ),
        ("SELECT $1, $2, $3, $1 AS b", &[Param::Int(-5), Param::Float(2.0), Param::Null], r#"["-5",2.0,null,"-5"]"#),
        ("SELECT id FROM notes LIMIT $1", &[Param::Int(1)], r#"["3"]"#),
        ("SELECT $1", &[Param::Text("'; DROP TABLE notes; --".into())], r#"["'; DROP TABLE notes; --"]"#),
        ("SELECT id FROM notes WHERE $1", &[Param::Bool(false)], ""),
        ("SELECT id FROM notes WHERE id = $1", &[Param::Text("3".into())], r#"["3"]"#),
        ("SELECT id FROM notes WHERE id > $1", &[Param::Text("2".into())], r#"["3"]"#),
        ("SELECT id FROM notes WHERE n < $1", &[Param::Text("9".into())], ""),
        ("SELECT count(*) FROM notes WHERE _seq > $1", &[Param::Text("1".into())], r#"["3"]"#),
        (
            "SELECT count(*) FROM notes WHERE at IS NULL OR at > $1",
            &[Param::Text("2026-01-01T00:00:00Z".into())],
            r#"["3"]"#,
        ),
    ];
    for (sql, params, expected) in cases {
        assert_eq!(world.with_params(sql, params).await.unwrap(), *expected, "{sql} {params:?}");
    }
    for (sql, params) in
        [("SELECT $2", &[Param::Int(1)][..]), ("SELECT $1", &[]), ("SELECT $1", &[Param::Float(f64::NAN)])]
    {
        let error = world.with_params(sql, params).await.unwrap_err();
        assert!(matches!(error, Error::InvalidParameter { .. }), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_literal_is_read_as_what_it_is_compared_with() {
    let mut world = World::new();
    let day_us = 86_400_000_000;
    let room = *uuid::Uuid::parse_str("0190a3c4-7b1e-7cc3-98c4-dc0c0c07398f").unwrap().as_bytes();
    world.put(
        "notes",
        "alice",
        &[
            Value::Int(3),
            text("3"),
            Value::Int(10),
            Value::Float(0.5),
            Value::Decimal(150),
            Value::Int(day_us),
            Value::Int(1),
            Value::Bool(true),
            Value::Uuid(room),
        ],
    );
    let true_of_it = [
        "id = '3' AND '3' = id AND id IN ('2', '3') AND id BETWEEN '2' AND '4' AND id IS NOT DISTINCT FROM 3",
        "n > '9' AND n <= '10'",
        "body = '3' AND body < '31'",
        "score = '0.5' AND price = '1.5' AND price IN ('1.50')",
        "at = '1970-01-02' AND at = '1970-01-02T01:00:00+01:00' AND at = 86400000000 AND at <> 0",
        "at = TIMESTAMP '1970-01-02' AND at IN ('1970-01-02') AND at < '9999-12-31' AND NOT at > TIMESTAMP '9999-12-31'",
        "day = '1970-01-02' AND day = 1 AND day BETWEEN '1970-01-01' AND '1970-01-03'",
        "flag = 'true' AND flag <> 'f'",
        "room = '0190a3c4-7b1e-7cc3-98c4-dc0c0c07398f' AND room IN ('0190A3C4-7B1E-7CC3-98C4-DC0C0C07398F')",
        "room > '0190a3c4-7b1e-7cc3-98c4-000000000000'",
        "length(body) = '1'",
        "CAST(at AS DATETIME) = at",
    ];
    for predicate in true_of_it {
        assert_eq!(world.rows(&format!("SELECT id FROM notes WHERE {predicate}")).await, r#"["3"]"#, "{predicate}");
    }
    assert_eq!(
        world.rows("SELECT at = 5, '4' < id, TIMESTAMP '1970-01-01 00:00:01' AS t FROM notes").await,
        "[false,false,1000000]"
    );
    for wrong in ["id = 'three'", "room = 'lobby'", "n IN ('1', 'x')", "at > 'soon'", "n = '99999999999'"] {
        let error = world.error(&format!("SELECT id FROM notes WHERE {wrong}")).await;
        assert!(matches!(error, Error::InvalidSql(_)), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn the_statement_decides_some_functions() {
    let world = three_notes();
    let caller = r#"["alice","alice","user","alice","user"]"#;
    let sql = "SELECT CURRENT_USER, CURRENT_USER() AS u, current_role, CURRENT_USER_ID(), CURRENT_ROLE() AS r";
    assert_eq!(world.rows(sql).await, caller);
    assert_eq!(world.rows("SELECT NOW(), CURRENT_TIMESTAMP").await, format!("[{NOW_US},{NOW_US}]"));
    assert_eq!(world.rows("SELECT NOW() - INTERVAL '1 second' < CURRENT_TIMESTAMP").await, "[true]");
    assert_eq!(
        world.rows("SELECT count(DISTINCT a), count(DISTINCT b), count(DISTINCT c) FROM (SELECT SNOWFLAKE_ID() a, UUID_V7() b, ULID() c FROM notes)").await,
        r#"["3","3","3"]"#
    );
    let lengths = "SELECT length(UUID_V7()), length(ULID()), SNOWFLAKE_ID() < SNOWFLAKE_ID() + 1";
    assert_eq!(world.rows(lengths).await, "[36,26,true]");
}

#[tokio::test]
async fn faults_have_their_own_codes() {
    let world = three_notes();
    use crate::error::ErrorCode as Code;
    let cases = [
        ("SELECT * FROM nowhere", Code::TableNotFound, "Table not found: demo.nowhere"),
        ("SELECT * FROM other.notes", Code::TableNotFound, "Table not found: other.notes"),
        ("SELECT * FROM x.demo.notes", Code::TableNotFound, "x.demo.notes"),
        ("SELECT bdy FROM notes", Code::ColumnNotFound, "'bdy' in notes. Did you mean 'body'?"),
        ("SELECT id FROM notes x WHERE x.zzzzzz = 1", Code::ColumnNotFound, "'zzzzzz' in x"),
        ("SELECT * FROM vault", Code::PermissionDenied, "demo.vault"),
        ("SELECT * FROM system.users", Code::PermissionDenied, "system tables"),
        ("SELECT id / (id - id) FROM notes", Code::Execution, "division by zero"),
        ("SELECT CAST(body AS INT) FROM notes", Code::Execution, "three"),
        ("SELECT id FROM notes a JOIN notes b ON true", Code::InvalidSql, "mbiguous"),
        ("SELECT nofunction(id) FROM notes", Code::InvalidSql, "nofunction"),
        ("SELECT id FROM notes GROUP BY body", Code::InvalidSql, "id"),
        ("SELECT * FROM read_csv('/etc/passwd')", Code::InvalidSql, "read_csv"),
        ("SELECT * FROM '/etc/passwd'", Code::TableNotFound, "passwd"),
        ("INSERT INTO notes (id) VALUES (1)", Code::Unsupported, "only SELECT"),
        ("WITH x AS (SELECT 1) INSERT INTO notes (id) SELECT 1", Code::Unsupported, "INSERT"),
        ("EXPLAIN DELETE FROM notes", Code::Unsupported, "not allowed"),
        ("CREATE TABLE x AS SELECT 1", Code::Unsupported, "only SELECT"),
        ("COPY (SELECT 1) TO '/tmp/x'", Code::Unsupported, "only SELECT"),
        ("SET x = 1", Code::Unsupported, "only SELECT"),
    ];
    for (sql, code, words) in cases {
        let error = world.error(sql).await;
        assert_eq!(error.code(), code, "{sql}: {error}");
        assert!(error.to_string().contains(words), "{sql}: {error}");
    }
}

#[tokio::test]
async fn shared_tables_are_one_partition_for_those_who_may_read() {
    let mut world = World::new();
    world.put("rooms", "alice", &[text("lobby"), text("{}")]);
    world.put("vault", "alice", &[text("gold")]);
    assert_eq!(
        world.run(world.ctx("bob", Role::User), "SELECT name, doc FROM rooms").await.unwrap(),
        r#"["lobby","{}"]"#
    );
    assert_eq!(world.run(world.ctx("bob", Role::Service), "SELECT name FROM vault").await.unwrap(), r#"["gold"]"#);
}

#[tokio::test]
async fn all_owners_are_read_in_one_go() {
    let mut world = three_notes();
    world.put("notes", "bob", &[Value::Int(9), text("nine")]);
    world.delete("notes", "alice", Value::Int(1));
    world.put("rooms", "alice", &[text("nine")]);
    let all = || QueryContext { scope: OwnerScope::All, ..world.ctx("agent", Role::Service) };
    assert_eq!(
        world.run(all(), "SELECT _user_id, id FROM notes").await.unwrap(),
        r#"["alice","3"] ["bob","2"] ["alice","2"] ["bob","9"]"#
    );
    assert_eq!(
        world.run(all(), "SELECT id, _storage_id FROM notes WHERE _user_id = 'bob' AND id = 2").await.unwrap(),
        r#"["2","local"]"#,
        "a key alone names a row per owner"
    );
    assert_eq!(world.run(all(), "SELECT id FROM notes WHERE id = 2").await.unwrap(), r#"["2"] ["2"]"#);
    assert_eq!(world.run(all(), "SELECT id FROM notes ORDER BY _seq DESC LIMIT 1").await.unwrap(), r#"["9"]"#);
    assert_eq!(
        world.run(all(), "SELECT n._user_id FROM notes n JOIN rooms r ON r.name = n.body").await.unwrap(),
        r#"["bob"]"#
    );
}

#[tokio::test]
async fn system_tables_are_for_admins() {
    let world = World::new();
    let dba = || world.ctx("root", Role::Dba);
    let cases = [
        ("SELECT user_id, password_hash, role FROM system.users", r#"["root","***","system"]"#),
        ("SELECT namespace_id, table_count FROM sys.namespaces", r#"["demo",3]"#),
        (
            "SELECT table_name, table_type, options FROM system.tables",
            concat!(
                r#"["notes","user","{\"TYPE\":\"USER\"}"] "#,
                r#"["rooms","shared","{\"ACCESS_LEVEL\":\"PUBLIC\",\"TYPE\":\"SHARED\"}"] "#,
                r#"["vault","shared","{\"ACCESS_LEVEL\":\"PRIVATE\",\"TYPE\":\"SHARED\"}"]"#
            ),
        ),
        (
            "SELECT column_name, data_type, ordinal, primary_key_pos FROM system.columns WHERE table_name = 'rooms'",
            r#"["name","TEXT","1","1"] ["doc","JSON","2",null]"#,
        ),
        ("SELECT count(*) FROM system.live", r#"["0"]"#),
        (
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = 'system' ORDER BY 2",
            concat!(
                r#"["system","audit_log"] ["system","cluster"] ["system","cluster_groups"] ["system","columns"] ["system","cursors"] ["system","datatypes"] ["system","deliveries"] ["system","describe"] ["system","job_nodes"] ["system","jobs"] ["system","live"] ["system","manifest"] "#,
                r#"["system","namespaces"] ["system","schemas"] ["system","server_logs"] ["system","sessions"] ["system","settings"] ["system","stats"] ["system","storages"] ["system","tables"] ["system","topic_offsets"] ["system","topics"] ["system","users"]"#
            ),
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(world.run(dba(), sql).await.unwrap(), expected, "{sql}");
    }
    let visible = "SELECT table_name FROM information_schema.tables WHERE table_schema <> 'information_schema'";
    assert_eq!(world.rows(visible).await, r#"["notes"] ["rooms"]"#, "what a user may not read is not listed");
    let columns =
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'rooms' ORDER BY ordinal_position";
    assert_eq!(world.rows(columns).await, r#"["name"] ["doc"] ["_seq"] ["_deleted"]"#);
    assert_eq!(world.rows("SELECT schema_name FROM information_schema.schemata").await, r#"["demo"]"#);
}

#[tokio::test]
async fn the_deadline_ends_a_statement() {
    let config = EngineConfig { threads: 1, statement_timeout: Duration::from_millis(30), ..EngineConfig::default() };
    let world = World::with(&config);
    let error = world.error("SELECT count(*) FROM generate_series(1, 100000000000) a").await;
    assert_eq!(error.to_string(), "The statement ran longer than 30ms and was stopped");
    let statement = parse("SELECT * FROM generate_series(1, 1000000)");
    let cut = match world.engine.query(world.ctx("alice", Role::User), &statement).await {
        Ok(output) => output.collect().await.map(|batches| batches.iter().map(RecordBatch::num_rows).sum()),
        Err(error) => Err(error),
    };
    assert!(matches!(cut, Ok(1_000_000) | Err(Error::StatementTimeout { .. })), "never a silent cut: {cut:?}");
}

#[tokio::test]
async fn memory_is_bounded() {
    let world = World::with(&EngineConfig { threads: 1, memory_limit_bytes: 100_000, ..EngineConfig::default() });
    let error = world.error("SELECT value FROM generate_series(1, 1000000) ORDER BY value % 7").await;
    assert!(matches!(error, Error::OutOfMemory(_)), "{error}");
    assert_eq!(world.rows("SELECT 1").await, r#"["1"]"#);
}

#[tokio::test]
async fn whoever_drops_the_answer_stops_the_work() {
    let world = World::new();
    let statement = parse("SELECT * FROM generate_series(1, 100000000000)");
    let mut output = world.engine.query(world.ctx("alice", Role::User), &statement).await.unwrap();
    assert!(output.stream.next().await.unwrap().unwrap().num_rows() > 0);
    drop(output);
    // The engine has one thread: this would wait for ever behind a query that went on.
    assert_eq!(world.rows("SELECT 1").await, r#"["1"]"#);
}

#[tokio::test]
async fn a_panic_ends_only_its_own_work() {
    let world = World::new();
    let error = world.engine.blocking::<()>(|| panic!("broken on purpose")).await.unwrap_err();
    assert!(matches!(error, Error::Internal(_)));
    assert_eq!(world.rows("SELECT 1").await, r#"["1"]"#);
}

#[tokio::test]
async fn large_results_come_in_bounded_batches() {
    let mut world = World::new();
    for id in 0..700 {
        world.put("notes", "alice", &[Value::Int(id)]);
    }
    let output = world.engine.query(world.ctx("alice", Role::User), &parse("SELECT id FROM notes")).await.unwrap();
    let batches = output.collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [512, 188]);
    assert_eq!(batches[1].column(0).null_count(), 0);
}
