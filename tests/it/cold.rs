//! Cold rows of the real program: nothing about an answer changes when rows become cold, and nothing is lost, whenever the
//! process is killed.
//!
//! Invariants: SG-1, SG-2, SG-3, LQ-1 across the seam, LQ-3.

mod reading;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::Client;
use crate::random::Random;
use crate::server::{PASSWORD, Server, Stop, eventually};
use crate::socket::Socket;

/// Nothing is flushed but what the test asks for.
pub const BY_HAND: &[&str] = &["flush.check_interval=1h", "jobs.retry_backoff=1ms"];
/// The same, and queries over the fewest cold rows are cut into shares.
const BY_HAND_SHARED: &[&str] =
    &["flush.check_interval=1h", "jobs.retry_backoff=1ms", "datafusion.threads=3", "datafusion.rows_per_thread=1"];
/// Distinct keys: few, so that most writes meet a row that is there.
const KEYS: u64 = 400;
/// Of each of three places.
const QUERIES: usize = 72;

/// What a table ought to hold: id → (text, number).
type Model = BTreeMap<i64, (String, Option<i64>)>;

pub fn text(cell: &Value) -> &str {
    cell.as_str().unwrap()
}

/// Flushes the table and waits for it; says what became of it.
pub fn flush(server: &Server, table: &str) -> String {
    work(server, &format!("STORAGE FLUSH TABLE {table}"))
}

pub fn compact(server: &Server, table: &str) -> String {
    work(server, &format!("STORAGE COMPACT TABLE {table}"))
}

fn work(server: &Server, statement: &str) -> String {
    let mut admin = server.log_in("admin");
    let message = admin.sql(statement)[0]["message"].take();
    let Some((_, job)) = text(&message).split_once("Job ID: ") else { return text(&message).to_owned() };
    let sql = format!("SELECT status, message FROM system.jobs WHERE job_id = '{job}'");
    let open = ["new", "queued", "running", "retrying"];
    eventually("the job ends", || {
        let row = admin.rows(&sql)[0].take();
        (!open.contains(&text(&row[0]))).then(|| format!("{} {}", text(&row[0]), row[1]))
    })
}

/// One random statement, and what it does to the model.
fn write(client: &mut Client, table: &str, model: &mut Model, random: &mut Random) {
    let id = random.within(0..KEYS) as i64;
    match random.within(0..10) {
        0..=3 => {
            let fresh: Vec<i64> = (id..id + random.within(1..30) as i64).filter(|id| !model.contains_key(id)).collect();
            if fresh.is_empty() {
                assert_eq!(client.refused(&format!("INSERT INTO {table} VALUES ({id}, 'twice', 0)")).sqlstate, "23505");
                return;
            }
            let rows: Vec<String> = fresh.iter().map(|id| format!("({id}, 'text {id} é', {})", id % 7)).collect();
            client.sql(&format!("INSERT INTO {table} VALUES {}", rows.join(", ")));
            model.extend(fresh.iter().map(|id| (*id, (format!("text {id} é"), Some(id % 7)))));
        }
        4..=5 => {
            let word = format!("changed {}", random.within(0..100));
            client.sql(&format!("UPDATE {table} SET v = '{word}', n = NULL WHERE id = {id}"));
            model.entry(id).and_modify(|row| *row = (word, None));
        }
        6 => {
            client.sql(&format!("UPDATE {table} SET n = n + 1 WHERE id >= {id} AND id < {id} + 20"));
            model.range_mut(id..id + 20).for_each(|(_, row)| row.1 = row.1.map(|n| n + 1));
        }
        7..=8 => {
            client.sql(&format!("DELETE FROM {table} WHERE id = {id}"));
            model.remove(&id);
        }
        _ => {
            client.sql(&format!("DELETE FROM {table} WHERE id >= {id} AND id < {id} + 5"));
            model.retain(|other, _| !(id..id + 5).contains(other));
        }
    }
}

/// The same queries whenever they are asked for.
fn queries(table: &str, random: &mut Random) -> Vec<String> {
    let mut queries = Vec::with_capacity(QUERIES);
    while queries.len() < QUERIES {
        let (a, b, n) = (random.within(0..KEYS), random.within(1..60), random.within(0..7));
        queries.push(match queries.len() % 12 {
            0 => format!("SELECT * FROM {table} WHERE id = {a}"),
            1 => format!("SELECT * FROM {table} ORDER BY _seq DESC LIMIT {b}"),
            2 => format!("SELECT id, _seq FROM {table} ORDER BY _seq LIMIT {b}"),
            3 => format!("SELECT count(*), count(n), sum(n), min(v), max(id) FROM {table} WHERE id < {a}"),
            4 => format!("SELECT n, count(*) FROM {table} GROUP BY n ORDER BY n"),
            5 => format!("SELECT id, v FROM {table} WHERE v LIKE '%{n}%' ORDER BY id LIMIT {b}"),
            6 => format!("SELECT id FROM {table} WHERE n = {n} AND id BETWEEN {a} AND {a} + {b} ORDER BY id"),
            7 => format!(
                "SELECT a.id, b.id FROM {table} a JOIN {table} b ON b.id = a.id + {b} WHERE a.id < {a} ORDER BY 1"
            ),
            8 => format!("SELECT v, n, id FROM {table} WHERE id <> {a} ORDER BY n DESC, id LIMIT {b}"),
            9 => format!("SELECT n, count(*), sum(id), avg(n), max(v) FROM {table} WHERE id > {a} GROUP BY n"),
            10 => format!("SELECT count(*) FROM {table} WHERE _deleted AND id < {a}"),
            _ => format!(
                "SELECT id, _seq, _deleted FROM {table} WHERE _deleted IN (TRUE, FALSE) ORDER BY _seq LIMIT {b}"
            ),
        });
    }
    queries
}

fn answers(client: &mut Client, queries: &[String]) -> Vec<Value> {
    queries.iter().map(|sql| client.rows(sql)).collect()
}

fn assert_same(when: &str, queries: &[String], before: &[Value], after: &[Value]) {
    for ((sql, before), after) in queries.iter().zip(before).zip(after) {
        assert_eq!(before, after, "{when}: {sql}");
    }
}

fn assert_holds(client: &mut Client, table: &str, model: &Model) {
    let rows = client.rows(&format!("SELECT id, v, n FROM {table} ORDER BY id"));
    let expected: Vec<Value> = model.iter().map(|(id, (v, n))| json!([id.to_string(), v, n])).collect();
    assert_eq!(rows, Value::Array(expected), "{table}");
}

#[test]
fn no_answer_changes_when_rows_become_cold() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("cold"));
    let mut server = Server::start_over(&data, BY_HAND_SHARED);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY, v TEXT, n INT)");
    admin.sql("CREATE SHARED TABLE c.board (id BIGINT PRIMARY KEY, v TEXT, n INT) WITH (ACCESS_LEVEL = 'PUBLIC')");
    server.new_user(&mut admin, "ann", "user");
    server.new_user(&mut admin, "ben", "user");
    // Who writes where: the last is one table for everybody.
    let places = [("ann", "c.mail"), ("ben", "c.mail"), ("admin", "c.board")];
    let mut models = [Model::new(), Model::new(), Model::new()];
    let asked = places.map(|(_, table)| queries(table, &mut random));
    for round in 0..4 {
        for ((user, table), model) in places.iter().zip(&mut models) {
            let mut client = server.log_in(user);
            for _ in 0..60 {
                write(&mut client, table, model, &mut random);
            }
            assert_holds(&mut client, table, model);
        }
        let ask = |server: &Server| -> Vec<Vec<Value>> {
            places.iter().zip(&asked).map(|((user, _), queries)| answers(&mut server.log_in(user), queries)).collect()
        };
        let hot = ask(&server);
        for table in ["c.mail", "c.board"] {
            let flushed = flush(&server, table);
            assert!(flushed.starts_with("completed"), "{flushed}");
        }
        let cold = ask(&server);
        let plan = server.log_in("admin").rows("EXPLAIN SELECT n, count(*) FROM c.board GROUP BY n").to_string();
        assert!(plan.contains("InOrder: shares=3"), "{plan}");
        let mut compacted = None;
        if round >= 2 {
            for table in ["c.mail", "c.board"] {
                let done = compact(&server, table);
                assert!(done.starts_with("completed"), "{done}");
                let again = compact(&server, table);
                assert!(again.starts_with("Storage compaction skipped"), "{again}");
            }
            compacted = Some(ask(&server));
        }
        if round % 2 == 1 {
            server.kill();
            server = Server::start_over(&data, BY_HAND_SHARED);
        }
        let again = ask(&server);
        for (place, ((user, table), model)) in places.iter().zip(&models).enumerate() {
            assert_same("flushed", &asked[place], &hot[place], &cold[place]);
            assert_same("once more", &asked[place], &hot[place], &again[place]);
            if let Some(compacted) = &compacted {
                assert_same("compacted", &asked[place], &hot[place], &compacted[place]);
            }
            assert_holds(&mut server.log_in(user), table, model);
        }
        assert!(flush(&server, "c.mail").starts_with("Storage flush skipped"), "nothing is hot");
        if round == 3 {
            let (backup, new) = (folder.path().join("backup"), folder.path().join("new"));
            let made = work(&server, &format!("BACKUP DATABASE TO '{}'", backup.display()));
            assert!(made.starts_with("completed"), "{made}");
            let mut restore = Command::new(env!("CARGO_BIN_EXE_inboxdb"));
            let restored = restore.arg("restore").arg("--from").arg(&backup).arg("--data").arg(&new).output().unwrap();
            assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
            let other = ask(&Server::start_over(&new, BY_HAND_SHARED));
            for (place, queries) in asked.iter().enumerate() {
                assert_same("restored", queries, &hot[place], &other[place]);
            }
        }
    }
    let mut admin = server.log_in("admin");
    let segments = admin.rows("SELECT scope, manifest_json FROM system.manifest ORDER BY cache_key");
    let scopes: Vec<&str> = segments.as_array().unwrap().iter().map(|row| text(&row[0])).collect();
    assert_eq!(scopes, ["shared", "ann", "ben"]);
    let manifest: Value = serde_json::from_str(text(&segments[1][1])).unwrap();
    assert_eq!(manifest["segments"].as_array().unwrap().len(), 1, "what four flushes wrote was merged");
    assert_eq!(manifest["segments"][0]["deleted_rows"], 0);
    assert_eq!(files(&data).len(), 3, "merged files are gone");
    assert_eq!(admin.rows("SHOW MANIFEST").as_array().unwrap().len(), 3);
}

/// Takes `change` frames until `count` rows were inserted or changed: their `_seq` and id.
fn changes(socket: &mut Socket, count: usize) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let frame = socket.json();
        if frame["change_type"] == "delete" {
            continue;
        }
        for row in frame["rows"].as_array().into_iter().flatten() {
            seen.push((text(&row["_seq"]).parse().unwrap(), text(&row["id"]).to_owned()));
        }
    }
    seen
}

#[test]
fn a_resume_crosses_the_seam() {
    let server = Server::start(BY_HAND);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY, v TEXT)");
    let people = ["ann", "ben"];
    for user in people {
        server.new_user(&mut admin, user, "user");
    }
    let mut clients = people.map(|user| server.log_in(user));
    let mut id = 0;
    let mut say = |clients: &mut [Client; 2], times: usize| {
        for turn in 0..times {
            id += 1;
            clients[turn % 2].sql(&format!("INSERT INTO c.mail VALUES ({id}, 'x'), ({id} + 1000, 'y')"));
        }
    };
    say(&mut clients, 20);
    clients[0].sql("DELETE FROM c.mail WHERE id = 1; UPDATE c.mail SET v = 'z' WHERE id = 3");
    flush(&server, "c.mail");
    say(&mut clients, 10);
    clients[0].sql("UPDATE c.mail SET v = 'after' WHERE id = 5; DELETE FROM c.mail WHERE id = 7");
    flush(&server, "c.mail");
    // Of each mailbox two segments with rows that were replaced become one.
    assert!(compact(&server, "c.mail").starts_with("completed"));
    say(&mut clients, 10);
    // What is there, in order, tombstones included: what a resume from the beginning has to tell.
    let there = "FROM c.mail WHERE _deleted IN (TRUE, FALSE) ORDER BY _seq";
    let rows = |rows: Value| -> Vec<(u64, String, bool)> {
        let row = |row: &Value| (text(&row[0]).parse().unwrap(), text(&row[1]).to_owned(), row[2] == true);
        rows.as_array().unwrap().iter().map(row).collect()
    };
    let own = rows(clients[0].rows(&format!("SELECT _seq, id, _deleted {there}")));
    let all = rows(admin.rows(&format!("EXECUTE AS USER '*' (SELECT _seq, id, _deleted {there})")));
    assert_eq!((own.len(), all.len()), (40, 80));
    for (client, sql, expected) in [
        (&clients[0], "SELECT * FROM c.mail".to_owned(), &own),
        (&admin, "EXECUTE AS USER '*' (SELECT * FROM c.mail)".to_owned(), &all),
    ] {
        for from in [1, expected[expected.len() / 3].0, expected[expected.len() - 3].0] {
            let missed = expected.iter().filter(|(seq, _, deleted)| *seq > from && !deleted);
            let wanted: Vec<(u64, String)> = missed.map(|(seq, id, _)| (*seq, id.clone())).collect();
            let mut socket = Socket::open_as(server.address, client.token(), "");
            socket.subscribe("s", &sql, json!({ "from": from.to_string() }));
            let ack = socket.json();
            assert_eq!(ack["type"], "subscription_ack", "{ack}");
            assert_eq!(changes(&mut socket, wanted.len()), wanted, "{sql} from {from}");
        }
    }
}

/// Writers of one mailbox, each of keys of its own, while its rows become cold and move within the cold half all the time.
#[test]
fn writes_go_on_while_rows_become_cold() {
    let server = Server::start(BY_HAND);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY, v TEXT, n INT)");
    server.new_user(&mut admin, "ann", "user");
    let seed = Random::seed("beside");
    let done = AtomicBool::new(false);
    let models: Vec<Model> = std::thread::scope(|threads| {
        let writer = |part: i64| {
            let (server, done) = (&server, &done);
            threads.spawn(move || {
                let _stop = Stop(done);
                let mut client = server.log_in("ann");
                let mut random = Random::new(seed + part as u64);
                let mut model = Model::new();
                let base = part * 1_000;
                for turn in 0..400 {
                    let id = base + random.within(0..60) as i64;
                    let there = model.contains_key(&id);
                    match random.within(0..5) {
                        0 if there => {
                            client.sql(&format!("DELETE FROM c.mail WHERE id = {id}"));
                            model.remove(&id);
                        }
                        _ if there => {
                            client.sql(&format!("UPDATE c.mail SET n = {turn} WHERE id = {id}"));
                            model.entry(id).and_modify(|row| row.1 = Some(turn));
                        }
                        _ => {
                            client.sql(&format!("INSERT INTO c.mail VALUES ({id}, 'v', {turn})"));
                            model.insert(id, ("v".to_owned(), Some(turn)));
                        }
                    }
                }
                model
            })
        };
        let writers: Vec<_> = (0..4).map(writer).collect();
        let mut flushes = 0;
        while !done.load(Ordering::Acquire) {
            flushes += usize::from(flush(&server, "c.mail").starts_with("completed"));
            compact(&server, "c.mail");
        }
        assert!(flushes > 3, "{flushes} flushes beside the writes");
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let model: Model = models.into_iter().flatten().collect();
    assert_holds(&mut server.log_in("ann"), "c.mail", &model);
    flush(&server, "c.mail");
    compact(&server, "c.mail");
    assert_holds(&mut server.log_in("ann"), "c.mail", &model);
}

/// Files of segments in a data folder, and those on their way.
fn files(data: &Path) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if !path.ends_with("manifest.json") {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(&data.join("cold"), &mut found);
    found.sort();
    found
}

#[test]
fn a_flush_that_is_killed_anywhere_loses_nothing_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("flush"));
    let mut server = Server::start_over(&data, BY_HAND);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE TABLE c.t (id BIGINT PRIMARY KEY, v TEXT)");
    let mut rows = 0;
    for _ in 0..8 {
        let mut admin = server.log_in("admin");
        let (from, to) = (rows + 1, rows + 3_000);
        admin.sql(&format!("INSERT INTO c.t SELECT value, 'row ' || value FROM generate_series({from}, {to})"));
        rows = to;
        admin.sql("STORAGE FLUSH TABLE c.t");
        if random.one_in(2) {
            admin.sql("STORAGE COMPACT TABLE c.t");
        }
        // Some rows change while the flush is at work.
        admin.sql(&format!("UPDATE c.t SET v = 'new' WHERE id = {from}; UPDATE c.t SET v = 'new' WHERE id = {to}"));
        std::thread::sleep(Duration::from_micros(random.within(0..120_000)));
        server.kill();
        server = Server::start_over(&data, BY_HAND);
        let mut admin = server.log_in("admin");
        let sums =
            admin.rows("SELECT count(*), count(DISTINCT id), sum(id), sum(CASE WHEN v = 'new' THEN 1 END) FROM c.t");
        let expected = [rows, rows, rows * (rows + 1) / 2, rows / 1_500];
        assert_eq!(sums, json!([expected.map(|n: i64| n.to_string())]));
        assert_eq!(admin.refused(&format!("INSERT INTO c.t VALUES ({from}, 'twice')")).sqlstate, "23505");
    }
    let unfinished = "SELECT count(*) FROM system.jobs WHERE status IN ('new', 'queued', 'running', 'retrying')";
    eventually("the flushes that were cut off end", || {
        (server.log_in("admin").rows(unfinished) == json!([["0"]])).then_some(())
    });
    server.log_in("admin").sql("INSERT INTO c.t VALUES (0, 'last')");
    assert!(flush(&server, "c.t").starts_with("completed"));
    let mut admin = server.log_in("admin");
    let manifest: Value =
        serde_json::from_str(text(&admin.rows("SELECT manifest_json FROM system.manifest")[0][0])).unwrap();
    let paths = manifest["segments"].as_array().unwrap().iter();
    let mut named: Vec<&str> = paths.map(|s| text(&s["path"]).rsplit('/').next().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(files(&data), named, "every file is in the manifest, and the other way round");
    admin.sql("DROP TABLE c.t; CREATE TABLE c.t (id BIGINT PRIMARY KEY, v TEXT)");
    eventually("the files go", || files(&data).is_empty().then_some(()));
    assert_eq!(admin.rows("SELECT count(*) FROM c.t"), json!([["0"]]), "the new table of that name");
}

#[test]
fn damage_of_one_segment_is_told_and_the_rest_serves() {
    let server = Server::start(BY_HAND);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY, v TEXT)");
    let mut ann = server.new_user(&mut admin, "ann", "user");
    let mut ben = server.new_user(&mut admin, "ben", "user");
    for client in [&mut ann, &mut ben] {
        client.sql("INSERT INTO c.mail SELECT value, 'row ' || value FROM generate_series(1, 2000)");
    }
    flush(&server, "c.mail");
    let paths = admin.rows("SELECT manifest_json FROM system.manifest WHERE scope = 'ann'");
    let manifest: Value = serde_json::from_str(text(&paths[0][0])).unwrap();
    let path = server.data().join("cold").join(text(&manifest["segments"][0]["path"]));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let failure = ann.refused("SELECT sum(length(v)) FROM c.mail");
    assert_eq!(failure.code, "SEGMENT_DAMAGED", "{failure}");
    assert!(failure.message.contains("are not what was written"), "{failure}");
    std::fs::remove_file(&path).unwrap();
    let failure = ann.refused("SELECT v FROM c.mail WHERE v = 'row 7'");
    assert_eq!(failure.code, "SEGMENT_DAMAGED", "{failure}");
    // What is hot is written and read all the same, and nobody else is concerned.
    ann.sql("INSERT INTO c.mail VALUES (9999, 'hot')");
    assert_eq!(ann.rows("SELECT v FROM c.mail WHERE id = 9999"), json!([["hot"]]));
    assert_eq!(ben.rows("SELECT count(v) FROM c.mail"), json!([["2000"]]));
    // Nor whoever asks for what the segment can not have, by what is known of it.
    for (filter, expected) in [
        ("id > 2000", json!([["9999"]])),
        ("id >= 2001 AND v LIKE '%o%'", json!([["9999"]])),
        ("id < 1", json!([])),
        ("v < 'ho'", json!([])),
        ("v = 'hot'", json!([["9999"]])),
        ("v > 'row 9999'", json!([])),
        ("id = 12345", json!([])),
        ("id IN (2001, 9999)", json!([["9999"]])),
    ] {
        assert_eq!(ann.rows(&format!("SELECT id FROM c.mail WHERE {filter}")), expected, "{filter}");
    }
    for filter in ["id >= 2000", "id < 2", "v <= 'row 1'", "v >= 'row 9'", "id <> 9999"] {
        assert_eq!(ann.refused(&format!("SELECT id FROM c.mail WHERE {filter}")).code, "SEGMENT_DAMAGED", "{filter}");
    }
}

#[test]
fn partitions_that_are_worth_a_file_are_flushed_by_themselves() {
    let server = Server::start(&["flush.check_interval=50ms"]);
    let mut admin = server.set_up();
    admin.sql(
        "CREATE NAMESPACE c; CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY, v TEXT) WITH (FLUSH_POLICY = 'rows:100')",
    );
    let mut ann = server.new_user(&mut admin, "ann", "user");
    let mut ben = server.new_user(&mut admin, "ben", "user");
    ann.sql("INSERT INTO c.mail SELECT value, 'x' FROM generate_series(1, 150)");
    ben.sql("INSERT INTO c.mail SELECT value, 'x' FROM generate_series(1, 50)");
    let scopes = "SELECT scope FROM system.manifest";
    eventually("the larger mailbox is flushed", || (admin.rows(scopes) == json!([["ann"]])).then_some(()));
    assert_eq!(ann.rows("SELECT count(*) FROM c.mail"), json!([["150"]]));
    assert_eq!(ben.rows("SELECT count(*) FROM c.mail"), json!([["50"]]));
    // Not only once.
    ben.sql("INSERT INTO c.mail SELECT value, 'x' FROM generate_series(51, 150)");
    eventually("the other one, too", || (admin.rows(scopes).as_array().unwrap().len() == 2).then_some(()));
}

#[test]
fn the_next_holder_of_a_name_has_none_of_the_cold_rows() {
    let settings = [BY_HAND, &["user_management.deletion_grace_period=0s"]].concat();
    let server = Server::start(&settings);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY, v TEXT)");
    for (holder, rows) in [(1, 4_000), (2, 30), (3, 20_000), (4, 5)] {
        let create = format!("CREATE USER 'carol' WITH PASSWORD '{PASSWORD}' ROLE user");
        eventually("the name is free", || admin.try_sql(&json!({ "sql": create })).ok());
        let mut carol = server.log_in("carol");
        assert_eq!(carol.rows("SELECT count(*) FROM c.mail"), json!([["0"]]), "holder {holder}");
        carol.sql(&format!("INSERT INTO c.mail SELECT value, 'of {holder}' FROM generate_series(1, {rows})"));
        // The third is dropped while her rows become cold.
        if holder == 3 {
            admin.sql("STORAGE FLUSH TABLE c.mail");
        } else {
            flush(&server, "c.mail");
            carol.sql("UPDATE c.mail SET v = v || '!' WHERE id = 1");
            flush(&server, "c.mail");
            let expected = json!([[rows.to_string(), format!("of {holder}"), format!("of {holder}!")]]);
            assert_eq!(carol.rows("SELECT count(*), min(v), max(v) FROM c.mail"), expected, "holder {holder}");
            assert_eq!(carol.refused("INSERT INTO c.mail VALUES (1, 'twice')").sqlstate, "23505");
        }
        let all = admin.rows("EXECUTE AS USER '*' (SELECT count(*) FROM c.mail)");
        assert_eq!(all, json!([[rows.to_string()]]), "holder {holder}");
        admin.sql("DROP USER carol");
    }
    eventually("nothing is left of her", || (files(server.data()).is_empty()).then_some(()));
    let manifests = "SELECT count(*) FROM system.manifest";
    eventually("nor of her manifest", || (admin.rows(manifests) == json!([["0"]])).then_some(()));
}

#[test]
fn a_stop_beside_a_flush_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("stop"));
    let mut server = Server::start_over(&data, BY_HAND);
    server.set_up().sql("CREATE NAMESPACE c; CREATE TABLE c.t (id BIGINT PRIMARY KEY, v TEXT)");
    for round in 1..=8 {
        let mut admin = server.log_in("admin");
        let (from, to) = (round * 2_000 - 1_999, round * 2_000);
        admin.sql(&format!("INSERT INTO c.t SELECT value, 'row ' || value FROM generate_series({from}, {to})"));
        admin.sql("STORAGE FLUSH TABLE c.t");
        std::thread::sleep(Duration::from_micros(random.within(0..40_000)));
        server.signal(Signal::TERM);
        assert_eq!(server.ended().code(), Some(0), "{}", server.log());
        server = Server::start_over(&data, BY_HAND);
        let sums = server.log_in("admin").rows("SELECT count(*), count(v), sum(id) FROM c.t");
        let expected = [to, to, to * (to + 1) / 2];
        assert_eq!(sums, json!([expected.map(|n: i64| n.to_string())]));
    }
}
