//! System tables and tables of others, by every detour.

use serde_json::json;

use super::{BOBS, SECRET, Target};
use crate::http::Client;
use crate::socket::Socket;

/// Ways to read `{t}`, one column of which is `{c}`.
const DETOURS: &[&str] = &[
    "SELECT * FROM {t}",
    "SELECT x.* FROM {t} x",
    "SELECT * FROM (SELECT * FROM {t}) x",
    "SELECT (SELECT MAX({c}) FROM {t})",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM {t})",
    "SELECT 1 WHERE 'x' IN (SELECT {c} FROM {t})",
    "SELECT 1 WHERE 'x' = ANY (SELECT {c} FROM {t})",
    "WITH x AS (SELECT * FROM {t}) SELECT * FROM x",
    "WITH x AS (SELECT 1), y AS (SELECT {c} FROM {t}) SELECT 1",
    "WITH RECURSIVE x AS (SELECT {c} FROM {t} UNION ALL SELECT {c} FROM x WHERE false) SELECT * FROM x",
    "SELECT * FROM t.mail m JOIN {t} x ON true",
    "SELECT * FROM t.mail m LEFT JOIN LATERAL (SELECT * FROM {t}) x ON true",
    "SELECT id FROM t.mail UNION ALL SELECT length({c}) FROM {t}",
    "SELECT '' EXCEPT SELECT {c} FROM {t}",
    "SELECT COUNT(*) FROM {t}",
    "SELECT upper((SELECT MIN({c}) FROM {t}))",
    "SELECT CASE WHEN (SELECT COUNT(*) FROM {t}) > 0 THEN 1 ELSE 0 END",
    "SELECT 1 ORDER BY (SELECT MIN({c}) FROM {t})",
    "SELECT id FROM t.mail GROUP BY id HAVING id > (SELECT COUNT(*) FROM {t})",
    "SELECT id FROM t.mail LIMIT (SELECT COUNT(*) FROM {t})",
    "EXPLAIN SELECT * FROM {t}",
    "EXPLAIN ANALYZE SELECT * FROM {t}",
    "EXPLAIN VERBOSE SELECT {c} FROM {t}",
    "INSERT INTO t.mail SELECT 1, {c} FROM {t}",
    "INSERT INTO t.mail VALUES (2, (SELECT MIN({c}) FROM {t}))",
    "UPDATE t.mail SET body = (SELECT MIN({c}) FROM {t}) WHERE id = 3",
    "DELETE FROM t.mail WHERE body IN (SELECT {c} FROM {t})",
    "SUBSCRIBE TO SELECT * FROM {t}",
    "EXECUTE AS USER 'alice' (SELECT * FROM {t})",
    "EXECUTE AS USER 'worker' (SELECT * FROM {t})",
    "EXECUTE AS USER '*' (SELECT * FROM {t})",
    "EXECUTE AS USER 'alice' (INSERT INTO t.mail SELECT 9, {c} FROM {t})",
    "DESCRIBE TABLE {t}",
    "SHOW COLUMNS FROM {t}",
    "CREATE VIEW t.v AS SELECT * FROM {t}",
    "CREATE TABLE t.copy AS SELECT * FROM {t}",
    "COPY {t} TO '/tmp/x'",
    "COPY (SELECT * FROM {t}) TO STDOUT (FORMAT csv)",
    "TABLE {t}",
];

/// Sends it. Whatever is answered, it is no row of what was not to be read.
fn try_detour(client: &mut Client, sql: &str) {
    let answer = client.post("/v1/api/sql", &json!({ "sql": sql }));
    for secret in [SECRET, BOBS, "argon2"] {
        assert!(!answer.body.contains(secret), "{sql} told {secret}: {}", answer.body);
    }
    // SUBSCRIBE TO over HTTP registers nothing and reads nothing: the subscription it names is refused, see below.
    let harmless = sql.starts_with("SUBSCRIBE TO");
    assert!(answer.status >= 400 || harmless, "{sql} was answered: {}", answer.body);
    assert!(answer.status < 500, "{sql}: {}", answer.body);
}

/// Proves that no form of a statement reads system tables, or a SHARED table of administrators, for a user or a service: they
/// are denied where names become tables, and no way goes around that.
#[test]
fn every_way_to_a_table_passes_the_same_door() {
    let mut target = Target::new(&[]);
    let tables = [
        ("t.dba", "body"),
        ("T.DBA", "body"),
        ("\"t\".\"dba\"", "body"),
        ("kalam.t.dba", "body"),
        ("system.users", "user_id"),
        ("SYS.Users", "user_id"),
        ("\"system\".\"users\"", "user_id"),
        ("kalam.system.users", "user_id"),
        ("system.audit_log", "action"),
    ];
    for client in [&mut target.alice, &mut target.service] {
        for (table, column) in tables {
            for detour in DETOURS {
                try_detour(client, &detour.replace("{t}", table).replace("{c}", column));
            }
        }
    }
    for sql in [
        "SELECT * FROM information_schema.tables WHERE table_schema = 'system' OR table_name = 'dba'",
        "SELECT * FROM information_schema.columns WHERE table_schema = 'system' OR table_name = 'dba'",
        "SELECT * FROM information_schema.views WHERE table_schema = 'system' OR table_name = 'dba'",
    ] {
        assert_eq!(target.alice.rows(sql), json!([]), "{sql}");
    }
    // Administrators reach them as themselves, and in nobody's name.
    assert!(!target.admin.rows("SELECT * FROM system.users").as_array().unwrap().is_empty());
    for sql in
        ["EXECUTE AS USER 'alice' (SELECT * FROM system.users)", "EXECUTE AS USER '*' (SELECT * FROM system.users)"]
    {
        assert_eq!(target.admin.refused(sql).code, "PERMISSION_DENIED", "{sql}");
    }
}

/// Proves the same of subscriptions, and that a USER table of a subscription is one's own.
#[test]
fn sockets_pass_it_too() {
    let target = Target::new(&[]);
    for client in [&target.alice, &target.service] {
        let mut socket = Socket::open_as(target.server.address, client.token(), "?compress=false");
        for table in ["t.dba", "system.users", "sys.audit_log", "kalam.system.users", "information_schema.tables"] {
            for sql in [
                format!("SELECT * FROM {table}"),
                format!("SELECT * FROM {table} WHERE 1 = 1"),
                format!("EXECUTE AS USER 'alice' (SELECT * FROM {table})"),
                format!("EXECUTE AS USER '*' (SELECT * FROM {table})"),
                format!("SELECT * FROM t.mail WHERE body IN (SELECT 'x' FROM {table})"),
            ] {
                socket.subscribe("s", &sql, json!({}));
                let answer = socket.json();
                assert_eq!(answer["type"], "error", "{sql}: {answer}");
            }
        }
        socket.subscribe("own", "SELECT * FROM t.mail WHERE body LIKE '%' OR true", json!({}));
        assert_eq!(socket.json()["type"], "subscription_ack");
        let rows = socket.json();
        assert_eq!((&rows["type"], &rows["rows"]), (&json!("initial_data_batch"), &json!([])), "{rows}");
    }
}
