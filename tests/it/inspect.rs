//! `inboxdb inspect` over folders that a real server left: sound ones, and each kind of damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Server, eventually};

/// Nothing is flushed but what the test asks for.
const BY_HAND: &[&str] = &["flush.check_interval=1h"];

fn inspect(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inboxdb"));
    command.arg("inspect").arg(data).args(arguments).output().unwrap()
}

/// The findings, and whether the exit code says that there is no fault.
fn findings(data: &Path, arguments: &[&str]) -> (Value, bool) {
    let output = inspect(data, &[arguments, &["--json"]].concat());
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let code = output.status.code().unwrap();
    assert!(code == 0 || code == 1, "{output:?}");
    (found, code == 0)
}

/// The one fault: its file and reason.
fn fault(data: &Path, arguments: &[&str]) -> (String, String) {
    let (found, sound) = findings(data, arguments);
    assert!(!sound, "{found:#}");
    let faults = found["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    let text = |name: &str| faults[0][name].as_str().unwrap().to_owned();
    (text("file"), text("reason"))
}

/// A stopped server's folder: two mailboxes of 500 cold and 10 hot rows, one of them with a row deleted and one updated
/// since, and a SHARED table of 3 hot rows.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start_over(&data, BY_HAND);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY, v TEXT)");
    admin.sql("CREATE SHARED TABLE c.board (id BIGINT PRIMARY KEY); INSERT INTO c.board VALUES (1), (2), (3)");
    let mut people = ["ann", "ben"].map(|user| server.new_user(&mut admin, user, "user"));
    for person in &mut people {
        person.sql("INSERT INTO c.mail SELECT value, 'row ' || value FROM generate_series(1, 500)");
    }
    admin.sql("STORAGE FLUSH TABLE c.mail");
    let jobs = "SELECT count(*) FROM system.jobs WHERE status = 'completed' AND job_type = 'flush'";
    eventually("the flush ends", || (admin.rows(jobs) == json!([["1"]])).then_some(()));
    for person in &mut people {
        person.sql("INSERT INTO c.mail SELECT value, 'hot' FROM generate_series(1001, 1010)");
    }
    people[0].sql("DELETE FROM c.mail WHERE id = 7; UPDATE c.mail SET v = 'new' WHERE id = 8");
    server.kill();
    (folder, data)
}

/// Everything under a folder: path → bytes. Without `hot`, whose engine replays its journal.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true if path.ends_with("hot") => {}
            true => {
                found.insert(path.clone(), Vec::new());
                found.extend(content(&path));
            }
            false => {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The segment's file of a user.
fn segment(data: &Path, user: &str) -> PathBuf {
    let is_segment = |path: &PathBuf| {
        path.extension().is_some_and(|end| end == "parquet") && path.components().any(|part| part.as_os_str() == user)
    };
    content(&data.join("cold")).into_keys().find(is_segment).unwrap()
}

#[test]
fn a_sound_folder_is_shown_and_left_as_it_is() {
    let (_folder, data) = folder();
    fs::create_dir_all(data.join("spool/elsewhere")).unwrap();
    let before = content(&data);
    let (found, sound) = findings(&data, &[]);
    assert!(sound, "{found:#}");
    assert_eq!(content(&data), before);
    assert_eq!((&found["format"], &found["faults"]), (&json!(6), &json!([])));
    assert_eq!(found["verified"]["segments"], 2);
    assert_eq!(found["verified"]["rows"], 1_000);
    let tables = found["tables"].as_array().unwrap();
    let figures = |table: &Value| {
        ["table", "partitions", "hot_rows", "hot_tombstones", "segments", "cold_rows", "deleted_rows"]
            .map(|name| table[name].clone())
    };
    assert_eq!(figures(&tables[0]), [json!("c.board"), json!(1), json!(3), json!(0), json!(0), json!(0), json!(0)]);
    assert_eq!(figures(&tables[1]), [json!("c.mail"), json!(2), json!(21), json!(1), json!(2), json!(1000), json!(2)]);
    let storage = &found["storages"][0];
    assert_eq!((&storage["id"], &storage["segments"]), (&json!("local"), &json!(2)));
    assert_eq!(storage["bytes"], found["verified"]["bytes"]);
    let keyspaces = found["hot"]["keyspaces"].as_array().unwrap();
    let manifest = keyspaces.iter().find(|keyspace| keyspace["name"] == "manifest").unwrap();
    assert_eq!(manifest["entries"], 4, "a head and a segment each");
    // A server finds it as it was.
    let server = Server::start_over(&data, BY_HAND);
    assert_eq!(server.log_in("ann").rows("SELECT count(*) FROM c.mail"), json!([["509"]]));
}

#[test]
fn people_read_it_in_a_terminal() {
    let (_folder, data) = folder();
    let output = inspect(&data, &["--table", "C.Mail"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains('\x1b') && text.lines().all(|line| line == line.trim_end()), "{text}");
    assert!(!text.contains("c.board"), "{text}");
    for part in ["format 6, ", "  ✓ 2 segments are as they were written: 1,000 rows, ", "  ✓ no faults\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let line = |start: &str| -> Vec<&str> {
        text.lines().find(|line| line.trim_start().starts_with(start)).unwrap().split_whitespace().collect()
    };
    assert_eq!(line("c.mail")[1..8], ["user", "local", "2", "21", "2", "1,000", "2"]);
    assert_eq!(line("ann")[1..5], ["11", "1", "500", "2"]);
    assert_eq!(line("ben")[1..5], ["10", "1", "500", "0"]);
    let unread = inspect(&data, &["--no-verify"]);
    assert!(String::from_utf8(unread.stdout).unwrap().contains("segments were not read: --no-verify"));
    let output = inspect(&data, &["--table", "c.male"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("there is no table 'c.male'"));
}

#[test]
fn each_damage_of_a_file_is_told_with_its_reason() {
    let (_folder, data) = folder();
    let path = segment(&data, "ann");
    let shown = format!("local: {}", path.strip_prefix(data.join("cold")).unwrap().display());
    let whole = fs::read(&path).unwrap();

    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    fs::write(&path, &flipped).unwrap();
    let (file, reason) = fault(&data, &[]);
    assert_eq!(file, shown);
    assert!(reason.contains("are not what was written"), "{reason}");
    assert!(findings(&data, &["--no-verify"]).1, "not read, so not found");
    assert!(findings(&data, &["--table", "c.board"]).1, "another table's");

    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    for arguments in [&[][..], &["--no-verify"]] {
        let expected = format!("it has {} bytes instead of {}", whole.len() - 1, whole.len());
        assert_eq!(fault(&data, arguments), (shown.clone(), expected));
    }

    fs::remove_file(&path).unwrap();
    for arguments in [&[][..], &["--no-verify"], &["--table", "c.mail"]] {
        assert_eq!(fault(&data, arguments), (shown.clone(), "the file is missing".to_owned()));
    }
    let output = inspect(&data, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("  ✗ {shown}\n      the file is missing\n")), "{text}");
    assert!(text.contains("  ✓ 1 segment is as it was written: 500 rows, "), "{text}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("inboxdb: 1 fault found"));
    fs::write(&path, &whole).unwrap();

    // A file that no manifest names, whole or on its way; others than ours are nobody's business.
    let folder = path.parent().unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    assert!(findings(&data, &[]).1);
    let table = path.file_name().unwrap().to_string_lossy().split_once('-').unwrap().0.to_owned();
    for name in [format!("{table}-00000000000000aa.parquet"), format!("{table}-00000000000000aa.parquet.tmp")] {
        let orphan = folder.join(&name);
        fs::write(&orphan, "left").unwrap();
        let (file, reason) = fault(&data, &["--no-verify"]);
        assert!(file.ends_with(&name) && reason.starts_with("no manifest names it"), "{file}: {reason}");
        assert!(findings(&data, &["--table", "c.board"]).1, "another table's");
        fs::remove_file(&orphan).unwrap();
    }

    fs::rename(data.join("cold"), data.join("gone")).unwrap();
    let (found, _) = findings(&data, &[]);
    let reasons: Vec<&Value> = found["faults"].as_array().unwrap().iter().map(|fault| &fault["reason"]).collect();
    assert_eq!(reasons, ["the file is missing", "the file is missing"]);
    assert!(!data.join("cold").exists(), "nothing is made");
}

#[test]
fn a_folder_that_is_in_use_or_holds_no_database_is_refused() {
    let server = Server::start(BY_HAND);
    let refused = |data: &Path| {
        let output = inspect(data, &[]);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(server.data());
    assert!(said.contains("is in use by another process"), "{said}");
    let empty = tempfile::tempdir().unwrap();
    for data in [empty.path().to_owned(), empty.path().join("nowhere")] {
        let said = refused(&data);
        assert!(said.contains("there is no database in"), "{said}");
    }
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "nothing is made");
}
