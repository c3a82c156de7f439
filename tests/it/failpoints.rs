//! The real process dies at each step of a flush, a compaction, an ALTER, a DROP; the next one goes on.
//!
//! Invariants: PT-2, SG-1, SG-2, SG-3, RC-1. Points: `src/failpoint.rs`.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::http::Client;
use crate::server::{PASSWORD, Server, eventually};

const BY_HAND: &[&str] = &["flush.check_interval=1h", "jobs.retry_backoff=1ms"];

/// What the table ought to hold: each id's text, of which there are two where nobody knows whether a write was taken.
type Model = BTreeMap<i64, Vec<String>>;

/// Rows that are cold in three segments, some of them replaced or deleted, and hot ones.
fn with_cold_rows(data: &Path) -> Model {
    let server = Server::start_over(data, BY_HAND);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE TABLE c.t (id BIGINT PRIMARY KEY, v TEXT)");
    let mut model = Model::new();
    for round in 0..3 {
        let (from, to) = (round * 500 + 1, round * 500 + 500);
        admin.sql(&format!("INSERT INTO c.t SELECT value, 'row' FROM generate_series({from}, {to})"));
        model.extend((from..=to).map(|id| (id, vec!["row".to_owned()])));
        finish(&mut admin, "STORAGE FLUSH TABLE c.t");
    }
    change(&mut admin, &mut model, 0);
    server.kill();
    model
}

/// Changes cold and hot rows, and adds some.
fn change(admin: &mut Client, model: &mut Model, round: i64) {
    let (first, v) = (10_000 + round * 1_500, format!("round {round}"));
    admin.sql(&format!("INSERT INTO c.t SELECT value, 'hot' FROM generate_series({first}, {})", first + 1_199));
    model.extend((first..first + 1_200).map(|id| (id, vec!["hot".to_owned()])));
    admin.sql(&format!("UPDATE c.t SET v = '{v}' WHERE id IN ({}, {}, {first})", round + 1, round + 600));
    for id in [round + 1, round + 600, first] {
        if let Some(held) = model.get_mut(&id) {
            *held = vec![v.clone()];
        }
    }
    admin.sql(&format!("DELETE FROM c.t WHERE id IN ({}, {})", round + 1_100, first + 1));
    model.remove(&(round + 1_100));
    model.remove(&(first + 1));
}

/// Waits for the job that the statement starts.
fn finish(admin: &mut Client, statement: &str) {
    let message = admin.sql(statement)[0]["message"].take();
    let Some((_, job)) = message.as_str().unwrap().split_once("Job ID: ") else { return };
    let sql = format!("SELECT status FROM system.jobs WHERE job_id = '{job}'");
    eventually("the job ends", || (admin.rows(&sql) == json!([["completed"]])).then_some(()));
}

/// Writes until the server dies.
fn write_until_it_dies(admin: &mut Client, model: &mut Model) {
    for turn in 0..20_000 {
        let (id, v) = (turn % 900 + 30, format!("turn {turn}"));
        let answer = admin.try_sql_or_gone(&format!("UPDATE c.t SET v = '{v}' WHERE id = {id}"));
        let Some(held) = model.get_mut(&id) else { continue };
        match answer {
            true => *held = vec![v],
            false => {
                held.push(v);
                return;
            }
        }
    }
    panic!("it lives on");
}

fn assert_killed(mut server: Server, point: &str) {
    assert_eq!(server.ended().signal(), Some(9), "{point}: {}", server.log());
}

/// The next process goes on: the rows are there, once each; what was cut off is finished; no file is too much or too few.
fn assert_goes_on(data: &Path, model: &mut Model, point: &str) {
    let server = Server::start_over(data, BY_HAND);
    let mut admin = server.log_in("admin");
    assert_holds(&mut admin, model, point);
    let taken = admin.refused("INSERT INTO c.t (id, v) VALUES (2, 'twice')");
    assert_eq!(taken.sqlstate, "23505", "{point}");
    let unfinished = "SELECT count(*) FROM system.jobs WHERE status IN ('new', 'queued', 'running', 'retrying')";
    eventually("what was cut off ends", || (admin.rows(unfinished) == json!([["0"]])).then_some(()));
    assert_holds(&mut admin, model, point);
    // A flush removes what crashes left, and finds nothing of what it has flushed.
    admin.sql("INSERT INTO c.t (id, v) VALUES (1000000, 'last')");
    finish(&mut admin, "STORAGE FLUSH TABLE c.t");
    admin.sql("DELETE FROM c.t WHERE id = 1000000");
    assert_holds(&mut admin, model, point);
    assert_eq!(segment_files(data, "t"), named_files(&mut admin), "{point}");
    server.kill();
    let inspected = Command::new(env!("CARGO_BIN_EXE_inboxdb")).arg("inspect").arg(data).output().unwrap();
    assert!(inspected.status.success(), "{point}: {}", String::from_utf8_lossy(&inspected.stdout));
}

/// And from now on it is known which writes were taken.
fn assert_holds(admin: &mut Client, model: &mut Model, point: &str) {
    let rows = admin.rows("SELECT id, v FROM c.t ORDER BY id");
    let rows: Vec<(i64, String)> = rows.as_array().unwrap().iter().map(row).collect();
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>(), "{point}");
    for (id, v) in rows {
        let held = model.get_mut(&id).unwrap();
        assert!(held.contains(&v), "{point}: {id} holds {v}, not one of {held:?}");
        *held = vec![v];
    }
}

fn row(cells: &Value) -> (i64, String) {
    (cells[0].as_str().unwrap().parse().unwrap(), cells[1].as_str().unwrap().to_owned())
}

fn segment_files(data: &Path, table: &str) -> Vec<String> {
    files_in(&data.join("cold/c").join(table))
}

fn files_in(folder: &Path) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "manifest.json");
    names.sort();
    names
}

fn named_files(admin: &mut Client) -> Vec<String> {
    let manifest = admin.rows("SELECT manifest_json FROM system.manifest WHERE table_name = 't'");
    let manifest: Value = serde_json::from_str(manifest[0][0].as_str().unwrap()).unwrap();
    let segments = manifest["segments"].as_array().unwrap().iter();
    let mut names: Vec<String> =
        segments.map(|s| s["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_flush_or_compaction_that_dies_at_any_step_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut model = with_cold_rows(&data);
    let flush = "STORAGE FLUSH TABLE c.t";
    let compact = "STORAGE COMPACT TABLE c.t";
    let steps = [
        (flush, "flush_begun", 1),
        (flush, "flush_written", 1),
        (flush, "cold_synced", 1),
        (flush, "cold_renamed", 1),
        (flush, "cold_published", 1),
        (flush, "flush_committed", 1),
        (flush, "flush_forgot", 1),
        (flush, "flush_forgot", 2),
        (compact, "compact_written", 1),
        (compact, "cold_renamed", 1),
        (compact, "cold_published", 1),
        (compact, "compact_committed", 1),
        (compact, "compact_read", 1),
        (compact, "compact_removed", 1),
    ];
    for (round, (statement, point, nth)) in (1..).zip(steps) {
        let server = Server::start_to_die(&data, BY_HAND, point, nth);
        let mut admin = server.log_in("admin");
        change(&mut admin, &mut model, round);
        admin.sql(statement);
        write_until_it_dies(&mut admin, &mut model);
        assert_killed(server, point);
        assert_goes_on(&data, &mut model, point);
    }
}

#[test]
fn an_alter_that_dies_is_done_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut model = with_cold_rows(&data);
    for (point, done) in [("alter_held", false), ("alter_committed", true)] {
        let server = Server::start_to_die(&data, BY_HAND, point, 1);
        let mut admin = server.log_in("admin");
        assert!(!admin.try_sql_or_gone("ALTER TABLE c.t ADD COLUMN n INT DEFAULT 7"), "{point}");
        assert_killed(server, point);
        let server = Server::start_over(&data, BY_HAND);
        let mut admin = server.log_in("admin");
        let (count, sum) = (model.len(), model.len() * 7);
        match done {
            true => assert_eq!(
                admin.rows("SELECT count(*), sum(n) FROM c.t"),
                json!([[count.to_string(), sum.to_string()]])
            ),
            false => assert_eq!(admin.refused("SELECT n FROM c.t").code, "COLUMN_NOT_FOUND"),
        }
        server.kill();
        assert_goes_on(&data, &mut model, point);
    }
}

#[test]
fn what_a_dropped_table_leaves_goes_wherever_its_removal_dies() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut model = with_cold_rows(&data);
    let steps = [
        ("drop_begun", 1),
        ("drop_files_removed", 1),
        ("erase_step", 1),
        ("erase_step", 2),
        ("drop_keys_removed", 1),
        ("drop_committed", 1),
    ];
    for (point, nth) in steps {
        let server = Server::start_to_die(&data, BY_HAND, point, nth);
        let mut admin = server.log_in("admin");
        admin.sql("CREATE TABLE c.gone (id BIGINT PRIMARY KEY, v TEXT)");
        admin.sql("INSERT INTO c.gone SELECT value, 'cold' FROM generate_series(1, 2000)");
        finish(&mut admin, "STORAGE FLUSH TABLE c.gone");
        admin.sql("INSERT INTO c.gone SELECT value, 'hot' FROM generate_series(2001, 2100)");
        admin.try_sql_or_gone("DROP TABLE c.gone");
        assert_killed(server, point);
        let server = Server::start_over(&data, BY_HAND);
        let mut admin = server.log_in("admin");
        assert_eq!(admin.refused("SELECT * FROM c.gone").code, "TABLE_NOT_FOUND", "{point}");
        admin.sql("CREATE TABLE c.gone (id BIGINT PRIMARY KEY, v TEXT)");
        assert_eq!(admin.rows("SELECT count(*) FROM c.gone"), json!([["0"]]), "{point}");
        eventually("the files go", || segment_files(&data, "gone").is_empty().then_some(()));
        admin.sql("DROP TABLE c.gone");
        server.kill();
        assert_goes_on(&data, &mut model, point);
    }
}

#[test]
fn a_table_made_of_a_query_has_all_rows_or_is_not_there_wherever_it_dies() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut model = with_cold_rows(&data);
    let make = "CREATE TABLE c.made (PRIMARY KEY (id)) AS SELECT id, v FROM c.t";
    for point in ["create_as_begun", "create_as_filled"] {
        let server = Server::start_to_die(&data, BY_HAND, point, 1);
        server.log_in("admin").try_sql_or_gone(make);
        assert_killed(server, point);
        let server = Server::start_over(&data, BY_HAND);
        let mut admin = server.log_in("admin");
        assert_eq!(admin.refused("SELECT * FROM c.made").code, "TABLE_NOT_FOUND", "{point}");
        let cleaned = "SELECT COUNT(*) > 0 FROM system.jobs WHERE job_type = 'cleanup' AND status = 'completed'";
        eventually("what was written goes", || (admin.rows(cleaned) == json!([[true]])).then_some(()));
        admin.sql(make);
        let rows = |admin: &mut Client, table: &str| admin.rows(&format!("SELECT id, v FROM c.{table} ORDER BY id"));
        assert_eq!(rows(&mut admin, "made"), rows(&mut admin, "t"), "{point}");
        server.kill();
        let server = Server::start_over(&data, BY_HAND);
        let mut admin = server.log_in("admin");
        assert_eq!(rows(&mut admin, "made"), rows(&mut admin, "t"), "{point}");
        admin.sql("DROP TABLE c.made");
        server.kill();
        assert_goes_on(&data, &mut model, point);
    }
}

#[test]
fn what_a_dropped_user_leaves_goes_wherever_its_removal_dies() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start_over(&data, BY_HAND);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY, v TEXT)");
    server.kill();
    let now: &[&str] = &[BY_HAND[0], BY_HAND[1], "user_management.deletion_grace_period=0s"];
    for (user, point) in
        [("ann", "erase_begun"), ("ben", "erase_files_removed"), ("cat", "erase_step"), ("dan", "erase_keys_removed")]
    {
        let server = Server::start_to_die(&data, now, point, 1);
        let mut admin = server.log_in("admin");
        let mut first = server.new_user(&mut admin, user, "user");
        first.sql("INSERT INTO c.mail SELECT value, 'secret' FROM generate_series(1, 1500)");
        finish(&mut admin, "STORAGE FLUSH TABLE c.mail");
        first.sql("INSERT INTO c.mail VALUES (2000, 'hot secret')");
        admin.try_sql_or_gone(&format!("DROP USER '{user}'"));
        assert_killed(server, point);
        let server = Server::start_over(&data, now);
        let mut admin = server.log_in("admin");
        let again = format!("CREATE USER '{user}' WITH PASSWORD '{PASSWORD}' ROLE user");
        eventually("the name is free", || admin.try_sql(&json!({ "sql": again })).map_err(|e| eprintln!("{e}")).ok());
        let mut second = server.log_in(user);
        assert_eq!(second.rows("SELECT count(*) FROM c.mail"), json!([["0"]]), "{point}");
        assert_eq!(segment_files(&data, &format!("mail/{user}")), Vec::<String>::new(), "{point}");
        server.kill();
    }
}

/// What a backup holds, brought back into a new folder.
fn assert_restores(backup: &Path, into: &Path, model: &mut Model, point: &str) {
    let restored = restore(backup, into, "");
    assert!(restored.status.success(), "{point}: {}", String::from_utf8_lossy(&restored.stderr));
    let server = Server::start_over(into, BY_HAND);
    assert_holds(&mut server.log_in("admin"), model, point);
    server.kill();
    assert_goes_on(into, model, point);
}

fn restore(backup: &Path, into: &Path, failpoint: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inboxdb"));
    command.arg("restore").arg("--from").arg(backup).arg("--data").arg(into).env("FAILPOINT", failpoint);
    command.output().unwrap()
}

#[test]
fn a_backup_that_dies_at_any_step_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut model = with_cold_rows(&data);
    let steps = ["backup_begun", "backup_keyspaces", "backup_segment", "backup_indexed", "backup_published"];
    for (round, point) in steps.into_iter().enumerate() {
        let backup = folder.path().join(format!("backup-{round}"));
        let server = Server::start_to_die(&data, BY_HAND, point, 1);
        let mut admin = server.log_in("admin");
        admin.try_sql_or_gone(&format!("BACKUP DATABASE TO '{}'", backup.display()));
        assert_killed(server, point);
        assert_eq!(backup.exists(), point == "backup_published", "{point}");
        let server = Server::start_over(&data, BY_HAND);
        let mut admin = server.log_in("admin");
        let made = "SELECT count(*) FROM system.jobs WHERE job_type = 'backup' AND status = 'completed'";
        eventually("the backup is made after all", || {
            (admin.rows(made) == json!([[(round + 1).to_string()]])).then_some(())
        });
        server.kill();
        assert_restores(&backup, &folder.path().join(format!("from-{round}")), &mut model.clone(), point);
        assert_goes_on(&data, &mut model, point);
    }
}

#[test]
fn a_restore_that_dies_at_any_step_is_finished_or_leaves_what_there_was() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let mut model = with_cold_rows(&data);
    let server = Server::start_over(&data, BY_HAND);
    finish(&mut server.log_in("admin"), &format!("BACKUP DATABASE TO '{}'", backup.display()));
    let mut later = model.clone();
    change(&mut server.log_in("admin"), &mut later, 7);
    server.kill();
    for point in ["restore_begun", "restore_loaded", "restore_placed", "restore_verified", "restore_ready"] {
        let died = restore(&backup, &data, point);
        assert_eq!(died.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&died.stderr));
        let there = if point == "restore_ready" { &mut model } else { &mut later };
        assert_goes_on(&data, there, point);
    }
    // A start that dies in the middle of putting the restored data in its place is followed by one that goes on.
    for nth in 1..=4 {
        let restored = restore(&backup, &data, "");
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        if Server::dies_at_its_start(&data, BY_HAND, "swap_renamed", nth) {
            assert_goes_on(&data, &mut model, "swap_renamed");
        }
    }
}

#[test]
fn a_move_to_another_storage_that_dies_at_any_step_is_finished_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (data, far) = (folder.path().join("data"), folder.path().join("far"));
    let mut model = with_cold_rows(&data);
    let server = Server::start_over(&data, BY_HAND);
    let storage = format!("CREATE STORAGE far TYPE 'filesystem' NAME 'Far' PATH '{}'", far.display());
    server.log_in("admin").sql(&storage);
    server.kill();
    let steps = ["cold_renamed", "move_copied", "move_committed", "move_read", "move_removed"];
    for (point, to) in steps.into_iter().zip(["far", "local", "far", "local", "far"]) {
        let server = Server::start_to_die(&data, BY_HAND, point, 1);
        let mut admin = server.log_in("admin");
        admin.try_sql_or_gone(&format!("ALTER TABLE c.t SET STORAGE_ID = '{to}'"));
        write_until_it_dies(&mut admin, &mut model);
        assert_killed(server, point);
        let server = Server::start_over(&data, BY_HAND);
        let mut admin = server.log_in("admin");
        assert_holds(&mut admin, &mut model, point);
        let (near, away) = (data.join("cold/c/t"), far.join("c/t"));
        let (there, left) = if to == "far" { (away, near) } else { (near, away) };
        eventually("the old place is empty", || files_in(&left).is_empty().then_some(()));
        assert_holds(&mut admin, &mut model, point);
        assert_eq!(files_in(&there), named_files(&mut admin), "{point}");
        server.kill();
    }
}
