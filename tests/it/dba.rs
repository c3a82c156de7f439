//! The namespace `dba`: what the server makes for itself, who sees it, that it stays, and the samples in it.

use serde_json::{Value, json};

use crate::server::{Server, eventually};

const TABLES: &str = "SELECT table_name, table_type FROM system.tables WHERE namespace_id = 'dba' ORDER BY 1";

#[test]
fn its_tables_are_there_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_over(folder.path(), &[]);
    let mut admin = server.set_up();
    let both = json!([["notifications", "shared"], ["stats", "shared"]]);
    assert_eq!(admin.rows(TABLES), both);
    for sql in [
        "DROP TABLE dba.stats",
        "DROP SHARED TABLE IF EXISTS DBA.Notifications CASCADE",
        "ALTER TABLE dba.stats ADD COLUMN x INT",
        "ALTER TABLE dba.stats SET ACCESS LEVEL PUBLIC",
        "ALTER TABLE dba.notifications DROP COLUMN body",
        "DROP NAMESPACE dba",
        "DROP NAMESPACE IF EXISTS dba CASCADE",
    ] {
        assert_eq!(admin.refused(sql).code, "PERMISSION_DENIED", "{sql}");
    }
    // Others in it are like any.
    admin.sql("CREATE USER TABLE dba.favorites (id TEXT PRIMARY KEY, payload JSON)");
    admin.sql("DROP TABLE dba.favorites");

    // Who sees them is what their access levels say.
    admin.sql("INSERT INTO dba.notifications (id, user_id, title) VALUES ('n1', 'alice', 'Welcome')");
    let notice = json!([["n1", "alice", "Welcome", null, false]]);
    let read = "SELECT id, user_id, title, body, is_read FROM dba.notifications";
    let mut alice = server.new_user(&mut admin, "alice", "user");
    let mut worker = server.new_user(&mut admin, "worker", "service");
    for client in [&mut alice, &mut worker] {
        assert_eq!(client.rows(read), notice);
        assert_eq!(client.refused("SELECT * FROM dba.stats").code, "PERMISSION_DENIED");
    }
    assert_eq!(alice.refused("DELETE FROM dba.notifications WHERE id = 'n1'").code, "PERMISSION_DENIED");
    assert_eq!(admin.rows("SELECT COUNT(*) FROM dba.stats"), json!([["0"]]));

    // After a kill, and in a backup.
    let backups = tempfile::tempdir().unwrap();
    let backup = backups.path().join("monday");
    admin.sql(&format!("BACKUP DATABASE TO '{}'", backup.display()));
    eventually("the backup is made", || {
        let done = admin.rows("SELECT COUNT(*) FROM system.jobs WHERE job_type = 'backup' AND status = 'completed'");
        (done == json!([["1"]])).then_some(())
    });
    server.kill();
    let server = Server::start_over(folder.path(), &[]);
    let mut admin = server.log_in("admin");
    assert_eq!((admin.rows(TABLES), admin.rows(read)), (both.clone(), notice.clone()));
    drop(server);
    let data = tempfile::tempdir().unwrap();
    let mut restore = std::process::Command::new(env!("CARGO_BIN_EXE_inboxdb"));
    let restored = restore.args(["restore", "--from"]).arg(&backup).arg("--data").arg(data.path()).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let server = Server::start_over(data.path(), &[]);
    let mut admin = server.log_in("admin");
    assert_eq!((admin.rows(TABLES), admin.rows(read)), (both, notice));
}

#[test]
fn the_server_is_sampled_and_old_samples_go() {
    let folder = tempfile::tempdir().unwrap();
    let often = "retention.dba_stats_interval=20ms";
    let server = Server::start_over(folder.path(), &[often]);
    let mut admin = server.set_up();
    let rounds = |rows: Value| rows[0][0].as_str().unwrap().parse::<u32>().unwrap();
    eventually("three rounds of samples", || {
        (rounds(admin.rows("SELECT COUNT(DISTINCT sampled_at) FROM dba.stats")) >= 3).then_some(())
    });
    // A round has each figure once, with its unit.
    let figures = admin.rows(
        "SELECT metric_name, metric_unit, MIN(metric_value) > 0, COUNT(*) = COUNT(DISTINCT sampled_at) FROM dba.stats \
         WHERE metric_name IN ('memory_rss_bytes', 'total_tables') GROUP BY 1, 2 ORDER BY 1",
    );
    assert_eq!(figures, json!([["memory_rss_bytes", "bytes", true, true], ["total_tables", null, true, true]]));
    server.kill();

    let first = "SELECT id FROM dba.stats ORDER BY _seq LIMIT 1";
    let server = Server::start_over(folder.path(), &["retention.enable_dba_stats=false"]);
    let mut admin = server.log_in("admin");
    let oldest = admin.rows(first);
    assert_eq!(oldest.as_array().map(Vec::len), Some(1), "they are there after a kill");
    server.kill();

    let server = Server::start_over(folder.path(), &[often, "retention.dba_stats_retention=200ms"]);
    let mut admin = server.log_in("admin");
    eventually("the oldest samples are gone", || (admin.rows(first) != oldest).then_some(()));
    eventually("new ones are there", || (admin.rows(first) != json!([])).then_some(()));
}
