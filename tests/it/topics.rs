//! Topics of the real program, killed under load, backed up, expired, and without the rows of erased users.
//!
//! Invariants: each acknowledged change has exactly one entry in each topic that it matches, no entry is without its change,
//! offsets have no gap; cursors and counts survive; what is not acknowledged is delivered again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::http::Client;
use crate::random::Random;
use crate::server::{Server, eventually};

const ROUNDS: u64 = 25;

/// A change that was acknowledged, or may have been: which row, and what it is from then on.
type Change = (&'static str, String, u64, String);

struct Writer {
    user: &'static str,
    table: &'static str,
    client: Client,
    random: Random,
    counter: u64,
    rows: BTreeMap<u64, String>,
    acknowledged: Vec<Change>,
    unanswered: Vec<Change>,
}

impl Writer {
    /// `op`, key and value of each change that the statement makes.
    fn statement(&mut self) -> (String, Vec<Change>) {
        self.counter += 1;
        let (table, value) = (self.table, format!("{}-{}-{}", self.user, self.table, self.counter));
        let key = self.random.within(0..40);
        let known = self.rows.contains_key(&key);
        match self.random.within(0..6) {
            0..=2 if !known => {
                let keys: Vec<u64> = (key..key + 5).filter(|key| !self.rows.contains_key(key)).collect();
                let values: Vec<String> = keys.iter().map(|key| format!("({key}, '{value}')")).collect();
                let changes = keys.iter().map(|key| ("Insert", table.to_owned(), *key, value.clone())).collect();
                (format!("INSERT INTO {table} VALUES {}", values.join(", ")), changes)
            }
            5 if known => {
                let old = self.rows[&key].clone();
                (format!("DELETE FROM {table} WHERE id = {key}"), vec![("Delete", table.to_owned(), key, old)])
            }
            _ => {
                let changes = known.then(|| ("Update", table.to_owned(), key, value.clone())).into_iter().collect();
                (format!("UPDATE {table} SET v = '{value}' WHERE id = {key}"), changes)
            }
        }
    }

    fn apply(&mut self, changes: &[Change]) {
        for (op, _, key, value) in changes {
            match *op {
                "Delete" => drop(self.rows.remove(key)),
                _ => drop(self.rows.insert(*key, value.clone())),
            }
        }
    }

    fn run(&mut self, stop: &AtomicBool, acknowledged: &AtomicU64) {
        while !stop.load(Ordering::Relaxed) {
            let (sql, changes) = self.statement();
            let durability = if self.random.one_in(2) { "sync" } else { "buffered" };
            let body = json!({"sql": sql, "durability": durability}).to_string();
            let Ok(response) = self.client.request("POST /v1/api/sql", &[], body.as_bytes()) else {
                self.unanswered = changes;
                return;
            };
            crate::http::results(&response).unwrap_or_else(|failure| panic!("{sql}: {failure}"));
            self.apply(&changes);
            self.acknowledged.extend(changes);
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A member of a group that is killed with the server, and what it may rely on.
struct Member {
    client: Client,
    random: Random,
    delivered: std::collections::BTreeSet<u64>,
    /// Acknowledged, and answered.
    done: Option<u64>,
}

impl Member {
    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if self.turn().is_none() {
                return;
            }
        }
    }

    /// Takes some messages and acknowledges them, or some of them, or dies with them as far as the server knows. Answers with how
    /// many there were; `None`: the server is gone.
    fn turn(&mut self) -> Option<usize> {
        let body = json!({"topic_id": "t.feed", "group_id": "g", "limit": self.random.within(1..20)});
        let answer = self.client.request("POST /v1/api/topics/consume", &[], body.to_string().as_bytes()).ok()?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let messages = messages(&answer.json());
        for (offset, _) in &messages {
            assert!(self.done.is_none_or(|done| *offset > done), "{offset} comes again, {:?} is done", self.done);
            self.delivered.insert(*offset);
        }
        let some = messages.iter().map(|(offset, _)| *offset).nth(self.random.within(0..20) as usize);
        let last = messages.last().map(|(offset, _)| *offset);
        if let Some(upto) = some.or(last).filter(|_| !self.random.one_in(5)) {
            let body = json!({"topic_id": "t.feed", "group_id": "g", "upto_offset": upto});
            let answer = self.client.request("POST /v1/api/topics/ack", &[], body.to_string().as_bytes()).ok()?;
            assert_eq!(answer.status, 200, "{}", answer.body);
            self.done = self.done.max(Some(upto));
        }
        Some(messages.len())
    }
}

/// Reads a whole topic by SQL: per partition, offsets with their change.
fn log_of(admin: &mut Client, topic: &str) -> BTreeMap<(u64, u64), (String, Change)> {
    let rows = admin.rows(&format!("CONSUME FROM {topic} FROM EARLIEST LIMIT 1000000"));
    let read = |row: &Value| {
        let payload: Value = serde_json::from_slice(&BASE64.decode(row[4].as_str().unwrap()).unwrap()).unwrap();
        let op = match row[7].as_str().unwrap() {
            "insert" => "Insert",
            "update" => "Update",
            _ => "Delete",
        };
        let table = payload["_table"].as_str().unwrap().replace(':', ".");
        let key = payload["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(row[3].as_str().unwrap(), payload["id"].as_str().unwrap());
        let change = (op, table, key, payload["v"].as_str().unwrap().to_owned());
        let place = (row[1].as_u64().unwrap(), row[2].as_str().unwrap().parse().unwrap());
        (place, (row[6].as_str().unwrap_or("").to_owned(), change))
    };
    rows.as_array().unwrap().iter().map(read).collect()
}

/// What `inspect` says of the topics of a folder that is sound: name, entries, groups.
fn inspected(data: &Path) -> Vec<(String, u64, u64)> {
    let inspect = std::process::Command::new(env!("CARGO_BIN_EXE_inboxdb"))
        .args(["inspect", "--json", data.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(inspect.status.success(), "{}", String::from_utf8_lossy(&inspect.stdout));
    let found: Value = serde_json::from_slice(&inspect.stdout).unwrap();
    let number = |topic: &Value, name: &str| topic[name].as_u64().unwrap();
    let topics = found["topics"].as_array().unwrap().iter();
    topics.map(|t| (t["topic"].as_str().unwrap().to_owned(), number(t, "entries"), number(t, "groups"))).collect()
}

fn open(data: &Path) -> Server {
    Server::start_over(data, &["topics.visibility_timeout=50ms"])
}

#[test]
fn each_change_has_one_entry_whenever_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("topics"));
    let (mut writers, admin_token): (Vec<Writer>, String) = {
        let server = open(&data);
        let mut admin = server.set_up();
        for sql in [
            "CREATE NAMESPACE t",
            "CREATE USER TABLE t.mail (id BIGINT PRIMARY KEY, v TEXT NOT NULL)",
            "CREATE SHARED TABLE t.board (id BIGINT PRIMARY KEY, v TEXT NOT NULL)",
            "CREATE TOPIC t.feed",
            "CREATE TOPIC t.wide PARTITIONS 3",
        ] {
            admin.sql(sql);
        }
        for topic in ["t.feed", "t.wide"] {
            for table in ["t.mail", "t.board"] {
                for op in ["INSERT", "UPDATE", "DELETE"] {
                    admin.sql(&format!("ALTER TOPIC {topic} ADD SOURCE {table} ON {op}"));
                }
            }
        }
        admin.sql(
            "CREATE TOPIC t.some; ALTER TOPIC t.some ADD SOURCE t.mail ON INSERT WHERE _user_id = 'ann' AND id < 20",
        );
        for (user, role) in [("ann", "user"), ("ben", "user"), ("dan", "service")] {
            server.new_user(&mut admin, user, role);
        }
        let writers = [("ann", "t.mail"), ("ben", "t.mail"), ("dan", "t.board")].map(|(user, table)| Writer {
            user,
            table,
            client: server.log_in(user),
            random: Random::new(random.next()),
            counter: 0,
            rows: BTreeMap::new(),
            acknowledged: Vec::new(),
            unanswered: Vec::new(),
        });
        let begun = json!({"topic_id": "t.feed", "group_id": "g", "start": "Earliest"});
        assert_eq!(admin.post("/v1/api/topics/consume", &begun).status, 200);
        (writers.into(), admin.token().to_owned())
    };
    let mut member = Member {
        client: Client::new(([127, 0, 0, 1], 0).into()),
        random: Random::new(random.next()),
        delivered: std::collections::BTreeSet::new(),
        done: None,
    };
    let mut total = 0;
    for round in 0..=ROUNDS {
        let server = open(&data);
        let mut admin = Client::bearer(server.address, &admin_token);
        let log = log_of(&mut admin, "t.feed");
        for (nth, ((partition, offset), _)) in log.iter().enumerate() {
            assert_eq!((*partition, *offset), (0, nth as u64), "round {round}: offsets have no gap");
        }
        for writer in &mut writers {
            let owner = if writer.table == "t.board" { "" } else { writer.user };
            let mine: Vec<Change> = log
                .values()
                .filter(|(user, change)| user == owner && change.1 == writer.table)
                .map(|(_, change)| change.clone())
                .collect();
            let unanswered = std::mem::take(&mut writer.unanswered);
            let with: Vec<Change> = writer.acknowledged.iter().chain(&unanswered).cloned().collect();
            assert!(
                mine == writer.acknowledged || mine == with,
                "round {round}, {}: {:?} are not {:?} with or without {unanswered:?}",
                writer.user,
                mine.iter().rev().take(9).collect::<Vec<_>>(),
                writer.acknowledged.iter().rev().take(9).collect::<Vec<_>>()
            );
            if mine == with {
                writer.apply(&unanswered);
            }
            writer.acknowledged = mine;
            writer.client = Client::bearer(server.address, writer.client.token());
            // No entry without a row, no row without its entry.
            let rows = writer.client.rows(&format!("SELECT id, v FROM {} ORDER BY id", writer.table));
            let expected: Vec<Value> = writer.rows.iter().map(|(key, value)| json!([key.to_string(), value])).collect();
            assert_eq!(rows, json!(expected), "round {round}, {}", writer.user);
        }
        // The same in another topic, each key's in its order.
        let wide = log_of(&mut admin, "t.wide");
        let by_key = |log: &BTreeMap<(u64, u64), (String, Change)>| {
            let mut keys: BTreeMap<(String, String, u64), Vec<Change>> = BTreeMap::new();
            for (user, change) in log.values() {
                keys.entry((user.clone(), change.1.clone(), change.2)).or_default().push(change.clone());
            }
            keys
        };
        assert_eq!(by_key(&wide), by_key(&log), "round {round}");
        let some = log_of(&mut admin, "t.some");
        let is_some = |(user, change): &&(String, Change)| user == "ann" && change.0 == "Insert" && change.2 < 20;
        assert!(some.values().eq(log.values().filter(is_some)), "round {round}");
        total = log.len();
        member.client = Client::bearer(server.address, &admin_token);
        if round == ROUNDS {
            // Whatever it did not acknowledge is there again: it gets to the end, and has seen everything.
            while member.done != Some(total as u64 - 1) {
                member.turn().expect("the server lives");
            }
            assert_eq!(member.delivered.len(), total, "each message was delivered");
            server.kill();
            let (feed, wide) = (total as u64, total as u64);
            let some = some.len() as u64;
            let expected = [("t.feed", feed, 1), ("t.some", some, 0), ("t.wide", wide, 0)];
            assert_eq!(inspected(&data), expected.map(|(name, entries, groups)| (name.to_owned(), entries, groups)));
            break;
        }
        let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
        let enough = random.within(1..150);
        std::thread::scope(|scope| {
            let mut threads: Vec<_> =
                writers.iter_mut().map(|writer| scope.spawn(|| writer.run(&stop, &acknowledged))).collect();
            threads.push(scope.spawn(|| member.run(&stop)));
            while acknowledged.load(Ordering::Relaxed) < enough && !threads.iter().any(|thread| thread.is_finished()) {
                std::thread::sleep(Duration::from_micros(200));
            }
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
    }
    assert!(total > 500, "only {total} entries: too few to mean anything");
}

fn consume(client: &mut Client, group: &str, limit: u64) -> Value {
    let body = json!({"topic_id": "t.feed", "group_id": group, "start": "Earliest", "limit": limit});
    let response = client.post("/v1/api/topics/consume", &body);
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()
}

fn messages(answer: &Value) -> Vec<(u64, u64)> {
    let number = |message: &Value, name: &str| message[name].as_u64().unwrap();
    let messages = answer["messages"].as_array().unwrap();
    messages.iter().map(|m| (number(m, "offset"), number(m, "deliveries"))).collect()
}

fn with_feed(data: &Path, settings: &[&str]) -> (Server, Client) {
    let server = Server::start_over(data, settings);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE t; CREATE USER TABLE t.mail (id BIGINT PRIMARY KEY, v TEXT); CREATE TOPIC t.feed");
    admin.sql("ALTER TOPIC t.feed ADD SOURCE t.mail ON INSERT; ALTER TOPIC t.feed ADD SOURCE t.mail ON DELETE");
    (server, admin)
}

#[test]
fn groups_go_on_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (server, mut admin) = with_feed(&data, &[]);
    admin.sql("INSERT INTO t.mail SELECT value, 'x' FROM generate_series(1, 6)");
    assert_eq!(messages(&consume(&mut admin, "g", 4)), [(0, 1), (1, 1), (2, 1), (3, 1)]);
    let ack = json!({"topic_id": "t.feed", "group_id": "g", "upto_offset": 1});
    assert_eq!(admin.post("/v1/api/topics/ack", &ack).status, 200);
    server.kill();

    let server = Server::start_over(&data, &[]);
    let mut admin = Client::bearer(server.address, admin.token());
    // Its members died with the server: what they held is free, and counted.
    assert_eq!(messages(&consume(&mut admin, "g", 3)), [(2, 2), (3, 2), (4, 1)]);
    admin.sql("CREATE SHARED TABLE t.later (id BIGINT PRIMARY KEY)");
    admin.sql("INSERT INTO t.mail VALUES (7, 'y')");
    assert_eq!(messages(&consume(&mut admin, "other", 1)), [(0, 1)]);
    assert_eq!(messages(&consume(&mut admin, "g", 9)), [(5, 1), (6, 1)], "its routes are there again");
}

#[test]
fn a_backup_brings_topics_and_groups_back() {
    let folder = tempfile::tempdir().unwrap();
    let (data, to) = (folder.path().join("data"), folder.path().join("backup"));
    let (server, mut admin) = with_feed(&data, &[]);
    admin.sql("INSERT INTO t.mail VALUES (1, 'x'), (2, 'y'), (3, 'z')");
    consume(&mut admin, "g", 2);
    admin.post("/v1/api/topics/ack", &json!({"topic_id": "t.feed", "group_id": "g", "upto_offset": 0}));
    admin.sql(&format!("BACKUP DATABASE TO '{}'", to.display()));
    eventually("the backup ends", || {
        (admin.rows("SELECT status FROM system.jobs WHERE job_type = 'backup'") == json!([["completed"]])).then_some(())
    });
    drop(server);
    let other = folder.path().join("other");
    let restored = std::process::Command::new(env!("CARGO_BIN_EXE_inboxdb"))
        .args(["restore", "--from", to.to_str().unwrap(), "--data", other.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let server = Server::start_over(&other, &[]);
    let mut admin = server.log_in("admin");
    assert_eq!(messages(&consume(&mut admin, "g", 9)), [(1, 2), (2, 1)]);
    admin.sql("INSERT INTO t.mail VALUES (4, 'w')");
    assert_eq!(messages(&consume(&mut admin, "g", 9)), [(3, 1)], "offsets go on");
}

#[test]
fn what_is_too_old_or_too_much_goes_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, mut admin) = with_feed(&folder.path().join("data"), &["topics.check_interval=20ms"]);
    assert_eq!(messages(&consume(&mut admin, "g", 1)), []);
    let long = "v".repeat(1_000);
    for id in 0..40 {
        admin.sql(&format!("INSERT INTO t.mail VALUES ({id}, '{long}')"));
    }
    assert_eq!(messages(&consume(&mut admin, "g", 2)), [(0, 1), (1, 1)]);
    admin.sql("ALTER TOPIC t.feed SET (retention_max_bytes = 10000)");
    let place = "SELECT first_offset, next_offset FROM system.deliveries WHERE group_id = 'g'";
    let first = eventually("the oldest go", || {
        let row = admin.rows(place)[0].take();
        let first: u64 = row[0].as_str().unwrap().parse().unwrap();
        (first > 0).then_some(first)
    });
    assert!((28..36).contains(&first), "{first}: about ten thousand bytes stay");
    let answer = consume(&mut admin, "g", 1);
    assert_eq!(
        (messages(&answer), &answer["first_offset"], &answer["lost"]),
        (vec![(first, 1)], &json!(first), &json!(first))
    );
    let again = consume(&mut admin, "g", 1);
    assert!(again.get("lost").is_none(), "told once: {again}");
    assert_eq!(admin.rows("SELECT lost FROM system.deliveries"), json!([[first.to_string()]]));
    let gone = admin.refused("CONSUME FROM t.feed FROM 3");
    assert_eq!(gone.code, "POSITION_LOST", "{gone}");
    let gone = json!({"topic_id": "t.feed", "group_id": "new", "start": {"Offset": 3}});
    let gone = admin.post("/v1/api/topics/consume", &gone);
    assert_eq!((gone.status, &gone.json()["code"]), (400, &json!("POSITION_LOST")), "{}", gone.body);
    // By age: everything, a second later.
    admin.sql("ALTER TOPIC t.feed SET (retention_seconds = 1)");
    eventually("all go", || (admin.rows(place)[0] == json!(["40", "40"])).then_some(()));
    let jobs = "SELECT count(*) FROM system.jobs WHERE job_type = 'topic_retention' AND status = 'completed'";
    assert!(admin.rows(jobs)[0][0].as_str().unwrap().parse::<u64>().unwrap() >= 2);
}

#[test]
fn an_erased_user_is_in_no_topic_and_offsets_stay() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let settings = ["user_management.deletion_grace_period=0s"];
    let (server, mut admin) = with_feed(&data, &settings);
    let mut ann = server.new_user(&mut admin, "ann", "user");
    let mut ben = server.new_user(&mut admin, "ben", "user");
    ann.sql("INSERT INTO t.mail VALUES (1, 'secret of ann')");
    ben.sql("INSERT INTO t.mail VALUES (1, 'of ben')");
    ann.sql("INSERT INTO t.mail VALUES (2, 'another secret of ann')");
    ben.sql("INSERT INTO t.mail VALUES (2, 'of ben')");
    admin.sql("DROP USER ann");
    eventually("she is erased", || {
        let sql = "SELECT count(*) FROM system.jobs WHERE job_type = 'user_cleanup' AND status = 'completed'";
        (admin.rows(sql) == json!([["1"]])).then_some(())
    });
    assert_eq!(messages(&consume(&mut admin, "g", 9)), [(1, 1), (3, 1)]);
    let ack = json!({"topic_id": "t.feed", "group_id": "g", "upto_offset": 3});
    assert_eq!(admin.post("/v1/api/topics/ack", &ack).status, 200);
    ben.sql("INSERT INTO t.mail VALUES (3, 'of ben')");
    assert_eq!(messages(&consume(&mut admin, "g", 9)), [(4, 1)]);
    assert_eq!(admin.rows("SELECT lost FROM system.deliveries"), json!([["0"]]));
    server.kill();
    assert_eq!(inspected(&data), [("t.feed".to_owned(), 3, 1)], "and the bytes of hers are counted out");
}

#[test]
fn a_dropped_topic_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (server, mut admin) = with_feed(&data, &[]);
    admin.sql("INSERT INTO t.mail SELECT value, 'x' FROM generate_series(1, 3000)");
    consume(&mut admin, "g", 9);
    admin.sql("DROP TOPIC t.feed");
    let job = "SELECT message FROM system.jobs WHERE job_type = 'topic_cleanup' AND status = 'completed'";
    let message = eventually("its keys go", || admin.rows(job)[0][0].as_str().map(str::to_owned));
    assert_eq!(message, "3002 keys removed", "its entries, its head and its group");
    admin.sql("CREATE TOPIC t.feed");
    assert_eq!(messages(&consume(&mut admin, "g", 9)), []);
    server.kill();
    inspected(&data);
}

#[test]
fn what_is_cut_off_is_finished() {
    for (point, nth) in [("topic_expired", 1), ("topic_expired", 2), ("topic_erase_step", 1), ("topic_erase_step", 3)] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let settings = ["topics.check_interval=20ms", "jobs.retry_backoff=1ms"];
        let (server, mut admin) = with_feed(&data, &settings);
        admin.sql("INSERT INTO t.mail SELECT value, 'x' FROM generate_series(1, 2500)");
        admin.sql("CREATE TOPIC t.other; ALTER TOPIC t.other ADD SOURCE t.mail ON UPDATE");
        drop(server);
        let mut server = Server::start_to_die(&data, &settings, point, nth);
        let mut admin = Client::bearer(server.address, admin.token());
        // It dies on the way to the answer, or behind it.
        admin.try_sql_or_gone(if point == "topic_expired" { "CLEAR TOPIC t.feed" } else { "DROP TOPIC t.feed" });
        server.ended();
        let server = Server::start_over(&data, &settings);
        let mut admin = Client::bearer(server.address, admin.token());
        let open = "SELECT count(*) FROM system.jobs WHERE status NOT IN ('completed', 'skipped')";
        eventually("what was cut off ends", || (admin.rows(open) == json!([["0"]])).then_some(()));
        if point == "topic_expired" {
            assert_eq!(admin.rows("CONSUME FROM t.feed FROM EARLIEST"), json!([]), "{point} {nth}");
            admin.sql("INSERT INTO t.mail VALUES (9999, 'x')");
            assert_eq!(messages(&consume(&mut admin, "g", 9)), [(2500, 1)], "{point} {nth}");
        } else {
            assert_eq!(admin.refused("CONSUME FROM t.feed").code, "NOT_FOUND", "{point} {nth}");
        }
        server.kill();
        inspected(&data);
    }
}

/// A job that a crash cut off has its table in use before anybody writes: the table's routes must be there all the same.
#[test]
fn routes_are_there_before_anybody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let settings = ["flush.check_interval=1h", "jobs.retry_backoff=1ms"];
    let (server, mut admin) = with_feed(&data, &settings);
    admin.sql("INSERT INTO t.mail SELECT value, 'x' FROM generate_series(1, 3000)");
    drop(server);
    let mut server = Server::start_to_die(&data, &settings, "flush_written", 1);
    let mut admin = Client::bearer(server.address, admin.token());
    admin.try_sql_or_gone("STORAGE FLUSH TABLE t.mail");
    server.ended();
    let server = Server::start_over(&data, &settings);
    let mut admin = Client::bearer(server.address, admin.token());
    admin.sql("INSERT INTO t.mail VALUES (9999, 'y')");
    // A cold row's last cells are told as a hot one's are.
    let flushed = "SELECT count(*) FROM system.jobs WHERE job_type = 'flush' AND status = 'completed'";
    eventually("the flush goes on", || (admin.rows(flushed) == json!([["1"]])).then_some(()));
    admin.sql("DELETE FROM t.mail WHERE id = 7");
    let rows = admin.rows("CONSUME FROM t.feed FROM 3000");
    let told: Vec<(&str, &str)> =
        rows.as_array().unwrap().iter().map(|row| (row[3].as_str().unwrap(), row[7].as_str().unwrap())).collect();
    assert_eq!(told, [("9999", "insert"), ("7", "delete")]);
}

#[test]
fn a_table_has_so_many_routes_and_an_answer_so_many_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, mut admin) = with_feed(&folder.path().join("data"), &["limits.max_result_bytes=100KiB"]);
    for n in 2..64 {
        admin.sql(&format!(
            "CREATE TOPIC t.n{n}; ALTER TOPIC t.n{n} ADD SOURCE t.mail ON INSERT WITH (payload = 'key')"
        ));
    }
    let refused = admin.refused("ALTER TOPIC t.feed ADD SOURCE t.mail ON UPDATE");
    assert_eq!((refused.code.as_str(), refused.message.contains("64 routes")), ("INVALID_SQL", true), "{refused}");
    let long = "v".repeat(1_000);
    for first in (0..200).step_by(10) {
        let rows: Vec<String> = (first..first + 10).map(|id| format!("({id}, '{long}')")).collect();
        admin.sql(&format!("INSERT INTO t.mail VALUES {}", rows.join(", ")));
    }
    let refused = admin.refused("CONSUME FROM t.feed FROM EARLIEST LIMIT 200");
    assert_eq!(refused.code, "RESULT_TOO_LARGE", "{refused}");
    assert_eq!(admin.rows("CONSUME FROM t.feed FROM EARLIEST LIMIT 20").as_array().unwrap().len(), 20);
    assert_eq!(messages(&consume(&mut admin, "g", 1_000)).len(), 200, "topics.max_batch_bytes allows it");
    let same = admin.rows("SELECT count(DISTINCT next_offset) FROM system.deliveries");
    assert_eq!(same, json!([["1"]]));
}
