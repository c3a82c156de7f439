//! The audit log: what is in it, what is not, who may see it, that nothing in SQL writes it, and that it stays.

use serde_json::{Value, json};

use crate::http::Client;
use crate::server::{PASSWORD, Server, eventually};

/// Action, actor, target, subject of the entries of an action, the oldest first.
fn entries(admin: &mut Client, action: &str) -> Vec<(String, String, Value)> {
    let sql = format!(
        "SELECT actor_user_id, target, subject_user_id FROM system.audit_log WHERE action = '{action}' ORDER BY audit_id"
    );
    let Value::Array(rows) = admin.rows(&sql) else { panic!("no rows") };
    let text = |cell: &Value| cell.as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(&row[0]), text(&row[1]), row[2].clone())).collect()
}

/// What is noted comes by and by.
fn noted(admin: &mut Client, action: &str, actor: &str, target: &str) {
    eventually(&format!("{action} of {actor} on {target}"), || {
        entries(admin, action).iter().any(|(a, t, _)| a == actor && t == target).then_some(())
    });
}

#[test]
fn everything_that_is_owed_an_entry_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_over(folder.path(), &[]);
    let mut admin = server.set_up();
    assert_eq!(entries(&mut admin, "SETUP"), [("admin".to_owned(), "admin".to_owned(), Value::Null)]);
    admin.sql("CREATE NAMESPACE a");
    admin.sql("CREATE USER TABLE a.mail (id BIGINT PRIMARY KEY)");
    admin.sql("CREATE SHARED TABLE a.open (id BIGINT PRIMARY KEY)");
    let mut alice = server.new_user(&mut admin, "alice", "user");
    let mut worker = server.new_user(&mut admin, "worker", "service");

    // What is answered is in it.
    admin.sql("ALTER USER 'alice' SET EMAIL 'a@b'");
    admin.sql("ALTER TABLE a.open SET ACCESS LEVEL PUBLIC");
    admin.sql("DROP TABLE a.open");
    alice.sql("EXPORT USER DATA");
    let backups = tempfile::tempdir().unwrap();
    let backup = backups.path().join("monday");
    admin.sql(&format!("BACKUP DATABASE TO '{}'", backup.display()));
    eventually("the backup is made", || {
        let done = admin.rows("SELECT COUNT(*) FROM system.jobs WHERE job_type = 'backup' AND status = 'completed'");
        (done == json!([["1"]])).then_some(())
    });
    for (action, actor, target, subject) in [
        ("LOGIN", "alice", "alice", Value::Null),
        ("CREATE_USER", "admin", "worker", json!("worker")),
        ("ALTER_USER", "admin", "alice", json!("alice")),
        ("ALTER_TABLE", "admin", "a.open", Value::Null),
        ("DROP_TABLE", "admin", "a.open", Value::Null),
        ("EXPORT_USER_DATA", "alice", "own data", Value::Null),
        ("BACKUP_DATABASE", "admin", &backup.display().to_string(), Value::Null),
    ] {
        let expected = (actor.to_owned(), target.to_owned(), subject);
        let found = entries(&mut admin, action);
        assert!(found.contains(&expected), "{action}: {found:?}");
    }

    // What is only noted comes soon.
    worker.sql("EXECUTE AS USER 'alice' (SELECT * FROM a.mail)");
    worker.sql("EXECUTE AS USER '*' (SELECT * FROM a.mail)");
    noted(&mut admin, "EXECUTE_AS_USER", "worker", "alice");
    noted(&mut admin, "EXECUTE_AS_USER", "worker", "*");
    alice.refused("EXECUTE AS USER 'worker' (SELECT 1)");
    noted(&mut admin, "EXECUTE_AS_USER_DENIED", "alice", "worker");
    alice.refused("SELECT * FROM system.users");
    noted(&mut admin, "DENIED", "alice", "SELECT");
    alice.refused("DROP USER 'worker'");
    noted(&mut admin, "DENIED", "alice", "DROP USER");
    let failed = |user: &str| {
        let body = json!({ "user": user, "password": "my-wrong-secret" });
        assert_eq!(server.client().post("/v1/api/auth/login", &body).status, 401);
    };
    failed("alice");
    failed("a-password-typed-as-name");
    noted(&mut admin, "LOGIN_FAILED", "alice", "alice");
    noted(&mut admin, "LOGIN_FAILED", "(unknown)", "");
    for _ in 0..4 {
        failed("alice");
    }
    noted(&mut admin, "ACCOUNT_LOCKED", "alice", "alice");
    let from = admin.rows("SELECT DISTINCT ip_address FROM system.audit_log WHERE action = 'LOGIN_FAILED'");
    assert_eq!(from, json!([["127.0.0.1"]]));

    // No secret is in it, and none in the server's output.
    let all = admin.rows("SELECT * FROM system.audit_log").to_string();
    for secret in [PASSWORD, "my-wrong-secret", "a-password-typed-as-name", "a@b"] {
        assert!(!all.contains(secret), "{secret} is in the audit log");
        assert!(!server.log().contains(secret), "{secret} is in the server's output");
    }

    // It is there after a kill, and in a backup.
    let count = |client: &mut Client| client.rows("SELECT COUNT(*) FROM system.audit_log WHERE action = 'CREATE_USER'");
    let before = count(&mut admin);
    server.kill();
    let server = Server::start_over(folder.path(), &[]);
    assert_eq!(count(&mut server.log_in("admin")), before);
    drop(server);
    let data = tempfile::tempdir().unwrap();
    let mut restore = std::process::Command::new(env!("CARGO_BIN_EXE_inboxdb"));
    let restored = restore.args(["restore", "--from"]).arg(&backup).arg("--data").arg(data.path()).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let server = Server::start_over(data.path(), &[]);
    assert_eq!(count(&mut server.log_in("admin")), before);
}

#[test]
fn nothing_in_sql_writes_it_and_only_administrators_read_it() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE a");
    // What is refused for want of a right is told, and is all that is.
    let count = "SELECT COUNT(*) FROM system.audit_log WHERE action <> 'DENIED'";
    let before = admin.rows(count);
    for sql in [
        "INSERT INTO system.audit_log (audit_id) VALUES ('x')",
        "UPDATE system.audit_log SET action = 'x' WHERE true",
        "DELETE FROM system.audit_log WHERE true",
        "DELETE FROM sys.audit_log WHERE action = 'LOGIN'",
        "DROP TABLE system.audit_log",
        "ALTER TABLE system.audit_log ADD COLUMN x INT",
        "CREATE TABLE system.audit_log (id INT PRIMARY KEY)",
    ] {
        admin.refused(sql);
    }
    assert_eq!(admin.rows(count), before);
    for role in ["user", "service", "anonymous"] {
        let mut client = server.new_user(&mut admin, role, role);
        assert_eq!(client.refused("SELECT * FROM system.audit_log").code, "PERMISSION_DENIED");
        assert_eq!(
            client.rows("SELECT COUNT(*) FROM information_schema.columns WHERE table_name = 'audit_log'"),
            json!([["0"]])
        );
    }
}

#[test]
fn the_oldest_entries_go() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_over(folder.path(), &[]);
    let mut admin = server.set_up();
    for n in 0..20 {
        admin.sql(&format!("ALTER USER 'admin' SET EMAIL 'x{n}@y'"));
    }
    server.kill();
    // The first look is at the start.
    let server = Server::start_over(folder.path(), &["audit.max_entries=5"]);
    let mut admin = server.log_in("admin");
    eventually("the oldest are gone", || {
        let left = admin.rows("SELECT COUNT(*) FROM system.audit_log WHERE action = 'ALTER_USER'");
        (left == json!([["5"]]) || left == json!([["4"]])).then_some(())
    });
    assert_eq!(entries(&mut admin, "SETUP"), []);
}
