//! Names that are paths, that end early, that fold into others, or that never end.

use serde_json::json;

use super::Target;

/// Proves that names are checked once, in their types: none of these makes an object, a file outside the data folder, or a
/// way into the server's own namespaces; and what is asked for by such a name is not found, with an answer that is no 500.
#[test]
fn names_stay_names() {
    let mut target = Target::new(&[]);
    let beside = |target: &Target| {
        let folder = target.server.data().parent().unwrap().to_owned();
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before =
        (beside(&target), target.admin.rows("SELECT namespace_id, table_name FROM system.tables ORDER BY 1, 2"));
    let long = "x".repeat(300);
    let very_long = "x".repeat(300_000);
    let bad = [
        "..",
        "../x",
        "../../etc/passwd",
        "a/b",
        "a\\b",
        "a\u{0}b",
        "",
        " ",
        ".",
        "%2e%2e%2fx",
        "a b",
        "a;b",
        "a'b",
        "_x",
        "1x",
        "ſystem",
        "ＳＹＳＴＥＭ",
        "syſtem",
        "ﬁle",
        "a\u{202e}b",
        "a\u{301}",
        "с",
        long.as_str(),
        very_long.as_str(),
    ];
    let statements = [
        "CREATE NAMESPACE \"{n}\"",
        "CREATE USER TABLE t.\"{n}\" (id BIGINT PRIMARY KEY)",
        "CREATE USER TABLE t.ok (\"{n}\" BIGINT PRIMARY KEY)",
        "CREATE TOPIC t.\"{n}\"",
        "CREATE STORAGE \"{n}\" TYPE filesystem PATH 'x'",
        "ALTER TABLE t.mail ADD COLUMN \"{n}\" INT",
        "ALTER TABLE t.mail RENAME COLUMN body TO \"{n}\"",
    ];
    for name in bad {
        for statement in statements {
            let sql = statement.replace("{n}", name);
            let answer = target.admin.post("/v1/api/sql", &json!({ "sql": sql }));
            assert!((400..500).contains(&answer.status), "{name:.40}: {statement}: {}", answer.body);
            assert!(answer.body.len() < 1_000_000, "{statement}: an answer of {} bytes", answer.body.len());
        }
        for lookup in [
            "SELECT * FROM \"{n}\".\"{n}\"",
            "DESCRIBE TABLE \"{n}\".\"{n}\"",
            "DROP TABLE \"{n}\".\"{n}\"",
            "DROP NAMESPACE \"{n}\"",
        ] {
            let answer = target.admin.post("/v1/api/sql", &json!({ "sql": lookup.replace("{n}", name) }));
            assert!((400..500).contains(&answer.status), "{name:.40}: {lookup}: {}", answer.body);
        }
    }
    for name in ["system", "SYSTEM", "System", "sys", "information_schema", "Pg_Catalog"] {
        let sql = format!("CREATE NAMESPACE {name}");
        assert!((400..500).contains(&target.admin.refused(&sql).status), "{sql}");
        let sql = format!("CREATE SHARED TABLE {name}.x (id BIGINT PRIMARY KEY)");
        assert!((400..500).contains(&target.admin.refused(&sql).status), "{sql}");
    }
    for user in ["..", "../x", "a/b", "a\\b", "a\u{0}b", ""] {
        let sql = format!("CREATE USER '{user}' WITH PASSWORD 'a long password' ROLE user");
        assert!((400..500).contains(&target.admin.refused(&sql).status), "{user:?}");
    }
    for path in [
        "/v1/exports/..%2f..%2fetc/passwd",
        "/v1/exports/alice/..%2f..%2fx",
        "/v1/exports/%00/x",
        "/v1/streams/t/%2e%2e/x",
    ] {
        let mut client = target.admin.again();
        let status = client.get(path).status;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    let after =
        (beside(&target), target.admin.rows("SELECT namespace_id, table_name FROM system.tables ORDER BY 1, 2"));
    assert_eq!(after, before);
}
