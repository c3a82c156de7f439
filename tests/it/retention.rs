//! Deleted rows of the real program whose time is over: they go, hot and cold, and whoever may have missed a delete by it is
//! told so, nobody else.
//!
//! Invariants: SG-1, LQ-1. `DELETED_RETENTION_HOURS = 0` lets no time pass.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cold::{compact, flush, text};
use crate::http::Client;
use crate::random::Random;
use crate::server::{Server, eventually};
use crate::socket::Socket;

/// Flushed by hand; what has expired is looked for all the time.
const EAGER: &[&str] = &["flush.check_interval=1h", "jobs.retry_backoff=1ms", "retention.check_interval=20ms"];
/// Not looked for by itself.
const BY_HAND: &[&str] = &["flush.check_interval=1h", "jobs.retry_backoff=1ms", "retention.check_interval=1h"];

fn last_seq(client: &mut Client, table: &str) -> String {
    let rows =
        client.rows(&format!("SELECT _seq FROM {table} WHERE _deleted IN (TRUE, FALSE) ORDER BY _seq DESC LIMIT 1"));
    text(&rows[0][0]).to_owned()
}

fn tombstones_go(client: &mut Client, table: &str) {
    let sql = format!("SELECT count(*) FROM {table} WHERE _deleted");
    eventually("tombstones go", || (client.rows(&sql) == json!([["0"]])).then_some(()));
}

/// The first frame of a subscription from a position.
fn resume(server: &Server, client: &Client, sql: &str, from: &str) -> (Value, Socket) {
    let mut socket = Socket::open_as(server.address, client.token(), "");
    socket.subscribe("s", sql, json!({ "from": from }));
    (socket.json(), socket)
}

fn assert_lost(server: &Server, client: &Client, sql: &str, from: &str) {
    let (answer, _) = resume(server, client, sql, from);
    assert_eq!((text(&answer["type"]), text(&answer["code"])), ("error", "POSITION_LOST"), "{answer}");
}

/// A subscription of everything: where it ends is where a later one may go on.
fn snapshot_end(server: &Server, client: &Client, sql: &str) -> String {
    let mut socket = Socket::open_as(server.address, client.token(), "");
    socket.subscribe("s", sql, json!({ "batch_size": 10_000 }));
    let ack = socket.json();
    ack["batch_control"]["snapshot_end_seq"].to_string()
}

fn manifest(admin: &mut Client, scope: &str) -> Value {
    let rows = admin.rows(&format!("SELECT manifest_json FROM system.manifest WHERE scope = '{scope}'"));
    serde_json::from_str(text(&rows[0][0])).unwrap()
}

const OWN: &str = "SELECT id FROM r.mail";
const ALL: &str = "EXECUTE AS USER '*' (SELECT id FROM r.mail)";

#[test]
fn who_may_have_missed_a_delete_is_told_and_nobody_else() {
    let server = Server::start(EAGER);
    let mut admin = server.set_up();
    admin
        .sql("CREATE NAMESPACE r; CREATE USER TABLE r.mail (id BIGINT PRIMARY KEY) WITH (DELETED_RETENTION_HOURS = 0)");
    let mut ann = server.new_user(&mut admin, "ann", "user");
    let mut ben = server.new_user(&mut admin, "ben", "user");
    ann.sql("INSERT INTO r.mail VALUES (1), (2), (3)");
    ben.sql("INSERT INTO r.mail VALUES (4)");
    let (before, of_ben) = (last_seq(&mut ann, "r.mail"), last_seq(&mut ben, "r.mail"));
    ann.sql("DELETE FROM r.mail WHERE id = 2");
    tombstones_go(&mut ann, "r.mail");
    for (client, sql, from) in [(&ann, OWN, &before), (&ann, OWN, &"1".to_owned()), (&admin, ALL, &of_ben)] {
        assert_lost(&server, client, sql, from);
    }
    // What came with the snapshot is whole, so is whatever comes above it.
    let ends = [(&ann, OWN), (&admin, ALL)].map(|(client, sql)| snapshot_end(&server, client, sql));
    let hears = |client: &Client, sql: &str, from: &str, expected: &[&str]| {
        let (ack, mut socket) = resume(&server, client, sql, from);
        assert_eq!(ack["type"], "subscription_ack", "{ack}");
        let told: Vec<String> = expected.iter().map(|_| text(&socket.json()["rows"][0]["id"]).to_owned()).collect();
        assert_eq!(told, expected, "{sql} from {from}");
        socket.quiet();
    };
    ann.sql("INSERT INTO r.mail VALUES (2), (9)");
    hears(&ann, OWN, &ends[0], &["2", "9"]);
    hears(&admin, ALL, &ends[1], &["2", "9"]);
    // Nothing of hers has expired.
    hears(&ben, OWN, "1", &["4"]);
    assert_eq!(ann.rows("SELECT id FROM r.mail ORDER BY id"), json!([["1"], ["2"], ["3"], ["9"]]));
    // Where there is nothing to do there is no job.
    let jobs = "SELECT count(*), min(status) FROM system.jobs WHERE job_type = 'retention'";
    let done = admin.rows(jobs);
    assert_eq!(done[0][1], "completed");
    let message =
        admin.rows("SELECT message FROM system.jobs WHERE job_type = 'retention' ORDER BY created_at LIMIT 1");
    assert_eq!(message[0][0], "1 hot tombstones of 1 partitions removed, 0 segments rewritten");
    admin.sql("STORAGE FLUSH TABLE r.mail");
    eventually("the flush ends", || {
        (admin.rows("SELECT status FROM system.jobs WHERE job_type = 'flush'") == json!([["completed"]])).then_some(())
    });
    assert_eq!(admin.rows(jobs), done);
}

/// A group whose position is lost is told so once, and begins anew with a snapshot; so with the tables of a namespace.
#[test]
fn a_group_whose_position_is_lost_begins_anew() {
    let server = Server::start(EAGER);
    let mut admin = server.set_up();
    admin.sql(
        "CREATE NAMESPACE r; CREATE USER TABLE r.mail (id BIGINT PRIMARY KEY) WITH (DELETED_RETENTION_HOURS = 0); \
         CREATE USER TABLE r.other (id BIGINT PRIMARY KEY)",
    );
    let mut ann = server.new_user(&mut admin, "ann", "user");
    ann.sql("INSERT INTO r.mail VALUES (1), (2)");
    ann.sql("INSERT INTO r.other VALUES (1)");
    let feed = "EXECUTE AS USER '*' (SELECT id FROM r.*)";
    for (client, sql, rows) in [(&ann, OWN, 2), (&admin, feed, 3)] {
        let mut socket = Socket::open_as(server.address, client.token(), "");
        socket.subscribe("s", sql, json!({"group": "g"}));
        let ack = socket.json();
        let mut heard = socket.json()["rows"].as_array().unwrap().len();
        if heard < rows {
            socket.send(&json!({"type": "next_batch", "subscription_id": "s"}));
            heard += socket.json()["rows"].as_array().unwrap().len();
        }
        assert_eq!(heard, rows);
        let upto = match &ack["positions"] {
            Value::Null => ack["batch_control"]["snapshot_end_seq"].clone(),
            positions => positions.clone(),
        };
        socket.send(&json!({"type": "ack", "subscription_id": "s", "upto": upto}));
        socket.quiet();
    }
    ann.sql("DELETE FROM r.mail WHERE id = 2");
    tombstones_go(&mut ann, "r.mail");
    for (client, sql, batches) in [(&ann, OWN, 1), (&admin, feed, 2)] {
        let mut socket = Socket::open_as(server.address, client.token(), "");
        socket.subscribe("s", sql, json!({"group": "g"}));
        assert_eq!(socket.json()["code"], "POSITION_LOST", "{sql}");
        socket.subscribe("s", sql, json!({"group": "g"}));
        let ack = socket.json();
        assert_eq!(ack["type"], "subscription_ack", "{ack}");
        assert_eq!(ack["batch_control"]["has_more"], batches > 1, "{ack}");
        assert_eq!(socket.json()["rows"][0]["id"], "1", "{sql}");
    }
}

#[test]
fn a_delete_stays_for_as_long_as_its_table_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start_over(&data, EAGER);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE r; CREATE USER TABLE r.mail (id BIGINT PRIMARY KEY, v TEXT)");
    admin.sql("CREATE SHARED TABLE r.board (id BIGINT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC')");
    admin.sql("INSERT INTO r.mail SELECT value, 'v' FROM generate_series(1, 100); INSERT INTO r.board VALUES (1), (2)");
    let (before, of_board) = (last_seq(&mut admin, "r.mail"), last_seq(&mut admin, "r.board"));
    admin.sql("DELETE FROM r.mail WHERE id <= 10; DELETE FROM r.board WHERE id > 0");
    flush(&server, "r.mail");
    flush(&server, "r.board");
    admin.sql("DELETE FROM r.mail WHERE id = 11; UPDATE r.mail SET v = 'w' WHERE id = 12");
    assert_eq!(manifest(&mut admin, "admin")["segments"][0]["tombstones"], 10);
    assert_eq!(manifest(&mut admin, "admin")["segments"][0]["deleted_rows"], 2, "what was replaced since");
    // Seven days: a resume from before is told of each.
    let (ack, mut socket) = resume(&server, &admin, OWN, &before);
    assert_eq!(ack["type"], "subscription_ack", "{ack}");
    for id in 1..=11 {
        let told = socket.json();
        assert_eq!(
            (text(&told["change_type"]), text(&told["old_values"][0]["id"])),
            ("delete", id.to_string().as_str())
        );
    }
    drop(socket);
    for table in ["mail", "board"] {
        admin.sql(&format!("ALTER TABLE r.{table} SET DELETED_RETENTION_HOURS = 0"));
        tombstones_go(&mut admin, &format!("r.{table}"));
    }
    let segments = manifest(&mut admin, "admin")["segments"].take();
    assert_eq!((&segments[0]["tombstones"], &segments[0]["deleted_rows"]), (&json!(0), &json!(0)), "{segments}");
    assert_eq!(manifest(&mut admin, "shared")["segments"], json!([]), "nothing was left of it");
    eventually("its file goes", || {
        let folder = std::fs::read_dir(data.join("cold/r/board")).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        (names.filter(|name| name.ends_with(".parquet")).count() == 0).then_some(())
    });
    let all_lost = |server: &Server, admin: &Client| {
        assert_lost(server, admin, OWN, &before);
        assert_lost(server, admin, ALL, &before);
        assert_lost(server, admin, "SELECT id FROM r.board", &of_board);
    };
    all_lost(&server, &admin);
    let ends = [OWN, "SELECT id FROM r.board"].map(|sql| snapshot_end(&server, &admin, sql));
    // It is so after a crash, and after whatever else becomes of the partition.
    server.kill();
    let server = Server::start_over(&data, EAGER);
    let mut admin = server.log_in("admin");
    all_lost(&server, &admin);
    admin.sql("INSERT INTO r.mail VALUES (1, 'again'); INSERT INTO r.board VALUES (2)");
    assert_eq!(admin.refused("INSERT INTO r.mail VALUES (50, 'twice')").sqlstate, "23505");
    for (sql, end, id) in [(OWN, &ends[0], "1"), ("SELECT id FROM r.board", &ends[1], "2")] {
        let (ack, mut socket) = resume(&server, &admin, sql, end);
        assert_eq!(ack["type"], "subscription_ack", "{ack}");
        assert_eq!(socket.json()["rows"][0]["id"], id);
    }
    flush(&server, "r.mail");
    compact(&server, "r.mail");
    all_lost(&server, &admin);
    assert_eq!(admin.rows("SELECT count(*), sum(id) FROM r.mail"), json!([["90", "4985"]]));
    let options = admin.rows("SELECT options FROM system.tables WHERE table_name = 'board'");
    assert!(text(&options[0][0]).contains(r#""DELETED_RETENTION_HOURS":0"#), "{options}");
}

#[test]
fn compaction_leaves_out_what_has_expired() {
    let server = Server::start(BY_HAND);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE r; CREATE USER TABLE r.mail (id BIGINT PRIMARY KEY)");
    admin.sql("INSERT INTO r.mail SELECT value FROM generate_series(1, 10)");
    let before = last_seq(&mut admin, "r.mail");
    admin.sql("DELETE FROM r.mail WHERE id = 3");
    flush(&server, "r.mail");
    assert_eq!(
        compact(&server, "r.mail"),
        "Storage compaction skipped: no segments to merge or clean for table 'r.mail'"
    );
    admin.sql("ALTER TABLE r.mail SET TBLPROPERTIES (DELETED_RETENTION_HOURS = 0)");
    assert!(compact(&server, "r.mail").starts_with("completed"));
    assert_eq!(manifest(&mut admin, "admin")["segments"][0]["tombstones"], 0);
    assert_lost(&server, &admin, OWN, &before);
}

/// What a client holds that comes back now and then: resumes where it may, and begins anew where it is told to.
#[derive(Default)]
struct Replica {
    rows: BTreeMap<String, String>,
    position: Option<String>,
    lost: usize,
    resumed: usize,
}

impl Replica {
    /// Catches up until it knows of the row 0 what it is to be.
    fn catch_up(&mut self, server: &Server, client: &Client, mark: &str) {
        let sql = "SELECT id, v FROM r.mail";
        let mut socket = Socket::open_as(server.address, client.token(), "");
        if let Some(from) = &self.position {
            socket.subscribe("s", sql, json!({ "from": from }));
            let answer = socket.json();
            if answer["code"] == "POSITION_LOST" {
                self.lost += 1;
                self.position = None;
                return self.catch_up(server, client, mark);
            }
            assert_eq!(answer["type"], "subscription_ack", "{answer}");
            self.resumed += 1;
        } else {
            self.rows.clear();
            socket.subscribe("s", sql, json!({ "batch_size": 10_000 }));
            let (ack, batch) = (socket.json(), socket.json());
            assert_eq!(batch["batch_control"]["status"], "ready", "{batch}");
            self.position = Some(ack["batch_control"]["snapshot_end_seq"].to_string());
            self.take(&batch["rows"]);
        }
        while self.rows.get("0").is_none_or(|v| v != mark) {
            let frame = socket.json();
            assert_eq!(frame["type"], "change", "{frame}");
            let gone = frame["change_type"] == "delete";
            let told = &frame[if gone { "old_values" } else { "rows" }];
            self.position = Some(text(&told[0]["_seq"]).to_owned());
            if gone {
                self.rows.remove(text(&told[0]["id"]));
            } else {
                self.take(told);
            }
        }
    }

    fn take(&mut self, rows: &Value) {
        for row in rows.as_array().unwrap() {
            self.rows.insert(text(&row["id"]).to_owned(), text(&row["v"]).to_owned());
        }
    }
}

#[test]
fn who_comes_back_now_and_then_holds_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("retention"));
    let mut server = Server::start_over(&data, EAGER);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE r; CREATE USER TABLE r.mail (id BIGINT PRIMARY KEY, v TEXT) WITH (DELETED_RETENTION_HOURS = 0)");
    admin.sql("INSERT INTO r.mail VALUES (0, 'begin')");
    let mut replica = Replica::default();
    replica.catch_up(&server, &admin, "begin");
    for round in 0..40 {
        for _ in 0..random.within(1..20) {
            let id = 1 + random.within(0..30);
            match random.within(0..3) {
                0 if admin.rows(&format!("SELECT id FROM r.mail WHERE id = {id}")) == json!([]) => {
                    admin.sql(&format!("INSERT INTO r.mail VALUES ({id}, 'r{round}')"));
                }
                // Rounds that delete nothing can always be resumed behind.
                1 if round % 3 != 0 => drop(admin.sql(&format!("DELETE FROM r.mail WHERE id = {id}"))),
                _ => drop(admin.sql(&format!("UPDATE r.mail SET v = 'r{round}' WHERE id = {id}"))),
            }
            if random.one_in(12) {
                flush(&server, "r.mail");
            }
        }
        admin.sql(&format!("UPDATE r.mail SET v = 'm{round}' WHERE id = 0"));
        if random.one_in(2) {
            tombstones_go(&mut admin, "r.mail");
        }
        if random.one_in(8) {
            server.kill();
            server = Server::start_over(&data, EAGER);
            admin = server.log_in("admin");
        }
        let lost = replica.lost;
        replica.catch_up(&server, &admin, &format!("m{round}"));
        assert!(round % 3 != 0 || replica.lost == lost, "nothing was deleted since");
        let there = admin.rows("SELECT id, v FROM r.mail");
        let there: BTreeMap<String, String> =
            there.as_array().unwrap().iter().map(|row| (text(&row[0]).to_owned(), text(&row[1]).to_owned())).collect();
        assert_eq!(replica.rows, there, "round {round}");
    }
    assert!(replica.lost > 3 && replica.resumed > 10, "{} lost, {} resumed", replica.lost, replica.resumed);
}
