//! Cold rows of the real program that move from one storage to another: nothing about an answer changes, no file is left
//! behind, and nobody's rows are elsewhere than where they are to be, whenever the process is killed.
//!
//! Invariants: SG-1, SG-2, SG-3.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cold::{BY_HAND, compact, flush, text};
use crate::http::Client;
use crate::random::Random;
use crate::server::{PASSWORD, Server, Stop, eventually};

/// Segments of a table or a user, as system.manifest names them: storage and path.
fn named(admin: &mut Client, filter: &str) -> BTreeSet<(String, String)> {
    let rows = admin.rows(&format!("SELECT manifest_json FROM system.manifest WHERE {filter}"));
    let manifests = rows.as_array().unwrap().iter().map(|row| serde_json::from_str::<Value>(text(&row[0])).unwrap());
    let segments = manifests.flat_map(|manifest| manifest["segments"].as_array().unwrap().clone());
    segments.map(|segment| (text(&segment["storage"]).to_owned(), text(&segment["path"]).to_owned())).collect()
}

fn storages(admin: &mut Client, filter: &str) -> BTreeSet<String> {
    named(admin, filter).into_iter().map(|(storage, _)| storage).collect()
}

/// All files below a folder, by their paths in it.
fn files(base: &Path) -> Vec<String> {
    fn walk(base: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(base, &path, found);
            } else {
                found.push(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(base, base, &mut found);
    found.sort();
    found
}

fn segments(base: &Path) -> Vec<String> {
    files(base).into_iter().filter(|path| !path.ends_with("manifest.json")).collect()
}

fn make_storages(admin: &mut Client, folder: &Path, names: &[&str]) {
    for name in names {
        let path = folder.join(name);
        admin.sql(&format!("CREATE STORAGE {name} TYPE filesystem PATH '{}'", path.display()));
    }
}

/// Waits until no move is under way; how the latest ended.
fn moved(admin: &mut Client) -> String {
    let sql = "SELECT status, message FROM system.jobs WHERE job_type = 'move' ORDER BY created_at DESC";
    eventually("the moves end", || {
        let jobs = admin.rows(sql);
        let open = |row: &Value| ["new", "queued", "running", "retrying"].contains(&text(&row[0]));
        let ended = !jobs.as_array().unwrap().iter().any(open);
        ended.then(|| format!("{} {}", text(&jobs[0][0]), jobs[0][1]))
    })
}

#[test]
fn a_table_moves_beside_its_writes_and_reads() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(BY_HAND);
    let mut admin = server.set_up();
    make_storages(&mut admin, folder.path(), &["a", "b"]);
    admin.sql("CREATE NAMESPACE m; CREATE USER TABLE m.mail (id BIGINT PRIMARY KEY, v TEXT) WITH (STORAGE_ID = 'a')");
    server.new_user(&mut admin, "ann", "user");
    for user in ["admin", "ann"] {
        let mut client = server.log_in(user);
        client.sql("INSERT INTO m.mail SELECT value, 'row ' || value FROM generate_series(1, 3000)");
        client.sql("DELETE FROM m.mail WHERE id = 7");
    }
    flush(&server, "m.mail");
    assert_eq!(segments(&folder.path().join("a")).len(), 2);
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let stop = Stop(&done);
        let writer = threads.spawn(|| {
            let mut client = server.log_in("ann");
            let mut written = 0;
            while !done.load(Ordering::Acquire) {
                written += 1;
                // However long the moves take, a row that is there.
                client.sql(&format!("UPDATE m.mail SET v = 'new' WHERE id = {}", 101 + (written - 1) % 2_900));
                client.sql(&format!("INSERT INTO m.mail VALUES ({}, 'more')", 10_000 + written));
                let there = client.rows("SELECT count(*), sum(CASE WHEN v = 'new' THEN 1 END) FROM m.mail");
                assert_eq!(there, json!([[(2_999 + written).to_string(), written.min(2_900).to_string()]]));
            }
            written
        });
        for target in ["b", "a", "b"] {
            let answer = admin.sql(&format!("ALTER TABLE m.mail SET STORAGE_ID = '{target}'"))[0]["message"].take();
            assert!(text(&answer).contains(&format!("STORAGE_ID is {target} now")), "{answer}");
            assert!(text(&answer).contains("Files are moved by job MV-"), "{answer}");
            flush(&server, "m.mail");
            compact(&server, "m.mail");
            let outcome = moved(&mut admin);
            assert!(outcome.starts_with("completed"), "{outcome}");
            assert_eq!(storages(&mut admin, "true"), BTreeSet::from([target.to_owned()]));
        }
        drop(stop);
        assert!(writer.join().unwrap() > 0);
    });
    assert_eq!(files(&folder.path().join("a")), [""; 0], "nothing is left behind");
    flush(&server, "m.mail");
    let there: Vec<String> = named(&mut admin, "true").into_iter().map(|(_, path)| path).collect();
    assert_eq!(segments(&folder.path().join("b")), there);
    // Who asks for what is so already starts nothing, and an empty storage can go.
    let again = admin.sql("ALTER TABLE m.mail SET STORAGE_ID = 'b'")[0]["message"].take();
    assert_eq!(again, "Table m.mail unchanged: STORAGE_ID is b already (version 4)");
    assert_eq!(admin.refused("ALTER TABLE m.mail SET STORAGE_ID = 'nowhere'").sqlstate, "42704");
    admin.sql("DROP STORAGE a");
    let failure = admin.refused("DROP STORAGE b");
    assert_eq!((failure.sqlstate.as_str(), failure.message.contains("1 table(s)")), ("2BP01", true), "{failure}");
    admin.sql("DROP TABLE m.mail");
    eventually("the files go", || files(&folder.path().join("b")).is_empty().then_some(()));
}

#[test]
fn a_move_that_is_killed_anywhere_goes_on_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("move"));
    let mut server = Server::start_over(&data, BY_HAND);
    let mut admin = server.set_up();
    make_storages(&mut admin, folder.path(), &["a", "b"]);
    admin.sql("CREATE NAMESPACE m; CREATE TABLE m.t (id BIGINT PRIMARY KEY, v TEXT) WITH (STORAGE_ID = 'a')");
    let mut rows = 0;
    for round in 0..8 {
        let mut admin = server.log_in("admin");
        let (from, to) = (rows + 1, rows + 5_000);
        admin.sql(&format!("INSERT INTO m.t SELECT value, 'row ' || value FROM generate_series({from}, {to})"));
        rows = to;
        flush(&server, "m.t");
        let target = ["b", "a"][round % 2];
        admin.sql(&format!("ALTER TABLE m.t SET STORAGE_ID = '{target}'"));
        admin.sql(&format!("UPDATE m.t SET v = 'new' WHERE id = {from}"));
        std::thread::sleep(Duration::from_micros(random.within(0..40_000)));
        server.kill();
        server = Server::start_over(&data, BY_HAND);
        let mut admin = server.log_in("admin");
        let sums = admin.rows("SELECT count(*), sum(id), sum(CASE WHEN v = 'new' THEN 1 END) FROM m.t");
        let expected = [rows, rows * (rows + 1) / 2, rows / 5_000];
        assert_eq!(sums, json!([expected.map(|n: i64| n.to_string())]));
        // Every other move is left to what comes next.
        if random.one_in(2) {
            let outcome = moved(&mut admin);
            assert!(outcome.starts_with("completed") || outcome.starts_with("skipped"), "{outcome}");
            assert_eq!(storages(&mut admin, "true"), BTreeSet::from([target.to_owned()]));
        }
    }
    let mut admin = server.log_in("admin");
    moved(&mut admin);
    admin.sql("INSERT INTO m.t VALUES (0, 'last')");
    flush(&server, "m.t");
    assert_eq!(storages(&mut admin, "true"), BTreeSet::from(["a".to_owned()]));
    let there: Vec<String> = named(&mut admin, "true").into_iter().map(|(_, path)| path).collect();
    assert_eq!(segments(&folder.path().join("a")), there, "every file is in the manifest, and the other way round");
    assert_eq!(segments(&folder.path().join("b")), [""; 0]);
}

#[test]
fn each_users_rows_lie_in_their_own_storage() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(BY_HAND);
    let mut admin = server.set_up();
    make_storages(&mut admin, folder.path(), &["eu", "us", "asia"]);
    let at = |name: &str| segments(&folder.path().join(name)).len();
    admin.sql(
        "CREATE NAMESPACE m; CREATE USER TABLE m.mail (id BIGINT PRIMARY KEY, v TEXT) WITH (USE_USER_STORAGE = true)",
    );
    admin.sql("CREATE USER TABLE m.other (id BIGINT PRIMARY KEY)");
    admin.sql(&format!("CREATE USER ann WITH PASSWORD '{PASSWORD}' ROLE user STORAGE_ID 'eu'"));
    admin.sql(&format!("CREATE USER ben WITH PASSWORD '{PASSWORD}' ROLE user STORAGE_MODE region STORAGE_ID 'us'"));
    admin.sql(&format!("CREATE USER cat WITH PASSWORD '{PASSWORD}' ROLE user"));
    for user in ["ann", "ben", "cat"] {
        let mut client = server.log_in(user);
        client.sql("INSERT INTO m.mail SELECT value, 'x' FROM generate_series(1, 1000)");
        client.sql("INSERT INTO m.other VALUES (1)");
    }
    flush(&server, "m.mail");
    flush(&server, "m.other");
    let of = |admin: &mut Client, user: &str| storages(admin, &format!("scope = '{user}' AND table_name = 'mail'"));
    let only = |name: &str| BTreeSet::from([name.to_owned()]);
    for (user, storage) in [("ann", "eu"), ("ben", "us"), ("cat", "local")] {
        assert_eq!(of(&mut admin, user), only(storage));
    }
    assert_eq!((at("eu"), at("us")), (1, 1), "the other table does not go by it");
    let lie = "EXECUTE AS USER '*' (SELECT _user_id, _storage_id FROM m.mail WHERE id = 1 ORDER BY 1)";
    assert_eq!(admin.rows(lie), json!([["ann", "eu"], ["ben", "us"], ["cat", "local"]]));
    let users = "SELECT user_id, storage_mode, storage_id FROM system.users WHERE user_id IN ('ann', 'cat') ORDER BY 1";
    assert_eq!(admin.rows(users), json!([["ann", "region", "eu"], ["cat", "table", null]]));
    assert_eq!(admin.rows("SELECT use_user_storage FROM system.schemas WHERE table_name = 'mail'"), json!([[true]]));

    // A user's rows move with the user's storage, and nobody else's.
    let refused = |admin: &mut Client, sql: &str| admin.refused(sql).message;
    assert!(refused(&mut admin, "DROP STORAGE eu").contains("1 user(s) still using it"));
    let template = "ALTER STORAGE eu SET USER_TABLES_TEMPLATE 'x/{namespace}/{tableName}/{userId}'";
    assert!(refused(&mut admin, template).contains("1 user(s) still using it"));
    admin.sql("ALTER USER ann SET STORAGE_ID 'asia'");
    assert!(moved(&mut admin).starts_with("completed"));
    assert_eq!(of(&mut admin, "ann"), only("asia"));
    assert_eq!((files(&folder.path().join("eu")).len(), at("us"), at("asia")), (0, 1, 1));
    admin.sql("DROP STORAGE eu");
    let mut ann = server.log_in("ann");
    ann.sql("DELETE FROM m.mail WHERE id = 1; INSERT INTO m.mail VALUES (5000, 'more')");
    assert_eq!(ann.rows("SELECT count(*), sum(id) FROM m.mail"), json!([["1000", "505499"]]));
    admin.sql("ALTER USER ann SET STORAGE_MODE 'table'");
    assert!(moved(&mut admin).starts_with("completed"));
    assert_eq!(of(&mut admin, "ann"), only("local"));
    assert!(refused(&mut admin, "DROP STORAGE asia").contains("1 user(s)"), "it is remembered");
    admin.sql("ALTER USER ann SET STORAGE_MODE 'region'");
    assert!(moved(&mut admin).starts_with("completed"));
    assert_eq!(of(&mut admin, "ann"), only("asia"));
    // With the table: off, and on again.
    admin.sql("ALTER TABLE m.mail SET USE_USER_STORAGE = false");
    assert!(moved(&mut admin).starts_with("completed"));
    assert_eq!(storages(&mut admin, "true"), only("local"));
    assert_eq!((at("us"), at("asia")), (0, 0));
    admin.sql("ALTER TABLE m.mail SET USE_USER_STORAGE = true");
    assert!(moved(&mut admin).starts_with("completed"));
    assert_eq!((at("us"), at("asia")), (1, 1));
    assert_eq!(ann.rows("SELECT count(*), sum(id) FROM m.mail"), json!([["1000", "505499"]]));
    // Whatever goes is looked for wherever it may be.
    for sql in [
        "ALTER USER ann SET STORAGE_ID 'nowhere'",
        "ALTER USER nobody SET STORAGE_ID 'us'",
        "ALTER USER cat SET STORAGE_MODE region",
        "ALTER USER cat SET STORAGE_MODE moon",
        "CREATE USER dan WITH INTERNAL ROLE user STORAGE_ID 'nowhere'",
    ] {
        assert!(!refused(&mut admin, sql).is_empty());
    }
    assert_eq!(ann.refused("ALTER USER ann SET STORAGE_ID 'us'").code, "PERMISSION_DENIED");
    admin.sql(&format!("DROP USER ben; CREATE USER ben WITH PASSWORD '{PASSWORD}' ROLE user"));
    assert_eq!(at("us"), 0, "the mailbox was erased");
    admin.sql("DROP TABLE m.mail");
    eventually("the files go", || (at("asia") == 0).then_some(()));
}

#[test]
fn what_is_damaged_stays_where_it_is_and_the_rest_moves() {
    let folder = tempfile::tempdir().unwrap();
    let settings: Vec<&str> = BY_HAND.iter().copied().chain(["jobs.max_retries=1"]).collect();
    let server = Server::start(&settings);
    let mut admin = server.set_up();
    make_storages(&mut admin, folder.path(), &["a", "b"]);
    admin.sql("CREATE NAMESPACE m; CREATE USER TABLE m.mail (id BIGINT PRIMARY KEY, v TEXT) WITH (STORAGE_ID = 'a')");
    for user in ["ann", "ben"] {
        let mut client = server.new_user(&mut admin, user, "user");
        client.sql("INSERT INTO m.mail SELECT value, 'row ' || value FROM generate_series(1, 2000)");
    }
    flush(&server, "m.mail");
    let path = folder.path().join("a").join(&named(&mut admin, "scope = 'ann'").first().unwrap().1);
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    admin.sql("ALTER TABLE m.mail SET STORAGE_ID = 'b'");
    let outcome = moved(&mut admin);
    assert!(outcome.starts_with("failed") && outcome.contains("its checksum is"), "{outcome}");
    assert_eq!(storages(&mut admin, "scope = 'ann'"), BTreeSet::from(["a".to_owned()]));
    assert_eq!(storages(&mut admin, "scope = 'ben'"), BTreeSet::from(["b".to_owned()]));
    assert_eq!(segments(&folder.path().join("b")).len(), 1, "no copy of what is damaged");
    let failure = admin.refused("DROP STORAGE a");
    assert!(failure.message.contains("1 move(s) of tables' files still using it"), "{failure}");
    // Put back from a backup, it is asked for again.
    std::fs::write(&path, &whole).unwrap();
    let answer = admin.sql("ALTER TABLE m.mail SET STORAGE_ID = 'b'")[0]["message"].take();
    assert!(
        text(&answer).contains("unchanged: STORAGE_ID is b already (version 2). Files are moved by job MV-"),
        "{answer}"
    );
    assert!(moved(&mut admin).starts_with("completed"));
    assert_eq!(storages(&mut admin, "true"), BTreeSet::from(["b".to_owned()]));
    assert_eq!(server.log_in("ann").rows("SELECT count(v) FROM m.mail"), json!([["2000"]]));
    assert_eq!(files(&folder.path().join("a")), [""; 0]);
}
