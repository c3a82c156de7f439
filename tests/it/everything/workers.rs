//! A member of a consumer group that is killed in the middle of a batch, and the topic as a whole.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::place::Place;
use super::writers::Change;
use crate::http::{Client, Response};
use crate::random::Random;
use crate::server::eventually;

pub const TOPIC: &str = "e.feed";

pub struct Member {
    partition: u64,
    random: Random,
    delivered: BTreeSet<u64>,
    /// All below were acknowledged, and answered.
    done: u64,
}

impl Member {
    pub fn new(partition: u64, random: Random) -> Self {
        Self { partition, random, delivered: BTreeSet::new(), done: 0 }
    }

    fn body(&self, more: Value) -> Value {
        let mut body = json!({"topic_id": TOPIC, "group_id": "g", "partition_id": self.partition});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    }

    /// The group begins with the first entry.
    pub fn begin(&self, client: &mut Client) {
        let answer = client.post("/v1/api/topics/consume", &self.body(json!({"start": "Earliest"})));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    pub fn run(&mut self, place: &Place) {
        while !place.is_over() {
            let mut client = place.client("worker");
            while !place.is_over() && self.turn(&mut client).is_some() {}
        }
    }

    /// Takes some messages and acknowledges those up to which it has all, or some of them, or none: it dies. `None`: the
    /// server is gone.
    fn turn(&mut self, client: &mut Client) -> Option<()> {
        let (limit, wait) = (self.random.within(1..20), u64::from(self.random.one_in(4)));
        let body = self.body(json!({"limit": limit, "timeout_seconds": wait})).to_string();
        if self.random.one_in(8) {
            client.abandon("POST /v1/api/topics/consume", &[], body.as_bytes());
        }
        let answer = client.request("POST /v1/api/topics/consume", &[], body.as_bytes()).ok()?;
        for message in answered(&answer)?["messages"].as_array().unwrap() {
            let offset = message["offset"].as_u64().unwrap();
            assert!(offset >= self.done, "{offset} comes again, all below {} is done", self.done);
            self.delivered.insert(offset);
        }
        let known = (self.done..).take_while(|offset| self.delivered.contains(offset)).count() as u64;
        if known > 0 && !self.random.one_in(5) {
            let upto = self.done + self.random.within(0..known);
            let body = self.body(json!({ "upto_offset": upto })).to_string();
            let answer = client.request("POST /v1/api/topics/ack", &[], body.as_bytes()).ok()?;
            answered(&answer)?;
            self.done = upto + 1;
        }
        Some(())
    }

    /// Works until all of its partition is done with.
    pub fn finish(&mut self, place: &Place, entries: &[Entry]) {
        let count = entries.iter().filter(|entry| entry.partition == self.partition).count() as u64;
        let mut client = place.client("worker");
        eventually("the partition is done with", || {
            self.turn(&mut client).expect("the server lives");
            (self.done == count).then_some(())
        });
        assert!(self.delivered.iter().copied().eq(0..count), "each message was delivered");
    }
}

/// `None`: it is on its way down.
fn answered(answer: &Response) -> Option<Value> {
    if answer.status == 503 || answer.body.is_empty() {
        return None;
    }
    assert_eq!(answer.status, 200, "{}", answer.body);
    Some(answer.json())
}

/// An entry of the topic: the change, and the position that it has in its table.
#[derive(Debug)]
pub struct Entry {
    pub partition: u64,
    pub table: String,
    pub user: String,
    pub seq: i64,
    pub change: Change,
}

/// The whole topic; within a partition offsets have no gap.
pub fn read_topic(admin: &mut Client) -> Vec<Entry> {
    let rows = admin.rows(&format!("CONSUME FROM {TOPIC} FROM EARLIEST LIMIT 1000000"));
    let mut next = BTreeMap::new();
    let mut read = |row: &Value| {
        let payload: Value = serde_json::from_slice(&BASE64.decode(row[4].as_str().unwrap()).unwrap()).unwrap();
        let text = |name: &str| payload[name].as_str().unwrap_or_else(|| panic!("no {name}: {payload}")).to_owned();
        let op = ["insert", "update", "delete"].into_iter().find(|op| *op == row[7]).unwrap();
        let partition = row[1].as_u64().unwrap();
        let expected = next.entry(partition).or_insert(0);
        assert_eq!(row[2].as_str(), Some(expected.to_string().as_str()), "offsets have no gap");
        *expected += 1;
        Entry {
            partition,
            table: text("_table").replace(':', "."),
            user: row[6].as_str().unwrap_or("").to_owned(),
            seq: text("_seq").parse().unwrap(),
            change: Change { op, key: text("id").parse().unwrap(), v: text("v") },
        }
    };
    rows.as_array().unwrap().iter().map(&mut read).collect()
}
