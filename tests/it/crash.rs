//! The real process, killed at any moment under load and opened again: acknowledged = there, nothing by halves.
//!
//! Each writer keeps a model of its own rows. When the server dies, at most one statement of each writer is without an
//! answer: it has happened as a whole or not at all. Invariants: PT-1 over restarts, PT-2, RC-1.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::Client;
use crate::random::Random;
use crate::server::Server;

const ROUNDS: u64 = 50;
const KEYS: u64 = 60;

/// Who writes where: user, table, first key. Writers of one partition have keys of their own.
const WRITERS: &[(&str, &str, u64)] = &[
    ("ann", "c.mail", 0),
    ("ben", "c.mail", 0),
    ("ben", "c.mail", 1_000),
    ("cat", "c.quick", 0),
    ("ann", "c.quick", 0),
    ("dan", "c.board", 0),
    ("dan", "c.board", 1_000),
];

type Rows = BTreeMap<u64, String>;

/// One statement, and what it does to the rows where it is done.
#[derive(Debug, Clone)]
struct Step {
    sql: String,
    durability: &'static str,
    /// `None`: it must be refused with DUPLICATE_KEY.
    outcome: Option<(Rows, u64)>,
}

struct Writer {
    table: &'static str,
    first: u64,
    client: Client,
    random: Random,
    counter: u64,
    rows: Rows,
    pending: Option<Step>,
    acknowledged: u64,
}

impl Writer {
    fn step(&mut self) -> Step {
        self.counter += 1;
        let Self { table, first, .. } = *self;
        let value = format!("v{}", self.counter);
        let key = first + self.random.within(0..KEYS);
        let durability = if self.random.one_in(2) { "sync" } else { "buffered" };
        let mut rows = self.rows.clone();
        let (sql, outcome) = match self.random.within(0..10) {
            0..=4 => {
                let count = if self.random.one_in(3) { self.random.within(2..20) } else { 1 };
                let keys: Vec<u64> = (0..count).map(|n| first + (key - first + n) % KEYS).collect();
                let values: Vec<String> = keys.iter().map(|key| format!("({key}, '{value}')")).collect();
                let free = keys.iter().all(|key| !rows.contains_key(key));
                rows.extend(keys.iter().map(|key| (*key, value.clone())));
                (format!("INSERT INTO {table} VALUES {}", values.join(", ")), free.then_some((rows, count)))
            }
            5 | 6 => {
                let found = rows.get_mut(&key).map(|old| *old = value.clone());
                let count = u64::from(found.is_some());
                (format!("UPDATE {table} SET v = '{value}' WHERE id = {key}"), Some((rows, count)))
            }
            7 => {
                let range = key..key + 15;
                let mut count = 0;
                for (_, old) in rows.range_mut(range.clone()) {
                    *old = format!("{old}+");
                    count += 1;
                }
                let sql = format!("UPDATE {table} SET v = v || '+' WHERE id >= {} AND id < {}", range.start, range.end);
                (sql, Some((rows, count)))
            }
            8 => {
                let count = u64::from(rows.remove(&key).is_some());
                (format!("DELETE FROM {table} WHERE id = {key}"), Some((rows, count)))
            }
            _ => {
                let before = rows.len();
                rows.retain(|other, _| !(key..key + 15).contains(other));
                let count = (before - rows.len()) as u64;
                (format!("DELETE FROM {table} WHERE id >= {key} AND id < {}", key + 15), Some((rows, count)))
            }
        };
        Step { sql, durability, outcome }
    }

    /// Writes until the server is gone or `stop` is set.
    fn run(&mut self, stop: &AtomicBool, acknowledged: &AtomicU64) {
        while !stop.load(Ordering::Relaxed) {
            let step = self.step();
            let body = json!({"sql": step.sql, "durability": step.durability}).to_string();
            self.pending = Some(step.clone());
            let Ok(response) = self.client.request("POST /v1/api/sql", &[], body.as_bytes()) else { return };
            match (crate::http::results(&response), step.outcome) {
                (Ok(results), Some((rows, count))) => {
                    assert_eq!(results[0]["row_count"], count, "{}", step.sql);
                    self.rows = rows;
                }
                // Refused on the way down: it did not happen.
                (Err(failure), _) if failure.code == "SHUTTING_DOWN" => {
                    self.pending = None;
                    return;
                }
                (Err(failure), None) => assert_eq!(failure.sqlstate, "23505", "{}: {failure}", step.sql),
                (outcome, expected) => panic!("{}: {outcome:?}, expected {expected:?}", step.sql),
            }
            self.pending = None;
            self.acknowledged += 1;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Holds the stored rows against the model; settles whether the unanswered statement has happened.
    fn settle(&mut self, stored: &Rows) {
        let mine: Rows =
            stored.range(self.first..self.first + KEYS).map(|(key, value)| (*key, value.clone())).collect();
        let pending = self.pending.take();
        if mine == self.rows {
            return;
        }
        let done = pending.as_ref().and_then(|step| step.outcome.as_ref()).map(|(rows, _)| rows);
        assert_eq!(
            Some(&mine),
            done,
            "{} of {}: neither without nor with the unanswered {pending:?}; without it there would be {:?}",
            self.table,
            self.first,
            self.rows
        );
        self.rows = mine;
    }
}

/// What the feed of a table showed: (user, key) → position and value.
type Feed = BTreeMap<(String, u64), (u64, String)>;

struct Crash {
    data: PathBuf,
    random: Random,
    writers: Vec<Writer>,
    feeds: BTreeMap<&'static str, Feed>,
    admin_token: String,
    /// Tables that the DDL of a round made: name → is it there.
    made: BTreeMap<String, bool>,
}

impl Crash {
    /// Makes the tables and users, in a first run that ends well.
    fn new(data: PathBuf, seed: u64) -> Self {
        let server = Server::start_over(&data, &[]);
        let mut admin = server.set_up();
        for sql in [
            "CREATE NAMESPACE c",
            "CREATE USER TABLE c.mail (id BIGINT PRIMARY KEY, v TEXT NOT NULL)",
            "CREATE USER TABLE c.quick (id BIGINT PRIMARY KEY, v TEXT NOT NULL) WITH (DURABILITY = 'buffered')",
            "CREATE SHARED TABLE c.board (id BIGINT PRIMARY KEY, v TEXT NOT NULL)",
        ] {
            admin.sql(sql);
        }
        for user in ["ann", "ben", "cat", "dan"] {
            server.new_user(&mut admin, user, if user == "dan" { "service" } else { "user" });
        }
        let mut random = Random::new(seed);
        let writers = WRITERS.iter().map(|(user, table, first)| Writer {
            table,
            first: *first,
            client: server.log_in(user),
            random: Random::new(random.next()),
            counter: 0,
            rows: Rows::new(),
            pending: None,
            acknowledged: 0,
        });
        let writers = writers.collect();
        let admin_token = admin.token().to_owned();
        Self { data, random, writers, feeds: BTreeMap::new(), admin_token, made: BTreeMap::new() }
    }

    fn open(&mut self) -> Server {
        let server = Server::start_over(&self.data, &[]);
        for writer in &mut self.writers {
            // Tokens outlive the server: its secret is in the data folder.
            writer.client = Client::bearer(server.address, writer.client.token());
        }
        server
    }

    /// Writes from all writers, and makes and drops tables, until `end` has been called and the server is gone.
    fn load(&mut self, server: Server, end: impl FnOnce(Server)) {
        let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
        let enough = self.random.within(1..400);
        let mut definer = Client::bearer(server.address, &self.admin_token);
        let (writers, made) = (&mut self.writers, &mut self.made);
        std::thread::scope(|scope| {
            let mut threads: Vec<_> =
                writers.iter_mut().map(|writer| scope.spawn(|| writer.run(&stop, &acknowledged))).collect();
            threads.push(scope.spawn(|| define(&mut definer, made, &stop)));
            // A writer that failed counts nothing more: then the round ends, and tells at the end of the scope.
            while acknowledged.load(Ordering::Relaxed) < enough && !threads.iter().any(|thread| thread.is_finished()) {
                std::thread::sleep(Duration::from_micros(200));
            }
            end(server);
            stop.store(true, Ordering::Relaxed);
        });
    }

    /// Everything that must hold once the server is there again.
    fn check(&mut self, server: &Server) {
        let mut stored: BTreeMap<(&str, String), Rows> = BTreeMap::new();
        for (writer, (user, table, _)) in self.writers.iter_mut().zip(WRITERS) {
            let rows = rows_of(&writer.client.rows(&format!("SELECT id, v FROM {table}")));
            writer.settle(&rows);
            let key = writer.first + self.random.within(0..KEYS);
            let by_key = writer.client.rows(&format!("SELECT id, v FROM {table} WHERE id = {key}"));
            let expected: Rows = writer.rows.range(key..=key).map(|(key, value)| (*key, value.clone())).collect();
            assert_eq!(rows_of(&by_key), expected, "{table} by key");
            let owner = if *table == "c.board" { String::new() } else { (*user).to_owned() };
            stored.insert((table, owner), rows);
        }
        let mut admin = Client::bearer(server.address, &self.admin_token);
        for table in ["c.mail", "c.quick"] {
            self.check_feed(table, &mut admin, &stored);
        }
        let tables = admin.rows("SELECT table_name FROM system.tables WHERE table_name LIKE 'made%'");
        let there: Vec<&str> = tables.as_array().unwrap().iter().map(|row| row[0].as_str().unwrap()).collect();
        let last = self.made.keys().next_back().cloned();
        for (name, expected) in &mut self.made {
            let exists = there.contains(&name.as_str());
            // The newest one's last statement may be the one without an answer.
            assert!(exists == *expected || last.as_ref() == Some(name), "{name}: {exists}, acknowledged {expected}");
            *expected = exists;
        }
        assert!(there.iter().all(|name| self.made.contains_key(*name)), "{there:?} of {:?}", self.made);
    }

    /// The feed has each live row once, in strictly increasing order; rows keep their position until they change, and
    /// what changed stands above everything that was there before.
    fn check_feed(&mut self, table: &'static str, admin: &mut Client, stored: &BTreeMap<(&str, String), Rows>) {
        let rows = admin.rows(&format!("EXECUTE AS USER '*' (SELECT _seq, _user_id, id, v FROM {table})"));
        let number = |cell: &Value| cell.as_str().unwrap().parse::<u64>().unwrap();
        let mut feed = Feed::new();
        let mut last = 0;
        for row in rows.as_array().unwrap() {
            let (seq, user, key) = (number(&row[0]), row[1].as_str().unwrap(), number(&row[2]));
            assert!(seq > last, "{table}: {seq} after {last}");
            last = seq;
            let value = row[3].as_str().unwrap().to_owned();
            assert!(
                feed.insert((user.to_owned(), key), (seq, value)).is_none(),
                "{table}: {user}'s {key} is there twice"
            );
        }
        let live: BTreeMap<(String, u64), &String> = stored
            .iter()
            .filter(|((of, _), _)| *of == table)
            .flat_map(|((_, user), rows)| rows.iter().map(move |(key, value)| ((user.clone(), *key), value)))
            .collect();
        let shown: BTreeMap<(String, u64), &String> =
            feed.iter().map(|(row, (_, value))| (row.clone(), value)).collect();
        assert_eq!(shown, live, "the feed of {table}");
        let before = self.feeds.insert(table, feed.clone()).unwrap_or_default();
        let highest = before.values().map(|(seq, _)| *seq).max().unwrap_or(0);
        for (row, (seq, value)) in &feed {
            match before.get(row) {
                Some((old, same)) if old == seq => assert_eq!(same, value, "{table}: {row:?} changed in its place"),
                _ => assert!(*seq > highest, "{table}: {row:?} at {seq}, though {highest} was given before"),
            }
        }
    }
}

/// Makes tables, writes a row, drops every other one.
fn define(client: &mut Client, made: &mut BTreeMap<String, bool>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let name = format!("made{:06}", made.len());
        made.insert(name.clone(), false);
        let mut run = |sql: String| {
            let response = client.request("POST /v1/api/sql", &[], json!({ "sql": sql }).to_string().as_bytes());
            let results = response.map(|response| crate::http::results(&response));
            match results {
                Ok(Ok(_)) => true,
                Ok(Err(failure)) if failure.code == "SHUTTING_DOWN" => false,
                Ok(Err(failure)) => panic!("{sql}: {failure}"),
                Err(_) => false,
            }
        };
        if !run(format!("CREATE TABLE c.{name} (id BIGINT PRIMARY KEY)")) {
            return;
        }
        made.insert(name.clone(), true);
        if !run(format!("INSERT INTO c.{name} VALUES (1), (2), (3)")) {
            return;
        }
        if made.len().is_multiple_of(2) {
            if !run(format!("DROP TABLE c.{name}")) {
                return;
            }
            made.insert(name, false);
        }
    }
}

fn rows_of(rows: &Value) -> Rows {
    let pair = |row: &Value| (row[0].as_str().unwrap().parse().unwrap(), row[1].as_str().unwrap().to_owned());
    let pairs: Vec<(u64, String)> = rows.as_array().unwrap().iter().map(pair).collect();
    let rows: Rows = pairs.iter().cloned().collect();
    assert_eq!(rows.len(), pairs.len(), "a key is there twice: {pairs:?}");
    rows
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let seed = Random::seed("crash");
    let mut crash = Crash::new(folder.path().join("data"), seed);
    for round in 0..ROUNDS {
        let server = crash.open();
        crash.check(&server);
        if crash.random.one_in(10) {
            // Killed with nothing under way, or while it still cleans up behind its start.
            server.kill();
            continue;
        }
        println!("round {round}: {} acknowledged so far", crash.writers.iter().map(|w| w.acknowledged).sum::<u64>());
        crash.load(server, Server::kill);
    }
    let server = crash.open();
    crash.check(&server);
    let acknowledged: u64 = crash.writers.iter().map(|writer| writer.acknowledged).sum();
    assert!(acknowledged > ROUNDS * 50, "only {acknowledged} writes in {ROUNDS} rounds: too few to mean anything");
}

#[test]
fn a_stop_under_load_loses_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut crash = Crash::new(folder.path().join("data"), Random::seed("stop"));
    for _ in 0..2 {
        let server = crash.open();
        crash.check(&server);
        crash.load(server, |mut server| {
            let asked = Instant::now();
            server.signal(Signal::TERM);
            let status = server.ended();
            assert_eq!(status.code(), Some(0), "{}", server.log());
            assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        });
    }
    let server = crash.open();
    crash.check(&server);
}

#[test]
fn killed_while_it_starts_it_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("start"));
    {
        let server = Server::start_over(&data, &[]);
        let mut admin = server.set_up();
        admin.sql("CREATE NAMESPACE k; CREATE TABLE k.t (id BIGINT PRIMARY KEY)");
        for n in 0..20 {
            admin.sql(&format!("INSERT INTO k.t VALUES ({n})"));
        }
        server.kill();
    }
    for _ in 0..10 {
        Server::start_and_kill(&data, Duration::from_micros(random.within(1_000..300_000)));
    }
    let server = Server::start_over(&data, &[]);
    assert_eq!(server.log_in("admin").rows("SELECT COUNT(*) FROM k.t"), json!([["20"]]));
}

#[test]
fn one_server_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Server::start_over(&data, &[]);
    let mut admin = first.set_up();
    let refused = Server::try_start_over(&data, &[]).err().expect("the folder is in use");
    assert!(refused.contains("in use by another process"), "{refused}");
    admin.sql("CREATE NAMESPACE still_works");
    first.kill();
    let again = Server::start_over(&data, &[]);
    assert_eq!(
        again.log_in("admin").rows("SELECT COUNT(*) FROM system.namespaces WHERE name = 'still_works'"),
        json!([["1"]])
    );
}
