//! Backups of the real program, made while writers go on, and brought back: by SQL and a restart, and without a server.
//!
//! Invariants: what comes back is one moment, in which whatever was acknowledged before the backup began is there; a damaged
//! backup is found out before anything is changed; whenever the process is killed, a folder is a whole backup or none, and a
//! data folder what it was or what the backup holds.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::Client;
use crate::random::Random;
use crate::server::{Server, eventually};

const SETTINGS: &[&str] = &["flush.check_interval=1h", "jobs.retry_backoff=1ms", "jobs.max_retries=2"];

fn text(cell: &Value) -> &str {
    cell.as_str().unwrap()
}

/// Runs a statement that makes a job, and waits for its end: status and message.
fn run(client: &mut Client, admin: &mut Client, statement: &str) -> (String, String) {
    let message = client.sql(statement)[0]["message"].take();
    let job = job_of(text(&message));
    ended(admin, &job)
}

fn job_of(message: &str) -> String {
    let (_, job) = message.split_once("Job ID: ").unwrap_or_else(|| panic!("{message}"));
    job.split(". ").next().unwrap().to_owned()
}

fn ended(admin: &mut Client, job: &str) -> (String, String) {
    let sql = format!("SELECT status, message FROM system.jobs WHERE job_id = '{job}'");
    let open = ["new", "queued", "running", "retrying"];
    eventually("the job ends", || {
        let row = admin.rows(&sql)[0].take();
        (!open.contains(&text(&row[0]))).then(|| (text(&row[0]).to_owned(), row[1].as_str().unwrap_or("").to_owned()))
    })
}

fn completed(admin: &Server, statement: &str) -> String {
    let mut client = admin.log_in("admin");
    let (status, message) = run(&mut client, &mut admin.log_in("admin"), statement);
    assert_eq!(status, "completed", "{statement}: {message}");
    message
}

fn stop(mut server: Server) {
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}

fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_inboxdb")).args(args).output().unwrap()
}

fn restore(from: &Path, data: &Path) -> Output {
    program(&["restore", "--from", from.to_str().unwrap(), "--data", data.to_str().unwrap()])
}

fn restored(from: &Path, data: &Path) -> String {
    let output = restore(from, data);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn count(client: &mut Client, from: &str) -> i64 {
    text(&client.rows(&format!("SELECT count(*) FROM {from}"))[0][0]).parse().unwrap()
}

/// Everything below a folder, by relative path.
fn tree(folder: &Path) -> BTreeMap<PathBuf, fs::Metadata> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path().strip_prefix(folder).unwrap().to_owned(), meta);
        }
    }
    found
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (path, meta) in tree(from) {
        if meta.is_dir() {
            fs::create_dir_all(to.join(path)).unwrap();
        } else {
            fs::create_dir_all(to.join(&path).parent().unwrap()).unwrap();
            fs::copy(from.join(&path), to.join(&path)).unwrap();
        }
    }
}

fn replaced(data: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("replaced-")).collect()
}

fn is_sound(data: &Path) {
    let output = program(&["inspect", data.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Tables with hot, cold, changed and deleted rows, and one that was dropped.
fn fill(server: &Server, admin: &mut Client) {
    admin.sql("CREATE NAMESPACE b; CREATE USER TABLE b.mail (id BIGINT PRIMARY KEY, v TEXT)");
    admin.sql("CREATE SHARED TABLE b.news (id BIGINT PRIMARY KEY, v TEXT) WITH (ACCESS_LEVEL = 'public')");
    admin.sql("CREATE USER TABLE b.old (id BIGINT PRIMARY KEY, v TEXT)");
    let mut ann = server.new_user(admin, "ann", "user");
    let mut ben = server.new_user(admin, "ben", "user");
    for client in [&mut ann, &mut ben] {
        client.sql("INSERT INTO b.mail SELECT value, 'first ' || value FROM generate_series(1, 3000)");
        client.sql("INSERT INTO b.old SELECT value, 'old' FROM generate_series(1, 100)");
    }
    admin.sql("INSERT INTO b.news SELECT value, 'news ' || value FROM generate_series(1, 500)");
    for table in ["b.mail", "b.news", "b.old"] {
        completed(server, &format!("STORAGE FLUSH TABLE {table}"));
    }
    ann.sql("UPDATE b.mail SET v = 'changed' WHERE id % 10 = 0; DELETE FROM b.mail WHERE id % 7 = 0");
    ann.sql("INSERT INTO b.mail SELECT value, 'second ' || value FROM generate_series(4001, 4500)");
    admin.sql("DELETE FROM b.news WHERE id <= 20; DROP TABLE b.old");
    admin.sql("ALTER TABLE b.news ADD COLUMN n INT DEFAULT 5");
}

const QUESTIONS: &[(&str, &str)] = &[
    ("ann", "SELECT id, v, _seq FROM b.mail ORDER BY id"),
    ("ben", "SELECT id, v, _seq FROM b.mail ORDER BY _seq"),
    ("ben", "SELECT id, v, n FROM b.news ORDER BY id"),
    ("ann", "SELECT count(*) FROM b.mail WHERE _deleted"),
    ("admin", "SELECT table_name FROM system.tables WHERE namespace_id = 'b' ORDER BY table_name"),
    ("admin", "SELECT user_id, role FROM system.users ORDER BY user_id"),
];

fn answers(server: &Server) -> Vec<Value> {
    QUESTIONS.iter().map(|(user, sql)| server.log_in(user).rows(sql)).collect()
}

fn is_answered_as(server: &Server, before: &[Value]) {
    for ((user, sql), (now, before)) in QUESTIONS.iter().zip(answers(server).iter().zip(before)) {
        assert!(now == before, "{user}: {sql} answers otherwise");
    }
}

/// Writes to two tables in turn until it is told to stop; says how many are acknowledged.
fn write_on(mut client: Client, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicI64>) {
    let mut id = 0;
    while !stop.load(Ordering::SeqCst) {
        id += 1;
        client.sql(&format!("INSERT INTO b.one VALUES ({id}, 'x')"));
        client.sql(&format!("INSERT INTO b.two VALUES ({id}, 'x')"));
        acknowledged.store(id, Ordering::SeqCst);
    }
}

#[test]
fn a_backup_is_one_moment_and_comes_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("deep/backup"));
    let server = Server::start_over(&data, SETTINGS);
    let mut admin = server.set_up();
    fill(&server, &mut admin);
    for table in ["one", "two"] {
        admin.sql(&format!("CREATE USER TABLE b.{table} (id BIGINT PRIMARY KEY, v TEXT)"));
    }
    let before = answers(&server);
    let stopping = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for user in ["ann", "ben"] {
        let acknowledged = Arc::new(AtomicI64::new(0));
        let (client, stop, told) = (server.log_in(user), stopping.clone(), acknowledged.clone());
        writers.push((user, acknowledged, std::thread::spawn(move || write_on(client, stop, told))));
    }
    let acknowledged = |writers: &[(&str, Arc<AtomicI64>, _)]| -> Vec<i64> {
        writers.iter().map(|(_, acknowledged, _)| acknowledged.load(Ordering::SeqCst)).collect()
    };
    eventually("they write", || acknowledged(&writers).iter().all(|n| *n > 20).then_some(()));
    let began = acknowledged(&writers);
    let message = completed(&server, &format!("BACKUP DATABASE TO '{}'", backup.display()));
    assert!(message.contains("segments") && message.contains(backup.to_str().unwrap()), "{message}");
    let finished = acknowledged(&writers);
    eventually("they go on writing", || {
        acknowledged(&writers).iter().zip(&finished).all(|(n, was)| n > was).then_some(())
    });
    stopping.store(true, Ordering::SeqCst);
    let users: Vec<&str> = writers.iter().map(|(user, ..)| *user).collect();
    for (_, _, writer) in writers {
        writer.join().unwrap();
    }

    // Everything moves on.
    server.log_in("ann").sql("UPDATE b.mail SET v = 'later' WHERE id > 0; INSERT INTO b.mail VALUES (9999, 'later')");
    server.log_in("ben").sql("DELETE FROM b.mail WHERE id < 2000");
    completed(&server, "STORAGE FLUSH TABLE b.mail");
    completed(&server, "STORAGE COMPACT TABLE b.mail");
    admin.sql("DROP TABLE b.news; CREATE TABLE b.fresh (id BIGINT PRIMARY KEY)");
    let late = server.new_user(&mut admin, "late", "user");
    let newest: i64 = text(&server.log_in("ann").rows("SELECT max(_seq) FROM b.one")[0][0]).parse().unwrap();

    let started = admin.sql(&format!("RESTORE DATABASE FROM '{}'", backup.display()))[0]["message"].take();
    assert!(text(&started).contains("a restart of the server is required"), "{started}");
    let (status, message) = ended(&mut admin, &job_of(text(&started)));
    assert!(status == "completed" && message.contains("restart the server"), "{status} {message}");
    assert_eq!(server.log_in("ann").rows("SELECT v FROM b.mail WHERE id = 9999"), json!([["later"]]), "until then");
    stop(server);

    let server = Server::start_over(&data, SETTINGS);
    assert!(server.log().contains("the database was restored from a backup"), "{}", server.log());
    is_answered_as(&server, &before);
    for (i, user) in users.iter().enumerate() {
        let mut client = server.log_in(user);
        let rows = client.rows("SELECT count(*), min(id), max(id) FROM b.one")[0].take();
        let (n, m) = (count(&mut client, "b.one"), count(&mut client, "b.two"));
        assert_eq!(rows, json!([n.to_string(), "1", n.to_string()]), "{user}: what is there is the beginning");
        assert!(m <= n && n <= m + 1, "{user}: {n} and {m} are not of one moment");
        assert!(began[i] <= m && m <= finished[i] + 1, "{user}: {m} is not between {} and {}", began[i], finished[i]);
    }
    // Tokens of before are refused: they may be of users who came later.
    for token in [&admin, &late] {
        let mut client = server.client();
        client.authorization.clone_from(&token.authorization);
        assert_eq!(client.refused("SELECT 1").status, 401);
    }
    let mut ann = server.log_in("ann");
    ann.sql("INSERT INTO b.one VALUES (1000000, 'behind')");
    let seq: i64 = text(&ann.rows("SELECT max(_seq) FROM b.one")[0][0]).parse().unwrap();
    assert!(seq > newest, "{seq} was given before: {newest}");
    stop(server);
    is_sound(&data);
    let kept = replaced(&data);
    assert_eq!(kept.len(), 1, "{kept:?}");
    is_sound(&kept[0]);
}

#[test]
fn a_backup_is_private_and_says_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    fs::create_dir(&backup).unwrap();
    // One job at a time: what reads files waits for no other.
    let server = Server::start(&[SETTINGS, &["jobs.max_concurrent=1"]].concat());
    let mut admin = server.set_up();
    fill(&server, &mut admin);
    completed(&server, "STORAGE COMPACT TABLE b.mail");
    completed(&server, &format!("BACKUP DATABASE TO '{}'", backup.display()));
    assert!(!folder.path().join("backup.partial").exists());
    for (path, meta) in tree(&backup) {
        assert_eq!(meta.permissions().mode() & 0o077, 0, "{}", path.display());
    }
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o077, 0);
    let index: Value = serde_json::from_slice(&fs::read(backup.join("backup.json")).unwrap()).unwrap();
    let files = index["files"].as_array().unwrap();
    let named: Vec<PathBuf> = files.iter().map(|file| PathBuf::from(text(&file["path"]))).collect();
    for (path, meta) in tree(&backup) {
        let known = named.iter().position(|name| *name == path);
        assert!(meta.is_dir() || path == Path::new("backup.json") || known.is_some(), "{}", path.display());
        if let Some(known) = known {
            assert_eq!(files[known]["bytes"], meta.len());
        }
    }
    // With the two that the server made.
    assert_eq!(index["tables"].as_array().unwrap().len(), 4, "{}", index["tables"]);
    assert!(files.iter().any(|file| file["kind"] == "segment"), "{files:?}");
    let again = admin.refused(&format!("BACKUP DATABASE TO '{}'", backup.display()));
    assert_eq!((again.code.as_str(), again.sqlstate.as_str()), ("BACKUP_FAILED", "58030"));
    assert!(again.message.contains("there is something in it"), "{again}");
    let inside = admin.refused(&format!("BACKUP DATABASE TO '{}'", server.data().join("x/y").display()));
    assert!(inside.message.contains("it lies in the data folder"), "{inside}");
    fs::create_dir(folder.path().join("other.partial")).unwrap();
    fs::write(folder.path().join("other.partial/mine"), "x").unwrap();
    let in_the_way = admin.refused(&format!("BACKUP DATABASE TO '{}'", folder.path().join("other").display()));
    assert!(in_the_way.message.contains("is in the way"), "{in_the_way}");
}

#[test]
fn a_dead_machines_backup_comes_back_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let (backup, outside) = (folder.path().join("backup"), folder.path().join("outside"));
    let server = Server::start(SETTINGS);
    let mut admin = server.set_up();
    fill(&server, &mut admin);
    admin.sql(&format!("CREATE STORAGE far TYPE filesystem PATH '{}'", outside.display()));
    admin.sql("CREATE STORAGE near TYPE filesystem PATH 'shelf/near'");
    for storage in ["far", "near"] {
        admin.sql(&format!("CREATE TABLE b.{storage} (id BIGINT PRIMARY KEY, v TEXT) WITH (STORAGE_ID = '{storage}')"));
        admin.sql(&format!("INSERT INTO b.{storage} SELECT value, 'v' FROM generate_series(1, 200)"));
        completed(&server, &format!("STORAGE FLUSH TABLE b.{storage}"));
    }
    let before = answers(&server);
    completed(&server, &format!("BACKUP DATABASE TO '{}'", backup.display()));
    // A backup is not touched by what becomes of the original.
    let used = restore(&backup, server.data());
    assert!(!used.status.success() && String::from_utf8_lossy(&used.stderr).contains("in use"), "{used:?}");
    admin.sql("DROP TABLE b.far");
    eventually("its files go", || tree(&outside).values().all(fs::Metadata::is_dir).then_some(()));
    stop(server);

    let data = folder.path().join("new/data");
    let said = restored(&backup, &data);
    assert!(said.contains("restored the backup of"), "{said}");
    assert!(replaced(&data).is_empty());
    // A storage that is out of reach keeps the server from starting; nothing is lost by that.
    fs::remove_dir_all(&outside).unwrap();
    fs::write(&outside, "").unwrap();
    let failed = Server::try_start_over(&data, SETTINGS).err().unwrap();
    assert!(failed.contains(outside.to_str().unwrap()), "{failed}");
    fs::remove_file(&outside).unwrap();
    let server = Server::start_over(&data, SETTINGS);
    is_answered_as(&server, &before);
    let mut admin = server.log_in("admin");
    for table in ["b.far", "b.near"] {
        assert_eq!(admin.rows(&format!("SELECT count(*), sum(id) FROM {table}")), json!([["200", "20100"]]), "{table}");
    }
    assert!(!data.join("incoming").exists());
    admin.sql("DELETE FROM b.near WHERE id > 0");
    stop(server);
    is_sound(&data);
    // Over what is there now; the files outside are what they should be.
    let said = restored(&backup, &data);
    assert!(said.contains("what was there before is in"), "{said}");
    assert!(replaced(&data)[0].join("shelf/near").is_dir());
    let server = Server::start_over(&data, SETTINGS);
    assert_eq!(count(&mut server.log_in("admin"), "b.near"), 200);
    assert_eq!(count(&mut server.log_in("admin"), "b.far"), 200);
}

#[test]
fn damage_anywhere_is_found_before_anything_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    let server = Server::start(&[SETTINGS, &["jobs.max_retries=0"]].concat());
    let mut admin = server.set_up();
    fill(&server, &mut admin);
    let before = answers(&server);
    completed(&server, &format!("BACKUP DATABASE TO '{}'", backup.display()));
    let statement = format!("RESTORE DATABASE FROM '{}'", backup.display());
    let index: Value = serde_json::from_slice(&fs::read(backup.join("backup.json")).unwrap()).unwrap();
    let mut random = Random::new(Random::seed("damage"));
    for file in index["files"].as_array().unwrap() {
        let name = text(&file["path"]);
        let (path, whole) = (backup.join(name), fs::read(backup.join(name)).unwrap());
        let mut flipped = whole.clone();
        let bit = random.within(0..whole.len() as u64 * 8) as usize;
        flipped[bit / 8] ^= 1 << (bit % 8);
        for damaged in [&flipped[..], &whole[..whole.len() - 1]] {
            fs::write(&path, damaged).unwrap();
            let (status, message) = run(&mut server.log_in("admin"), &mut admin, &statement);
            assert!(status == "failed" && message.contains(name), "{name}, bit {bit}: {status} {message}");
            assert!(!server.data().join("restore").exists());
        }
        fs::remove_file(&path).unwrap();
        let (status, message) = run(&mut server.log_in("admin"), &mut admin, &statement);
        assert!(status == "failed" && message.contains(name), "{status} {message}");
        fs::write(&path, &whole).unwrap();
    }
    let path = backup.join("backup.json");
    let whole = fs::read_to_string(&path).unwrap();
    for (damaged, fault) in [
        (whole.replacen("\"bytes\": ", "\"bytes\": 1", 1), "its checksum is another"),
        (whole.replacen("\"backup_format\": 1", "\"backup_format\": 2", 1), "it has backup format 2"),
        (whole.replacen("\"data_format\": ", "\"data_format\": 9", 1), "it has data format 9"),
        (whole[..whole.len() / 2].to_owned(), "backup.json is damaged"),
    ] {
        fs::write(&path, damaged).unwrap();
        let refused = admin.refused(&statement);
        assert!(refused.code == "BACKUP_FAILED" && refused.message.contains(fault), "{refused}");
        let offline = restore(&backup, &folder.path().join("nothing"));
        assert!(String::from_utf8_lossy(&offline.stderr).contains(fault), "{offline:?}");
    }
    fs::remove_file(&path).unwrap();
    assert!(admin.refused(&statement).message.contains("it has no backup.json"));
    fs::write(&path, &whole).unwrap();
    is_answered_as(&server, &before);
    completed(&server, &statement);
}

#[test]
fn a_killed_backup_leaves_nothing_and_a_cut_off_one_is_made_after_all() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // As often as it is cut off.
    let patient = [SETTINGS, &["jobs.max_retries=20"]].concat();
    let server = Server::start_over(&data, &patient);
    let mut admin = server.set_up();
    fill(&server, &mut admin);
    admin.sql("CREATE TABLE b.big (id BIGINT PRIMARY KEY, v TEXT)");
    for part in 0..4 {
        let (from, to) = (part * 20_000 + 1, (part + 1) * 20_000);
        let select = format!("SELECT value, 'row of a big table ' || value FROM generate_series({from}, {to})");
        admin.sql(&format!("INSERT INTO b.big {select}"));
    }
    let before = answers(&server);
    let killed = (0..20).any(|n| {
        let place = folder.path().join(format!("killed-{n}"));
        let partial = folder.path().join(format!("killed-{n}.partial"));
        let message = admin.sql(&format!("BACKUP DATABASE TO '{}'", place.display()))[0]["message"].take();
        let job = job_of(text(&message));
        eventually("it begins", || (partial.exists() || place.exists()).then_some(()));
        // It may have been faster.
        let killed = admin.try_sql(&json!({ "sql": format!("KILL JOB '{job}'") })).is_ok();
        if killed {
            eventually("nothing is left", || (!partial.exists()).then_some(()));
            assert!(!place.exists(), "it ended, and was killed");
        }
        killed
    });
    assert!(killed, "no backup was slow enough to be killed");

    let mut server = server;
    let mut random = Random::new(Random::seed("kills"));
    let backup = folder.path().join("backup");
    let partial = folder.path().join("backup.partial");
    server.log_in("admin").sql(&format!("BACKUP DATABASE TO '{}'", backup.display()));
    for _ in 0..3 {
        eventually("it begins", || (partial.exists() || backup.exists()).then_some(()));
        std::thread::sleep(Duration::from_micros(random.within(0..60_000)));
        server.kill();
        assert!(!backup.exists() || backup.join("backup.json").exists(), "what has the name is whole");
        server = Server::start_over(&data, &patient);
    }
    eventually("it is made", || backup.exists().then_some(()));
    let new = folder.path().join("new");
    restored(&backup, &new);
    let other = Server::start_over(&new, SETTINGS);
    is_answered_as(&other, &before);
    assert_eq!(count(&mut other.log_in("admin"), "b.big"), 80_000);
    let open = "system.jobs WHERE status NOT IN ('completed', 'failed', 'skipped', 'cancelled')";
    eventually("no job came along that runs for ever", || (count(&mut other.log_in("admin"), open) == 0).then_some(()));
    let jobs = "SELECT count(*) FROM system.jobs WHERE job_type = 'backup' AND status = 'completed'";
    assert_eq!(other.log_in("admin").rows(jobs).as_array().unwrap().len(), 1);
}

#[test]
fn a_restart_that_is_killed_anywhere_is_finished_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let server = Server::start_over(&data, SETTINGS);
    let mut admin = server.set_up();
    fill(&server, &mut admin);
    let before = answers(&server);
    completed(&server, &format!("BACKUP DATABASE TO '{}'", backup.display()));
    server.log_in("ann").sql("DELETE FROM b.mail WHERE id > 0");
    completed(&server, &format!("RESTORE DATABASE FROM '{}'", backup.display()));
    // The last one counts, and is made of the same.
    completed(&server, &format!("RESTORE DATABASE FROM '{}'", backup.display()));
    server.kill();
    let mut random = Random::new(Random::seed("swap"));
    for round in 0..6 {
        let copy = folder.path().join(format!("copy-{round}"));
        copy_tree(&data, &copy);
        for _ in 0..3 {
            Server::start_and_kill(&copy, Duration::from_micros(random.within(0..40_000)));
        }
        let server = Server::start_over(&copy, SETTINGS);
        is_answered_as(&server, &before);
        assert!(!copy.join("restore").exists());
        assert_eq!(replaced(&copy).len(), 1);
    }
}

#[test]
fn what_a_restore_left_that_was_cut_off_goes_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start_over(&data, SETTINGS);
    let mut admin = server.set_up();
    fill(&server, &mut admin);
    let before = answers(&server);
    stop(server);
    fs::create_dir_all(data.join("restore/new/hot")).unwrap();
    fs::write(data.join("restore/new/hot/half"), "x").unwrap();
    let server = Server::start_over(&data, SETTINGS);
    assert!(!data.join("restore").exists());
    is_answered_as(&server, &before);
}

#[test]
fn files_that_a_backup_copies_stay_until_it_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(SETTINGS);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE d");
    for round in 0..6 {
        admin.sql(&format!("CREATE TABLE d.t{round} (id BIGINT PRIMARY KEY, v TEXT)"));
        admin.sql(&format!("INSERT INTO d.t{round} SELECT value, 'v' || value FROM generate_series(1, 5000)"));
        completed(&server, &format!("STORAGE FLUSH TABLE d.t{round}"));
        let place = folder.path().join(round.to_string());
        let message = admin.sql(&format!("BACKUP DATABASE TO '{}'", place.display()))[0]["message"].take();
        admin.sql(&format!("DROP TABLE d.t{round}"));
        let (status, message) = ended(&mut admin, &job_of(text(&message)));
        assert_eq!(status, "completed", "{message}");
        restored(&place, &folder.path().join(format!("data-{round}")));
        is_sound(&folder.path().join(format!("data-{round}")));
    }
    let open = "system.jobs WHERE job_type = 'cleanup' AND status <> 'completed'";
    eventually("the dropped tables' files are removed behind it", || (count(&mut admin, open) == 0).then_some(()));
}
