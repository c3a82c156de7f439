//! Whatever a network does to the bytes, at whatever stage of the protocol: in the end a client's rows are what SELECT
//! says. For one mailbox, a feed, a feed over a namespace, and the same with groups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Client;
use crate::proxy::{Fault, Plan, Proxy};
use crate::random::Random;
use crate::server::Server;
use crate::socket::{Message, Socket};

const TABLES: [&str; 2] = ["a", "b"];
/// Written last: whoever has it has all.
const MARK: i64 = 999;

type Key = (String, String, String);

/// A client that comes back: with its positions, or with a group.
struct Follower {
    sql: &'static str,
    user: &'static str,
    /// Over all tables and owners, of all owners of one table, or of its own rows.
    tables: &'static [&'static str],
    owners: &'static [&'static str],
    group: Option<&'static str>,
    rows: BTreeMap<Key, Value>,
    positions: BTreeMap<String, i64>,
    /// Of this subscription, by table: no position comes twice or out of order.
    order: BTreeMap<String, i64>,
    ready: bool,
}

impl Follower {
    fn new(
        sql: &'static str,
        user: &'static str,
        tables: &'static [&'static str],
        owners: &'static [&'static str],
        group: Option<&'static str>,
    ) -> Self {
        let (rows, positions, order) = Default::default();
        Self { sql, user, tables, owners, group, rows, positions, order, ready: false }
    }

    fn is_many(&self) -> bool {
        self.tables.len() > 1
    }

    fn subscribe(&self) -> Value {
        let options = match (self.group, self.ready) {
            (Some(group), _) => json!({"group": group, "batch_size": 3}),
            (None, true) if self.is_many() => json!({"from": self.positions}),
            (None, true) => json!({"from": self.positions[""]}),
            (None, false) => json!({"batch_size": 3}),
        };
        json!({"type": "subscribe", "subscription": {"id": "s", "sql": self.sql, "options": options}})
    }

    fn ack(&self) -> Value {
        let upto = if self.is_many() { json!(self.positions) } else { json!(self.positions[""]) };
        json!({"type": "ack", "subscription_id": "s", "upto": upto})
    }

    /// Takes a frame; `false`: it ends the subscription.
    fn take(&mut self, frame: &Value) -> bool {
        match frame["type"].as_str().unwrap() {
            "subscription_ack" => {
                self.order.clear();
                let control = &frame["batch_control"];
                if let Some(positions) = frame["positions"].as_object() {
                    self.positions = positions.iter().map(|(name, at)| (name.clone(), at.as_i64().unwrap())).collect();
                } else {
                    let at = control["snapshot_end_seq"].as_i64().or(control["last_seq_id"].as_i64()).unwrap_or(0);
                    self.positions = [(String::new(), at)].into();
                }
                // A load that begins puts all that was known away: its rows come in the place of it.
                let resumed = !control["has_more"].as_bool().unwrap() && control["snapshot_end_seq"].is_null();
                self.ready = resumed && (!self.is_many() || self.ready || self.group.is_some());
            }
            "initial_data_batch" => {
                if frame["batch_control"]["batch_num"] == 0 {
                    self.rows.clear();
                }
                frame["rows"].as_array().unwrap().iter().for_each(|row| self.put(row));
                self.ready = frame["batch_control"]["status"] == "ready";
            }
            "change" => {
                let gone = frame["change_type"] == "delete";
                let row = if gone { &frame["old_values"][0] } else { &frame["rows"][0] };
                let seq: i64 = row["_seq"].as_str().unwrap().parse().unwrap();
                let table = if self.is_many() { row["_table"].as_str().unwrap() } else { "" }.to_owned();
                let last = self.order.insert(table.clone(), seq).unwrap_or(0);
                assert!(seq > last, "{seq} after {last}: {frame}");
                self.positions.insert(table, seq);
                if gone { drop(self.rows.remove(&key(row))) } else { self.put(row) }
            }
            "error" => {
                let code = frame["code"].as_str().unwrap();
                assert!(["GROUP_TAKEN_OVER", "ACK_REFUSED", "NOT_FOUND"].contains(&code), "{frame}");
                // What was sent twice may be refused the second time.
                return code != "GROUP_TAKEN_OVER";
            }
            _ => panic!("{frame}"),
        }
        true
    }

    fn put(&mut self, row: &Value) {
        self.rows.insert(key(row), row["v"].clone());
    }

    /// What SELECT says.
    fn selected(&self, server: &Server) -> BTreeMap<Key, Value> {
        let mut all = BTreeMap::new();
        for table in self.tables {
            let own = self.owners == [self.user];
            let (columns, name) = if self.is_many() { ("_table", true) } else { ("''", false) };
            let sql = match own {
                true => format!("SELECT '', '', id, v FROM p.{table} WHERE v >= 3"),
                false => format!("EXECUTE AS USER '*' (SELECT {columns}, _user_id, id, v FROM p.{table} WHERE v >= 3)"),
            };
            for row in server.log_in(self.user).rows(&sql).as_array().unwrap() {
                let text = |at: usize| row[at].as_str().unwrap().to_owned();
                let table = if name { text(0) } else { String::new() };
                all.insert((table, text(1), text(2)), row[3].clone());
            }
        }
        all
    }

    fn has_marks(&self) -> bool {
        let marks: BTreeSet<_> = self.rows.keys().filter(|key| key.2 == MARK.to_string()).collect();
        marks.len() == self.tables.len() * self.owners.len()
    }

    /// Connects, subscribes, and takes what comes until the connection is of no use any more, or `done`.
    fn follow(&mut self, socket: Option<Socket>, random: &mut Random, frames: u64, done: impl Fn(&Self) -> bool) {
        let Some(mut socket) = socket else { return };
        let send = |socket: &mut Socket, random: &mut Random, message: &Value| {
            // Now and then it is sent twice: who gets no answer asks again.
            for _ in 0..1 + u64::from(random.one_in(5)) {
                if socket.try_send(message).is_err() {
                    return;
                }
            }
        };
        let message = self.subscribe();
        send(&mut socket, random, &message);
        for _ in 0..frames {
            if done(self) {
                break;
            }
            let frame = match socket.try_message() {
                Ok(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
                Ok(Message::Binary(bytes)) => socket.unpack(&bytes),
                Ok(_) | Err(_) => return,
            };
            if !self.take(&frame) {
                return;
            }
            if frame["type"] == "initial_data_batch" && !self.ready {
                send(&mut socket, random, &json!({"type": "next_batch", "subscription_id": "s"}));
            }
            if self.group.is_some() && self.ready && random.one_in(3) {
                let message = self.ack();
                send(&mut socket, random, &message);
            }
        }
        if random.one_in(2) {
            socket.cut();
        }
    }
}

fn key(row: &Value) -> Key {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    (text("_table"), text("_user_id"), text("id"))
}

fn write(client: &mut Client, random: &mut Random, count: u64) {
    for _ in 0..count {
        let table = TABLES[usize::try_from(random.within(0..2)).unwrap()];
        let (id, v) = (random.within(0..15), random.within(0..8));
        let sql = match random.within(0..4) {
            0 | 1 => format!("INSERT INTO p.{table} VALUES ({id}, {v})"),
            2 => format!("UPDATE p.{table} SET v = {v} WHERE id = {id}"),
            _ => format!("DELETE FROM p.{table} WHERE id = {id}"),
        };
        if let Err(failure) = client.try_sql(&json!({ "sql": sql })) {
            assert_eq!(failure.sqlstate, "23505", "{sql}: {failure}");
        }
    }
}

#[test]
fn rows_are_what_select_says_whatever_the_network_does() {
    let server = Server::start(&["websocket.client_timeout=2s", "websocket.heartbeat_interval=500ms"]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE p");
    for table in TABLES {
        let sql = format!("CREATE USER TABLE p.{table} (id BIGINT PRIMARY KEY, v INT) WITH (DURABILITY = 'buffered')");
        admin.sql(&sql);
    }
    let mut people = [server.new_user(&mut admin, "alice", "user"), server.new_user(&mut admin, "bob", "user")];
    let worker = server.new_user(&mut admin, "worker", "service");
    let seed = Random::seed("faults");
    let mut random = Random::new(seed);
    let both = &["alice", "bob"];
    let mut followers = [
        Follower::new("SELECT id, v FROM p.a WHERE v >= 3", "alice", &["a"], &["alice"], None),
        Follower::new("SELECT id, v FROM p.a WHERE v >= 3", "alice", &["a"], &["alice"], Some("mine")),
        Follower::new(
            "EXECUTE AS USER '*' (SELECT id, v, _user_id FROM p.a WHERE v >= 3)",
            "worker",
            &["a"],
            both,
            None,
        ),
        Follower::new(FEED, "worker", &TABLES, both, None),
        Follower::new(FEED, "worker", &TABLES, both, Some("agent")),
    ];
    let proxy = Proxy::before(server.address);
    for round in 0..14 {
        for follower in &mut followers {
            let person = usize::try_from(random.within(0..2)).unwrap();
            write(&mut people[person], &mut random, 6);
            let plan = Plan::any(&mut random);
            proxy.set(plan);
            // Shown when the test fails.
            println!("round {round} {}: {plan:?}", follower.sql);
            let token = if follower.user == "alice" { people[0].token() } else { worker.token() };
            let socket = Socket::open_through(proxy.address, token, Duration::from_millis(150)).ok();
            let frames = random.within(1..40);
            follower.follow(socket, &mut random, frames, |_| false);
        }
    }
    for person in &mut people {
        for table in TABLES {
            person.sql(&format!("INSERT INTO p.{table} VALUES ({MARK}, 7)"));
        }
    }
    proxy.set(Plan { down: Fault::Trickle(seed), up: Fault::None });
    for follower in &mut followers {
        let token = if follower.user == "alice" { people[0].token() } else { worker.token() };
        let done = |follower: &Follower| follower.ready && follower.has_marks();
        // A word of an earlier connection that comes late may take the group once more.
        for _ in 0..1 + 5 * u32::from(follower.group.is_some()) {
            let socket = Socket::open_through(proxy.address, token, Duration::from_secs(20)).unwrap();
            follower.follow(Some(socket), &mut random, 100_000, done);
            if done(follower) {
                break;
            }
        }
        let group = follower.group;
        assert_eq!(follower.rows, follower.selected(&server), "{} {group:?}", follower.sql);
    }
}

const FEED: &str = "EXECUTE AS USER '*' (SELECT id, v, _user_id FROM p.* WHERE v >= 3)";
