//! A client of one live query that comes back over whatever a network leaves of its connections: with its positions, with a
//! group, or with the id of its last event.
//!
//! Owns the rows that it was told. Holds at each frame that no position comes twice or out of order, and that one position
//! always says the same.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::event_stream::EventStream;
use crate::http::Client;
use crate::random::Random;
use crate::socket::{Message, Socket};

/// Table, owner and key; empty where the query has but one.
pub type Key = (String, String, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Json,
    Packed,
    Events,
}

/// How long nothing but heartbeats is listened to.
const HEARTBEATS: Duration = Duration::from_secs(10);

/// Who follows what, and what SELECT says of it: each statement gives table, owner, key and `v`.
#[derive(Debug, Clone)]
pub struct Subject {
    pub user: &'static str,
    pub sql: &'static str,
    pub selects: Vec<String>,
    pub group: Option<&'static str>,
    pub way: Way,
}

pub struct Follower {
    pub subject: Subject,
    pub rows: BTreeMap<Key, Value>,
    /// What each position of a table said: a row's `v`, or that it is gone.
    pub told: BTreeMap<(String, i64), (Key, Option<Value>)>,
    positions: BTreeMap<String, i64>,
    /// The positions that this connection asked for.
    asked: BTreeMap<String, i64>,
    /// The last one of this subscription, by table.
    order: BTreeMap<String, i64>,
    event_id: Option<String>,
    pub ready: bool,
}

/// One connection of it.
pub enum Connection {
    Socket(Box<Socket>),
    Events(Box<EventStream>),
}

impl Connection {
    /// The next frame, with the id of its event; `None`: nothing follows.
    fn frame(&mut self) -> Option<(Value, Option<String>)> {
        let started = Instant::now();
        match self {
            Self::Socket(socket) => loop {
                match socket.any_message() {
                    Ok(Message::Text(text)) => return Some((serde_json::from_str(&text).unwrap(), None)),
                    Ok(Message::Binary(bytes)) => return Some((socket.unpack(&bytes), None)),
                    Ok(Message::Ping(payload)) if started.elapsed() < HEARTBEATS => {
                        socket.send_frame(10, &payload).ok()?;
                    }
                    Ok(_) | Err(_) => return None,
                }
            },
            Self::Events(events) => loop {
                match events.try_any_event() {
                    Ok(Some(event)) if event.comment && started.elapsed() >= HEARTBEATS => return None,
                    Ok(Some(event)) if event.comment || event.data.is_empty() => {}
                    Ok(Some(event)) => return Some((event.json(), event.id)),
                    Ok(None) | Err(_) => return None,
                }
            },
        }
    }

    /// Now and then a message is sent twice: who gets no answer asks again.
    fn send(&mut self, random: &mut Random, message: &Value) {
        let Self::Socket(socket) = self else { return };
        for _ in 0..1 + u64::from(random.one_in(5)) {
            if socket.try_send(message).is_err() {
                return;
            }
        }
    }
}

impl Follower {
    pub fn new(subject: Subject) -> Self {
        let (rows, told, positions, asked, order) = Default::default();
        Self { subject, rows, told, positions, asked, order, event_id: None, ready: false }
    }

    /// Shown when a test fails.
    pub fn state(&self) -> String {
        let Self { positions, order, event_id, ready, asked, .. } = self;
        format!("{positions:?}, {order:?}, {event_id:?}, asked for {asked:?}, ready: {ready}")
    }

    fn is_many(&self) -> bool {
        self.subject.sql.contains(".*")
    }

    fn subscribe(&self) -> Value {
        let options = match (self.subject.group, self.ready) {
            (Some(group), _) => json!({"group": group, "batch_size": 3}),
            (None, true) if self.is_many() => json!({"from": self.positions}),
            (None, true) => json!({"from": self.positions[""]}),
            (None, false) => json!({"batch_size": 3}),
        };
        json!({"type": "subscribe", "subscription": {"id": "s", "sql": self.subject.sql, "options": options}})
    }

    fn ack(&self) -> Value {
        let upto = if self.is_many() { json!(self.positions) } else { json!(self.positions[""]) };
        json!({"type": "ack", "subscription_id": "s", "upto": upto})
    }

    /// # Errors
    /// The connection broke, or the server is on its way down.
    pub fn connect(&self, address: SocketAddr, token: &str, patience: Duration) -> io::Result<Connection> {
        let query = if self.subject.way == Way::Packed { "?serialization=msgpack" } else { "" };
        if self.subject.way != Way::Events {
            let socket = Socket::open_through(address, token, query, patience)?;
            return Ok(Connection::Socket(Box::new(socket)));
        }
        let sql: String = self.subject.sql.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let authorization = format!("Bearer {token}");
        let mut headers = vec![("Authorization", authorization.as_str())];
        headers.extend(self.event_id.as_deref().map(|id| ("Last-Event-ID", id)));
        let path = format!("/v1/live?batch_size=3&sql={sql}");
        match EventStream::open_through(address, &path, &headers, patience)? {
            Ok(events) => Ok(Connection::Events(Box::new(events))),
            Err(refused) if refused.status == 503 => Err(io::Error::other(refused.body)),
            Err(refused) => panic!("{} with {headers:?}: {refused:?}", self.subject.sql),
        }
    }

    /// Subscribes, and takes what comes until the connection is of no use any more, or `done`.
    pub fn follow(
        &mut self,
        mut connection: Connection,
        random: &mut Random,
        frames: u64,
        done: impl Fn(&Self) -> bool,
    ) {
        self.asked.clear();
        if let Some(id) = &self.event_id {
            self.asked.insert(String::new(), id.parse().unwrap());
        } else if self.ready && self.subject.group.is_none() {
            self.asked.clone_from(&self.positions);
        }
        connection.send(random, &self.subscribe());
        for _ in 0..frames {
            if done(self) {
                break;
            }
            let Some((frame, id)) = connection.frame() else { return };
            if !self.take(&frame) {
                return;
            }
            if self.subject.way == Way::Events {
                self.event_id = id.or(self.event_id.take());
            }
            if frame["type"] == "initial_data_batch" && !self.ready {
                connection.send(random, &json!({"type": "next_batch", "subscription_id": "s"}));
            }
            if self.subject.group.is_some() && self.ready && random.one_in(3) {
                connection.send(random, &self.ack());
            }
        }
        match connection {
            Connection::Socket(socket) if random.one_in(2) => socket.cut(),
            Connection::Events(events) => events.shut(),
            Connection::Socket(_) => {}
        }
    }

    /// Takes a frame; `false`: it ends the subscription.
    fn take(&mut self, frame: &Value) -> bool {
        match frame["type"].as_str().unwrap() {
            "subscription_ack" => self.begin(frame),
            "initial_data_batch" => {
                if frame["batch_control"]["batch_num"] == 0 {
                    self.rows.clear();
                }
                for row in frame["rows"].as_array().unwrap() {
                    self.tell(row, Some(row["v"].clone()));
                }
                self.ready = frame["batch_control"]["status"] == "ready";
            }
            "change" => {
                let gone = frame["change_type"] == "delete";
                let row = if gone { &frame["old_values"][0] } else { &frame["rows"][0] };
                let (table, seq) = self.place(row);
                let last = self.order.insert(table.clone(), seq).unwrap_or(0);
                assert!(seq > last, "{seq} after {last}: {frame} of {:?}", self.subject);
                self.positions.insert(table, seq);
                self.tell(row, (!gone).then(|| row["v"].clone()));
            }
            "error" => {
                let code = frame["code"].as_str().unwrap();
                // What was sent twice may be refused the second time.
                let passing = ["ACK_REFUSED", "NOT_FOUND"].contains(&code);
                assert!(passing || ["GROUP_TAKEN_OVER", "SHUTTING_DOWN"].contains(&code), "{frame}");
                return passing;
            }
            _ => panic!("{frame}"),
        }
        true
    }

    /// Takes the acknowledgement. A load that begins puts all that was known away: its rows come in the place of it.
    fn begin(&mut self, frame: &Value) {
        let control = &frame["batch_control"];
        if let Some(positions) = frame["positions"].as_object() {
            self.positions = positions.iter().map(|(name, at)| (name.clone(), at.as_i64().unwrap())).collect();
        } else {
            let at = control["snapshot_end_seq"].as_i64().or(control["last_seq_id"].as_i64()).unwrap_or(0);
            self.positions = [(String::new(), at)].into();
        }
        let resumed = !control["has_more"].as_bool().unwrap() && control["snapshot_end_seq"].is_null();
        self.order = if resumed { self.asked.clone() } else { self.positions.clone() };
        self.ready = resumed && (!self.is_many() || self.ready || self.subject.group.is_some());
    }

    fn tell(&mut self, row: &Value, v: Option<Value>) {
        let (place, key) = (self.place(row), key(row));
        let said = (key.clone(), v.clone());
        let before = self.told.insert(place, said.clone());
        assert!(before.as_ref().is_none_or(|before| *before == said), "{before:?}, now {row} of {:?}", self.subject);
        match v {
            Some(v) => drop(self.rows.insert(key, v)),
            None => drop(self.rows.remove(&key)),
        }
    }

    fn place(&self, row: &Value) -> (String, i64) {
        let table = if self.is_many() { row["_table"].as_str().unwrap() } else { "" };
        let seq = row["_seq"].as_str().unwrap_or_else(|| panic!("no _seq: {row} of {:?}", self.subject));
        (table.to_owned(), seq.parse().unwrap())
    }

    /// What SELECT says.
    pub fn selected(&self, client: &mut Client) -> BTreeMap<Key, Value> {
        let mut all = BTreeMap::new();
        for sql in &self.subject.selects {
            for row in client.rows(sql).as_array().unwrap() {
                let text = |at: usize| row[at].as_str().unwrap().to_owned();
                all.insert((text(0), text(1), text(2)), row[3].clone());
            }
        }
        all
    }
}

/// A row of a STREAM table has none but its position; its deletes name it.
fn key(row: &Value) -> Key {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let id = match (row["id"].as_str(), row["row_id"].as_str()) {
        (Some(id), _) => id.to_owned(),
        (None, Some(row_id)) => row_id.rsplit(':').next().unwrap().to_owned(),
        (None, None) => text("_seq"),
    };
    (text("_table"), text("_user_id"), id)
}
