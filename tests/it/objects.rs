//! Views, constraints and comments outlive a kill -9, and go with a backup.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::http::Client;
use crate::server::{Server, eventually};

fn make(admin: &mut Client) {
    for sql in [
        "CREATE NAMESPACE o",
        "CREATE USER TABLE o.mail (id BIGINT PRIMARY KEY, body TEXT, n INT CHECK (n > 0))",
        "CREATE VIEW o.big AS SELECT id, body, n FROM o.mail WHERE n > 10",
        "CREATE VIEW o.bigger (key) AS SELECT id FROM o.big WHERE n > 20",
        "COMMENT ON VIEW o.big IS 'what is big'",
        "COMMENT ON COLUMN o.mail.n IS 'how much'",
        "CREATE SHARED TABLE o.copy (PRIMARY KEY (id)) AS SELECT 1 AS id, 'x' AS body",
        "ALTER TABLE o.mail ADD CONSTRAINT small CHECK (n < 1000)",
        "CREATE VIEW o.gone AS SELECT 1 AS one",
        "DROP VIEW o.gone",
        "INSERT INTO o.mail VALUES (1, 'small', 5), (2, 'big', 15), (3, 'bigger', 25)",
    ] {
        admin.sql(sql);
    }
}

fn check(admin: &mut Client) {
    assert_eq!(admin.rows("SELECT id FROM o.big ORDER BY id"), json!([["2"], ["3"]]));
    assert_eq!(admin.rows("SELECT key FROM o.bigger"), json!([["3"]]));
    assert_eq!(admin.rows("SELECT body FROM o.copy"), json!([["x"]]));
    let listed =
        "SELECT table_name, comment FROM system.tables WHERE namespace_id = 'o' AND table_type = 'view' ORDER BY 1";
    assert_eq!(admin.rows(listed), json!([["big", "what is big"], ["bigger", null]]));
    let comment =
        "SELECT comment FROM system.columns WHERE namespace_id = 'o' AND table_name = 'mail' AND column_name = 'n'";
    assert_eq!(admin.rows(comment), json!([["how much"]]));
    for (sql, sqlstate) in [
        ("INSERT INTO o.mail VALUES (4, 'none', 0)", "23514"),
        ("INSERT INTO o.mail VALUES (4, 'much', 1000)", "23514"),
        ("UPDATE o.mail SET n = -1 WHERE id = 1", "23514"),
        ("SELECT * FROM o.gone", "42P01"),
        ("DROP TABLE o.mail", "2BP01"),
        ("ALTER TABLE o.mail DROP COLUMN body", "2BP01"),
    ] {
        assert_eq!(admin.refused(sql).sqlstate, sqlstate, "{sql}");
    }
}

#[test]
fn objects_outlive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start_over(&data, &[]);
    make(&mut server.set_up());
    server.kill();
    let server = Server::start_over(&data, &[]);
    let mut admin = server.log_in("admin");
    check(&mut admin);
    // What is cold is truncated with what is hot.
    let message = admin.sql("STORAGE FLUSH TABLE o.mail")[0]["message"].take();
    eventually("the rows are cold", || {
        let jobs = admin.rows("SELECT status FROM system.jobs WHERE job_type = 'flush'");
        jobs.as_array().unwrap().iter().all(|job| job[0] == "completed").then_some(())
    });
    admin.sql("INSERT INTO o.mail VALUES (9, 'hot', 99)");
    assert_eq!(admin.sql("TRUNCATE o.mail")[0]["row_count"], json!(4), "{message}");
    assert_eq!(admin.rows("SELECT COUNT(*) FROM o.big"), json!([["0"]]));
    server.kill();
    let server = Server::start_over(&data, &[]);
    assert_eq!(server.log_in("admin").rows("SELECT COUNT(*) FROM o.mail"), json!([["0"]]));
}

#[test]
fn objects_go_with_a_backup() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    make(&mut admin);
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    admin.sql(&format!("BACKUP DATABASE TO '{}'", backup.display()));
    eventually("the backup is there", || backup.is_dir().then_some(()));
    let data = folder.path().join("data");
    restore(&backup, &data);
    let restored = Server::start_over(&data, &[]);
    check(&mut restored.log_in("admin"));
}

fn restore(from: &Path, data: &Path) {
    let args = ["restore", "--from", from.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_inboxdb")).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
