//! Writers that know in the end what each of their statements has done: what was acknowledged, and what of the unanswered ones
//! is there. Each has keys of its own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::place::Place;
use crate::random::Random;
use crate::server::eventually;

pub const MARK: &str = "mark";
const KEYS: u64 = 16;

/// One committed change: what was done to a row, and its `v` (of a delete, the last one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub op: &'static str,
    pub key: u64,
    pub v: String,
}

type Rows = BTreeMap<u64, String>;

pub struct Writer {
    pub user: &'static str,
    pub table: &'static str,
    random: Random,
    counter: u64,
    rows: Rows,
    pub committed: Vec<Change>,
}

/// A statement, its changes, and the rows behind it.
struct Step {
    sql: String,
    changes: Vec<Change>,
    rows: Rows,
}

impl Writer {
    pub fn new(user: &'static str, table: &'static str, random: Random) -> Self {
        Self { user, table, random, counter: 0, rows: Rows::new(), committed: Vec::new() }
    }

    fn is_stream(&self) -> bool {
        self.table == "o.pings"
    }

    /// A STREAM table takes each key once, since nothing is updated in it.
    fn step(&mut self) -> Step {
        self.counter += 1;
        let (table, v, n) = (self.table, format!("{}-{}-{}", self.user, self.table, self.counter), self.counter % 5);
        let mut rows = self.rows.clone();
        let mut changes = Vec::new();
        let first = if self.is_stream() { self.counter * KEYS } else { self.random.within(0..KEYS) };
        let keys = first..first + if self.random.one_in(3) { 4 } else { 1 };
        let sql = match self.random.within(0..6) {
            0..=2 => {
                let free: Vec<u64> = keys.filter(|key| !rows.contains_key(key)).collect();
                if free.is_empty() {
                    return self.step();
                }
                let values: Vec<String> = free.iter().map(|key| format!("({key}, '{v}', {n})")).collect();
                rows.extend(free.iter().map(|key| (*key, v.clone())));
                changes.extend(free.iter().map(|key| Change { op: "insert", key: *key, v: v.clone() }));
                format!("INSERT INTO {table} VALUES {}", values.join(", "))
            }
            3 | 4 if !self.is_stream() => {
                for (key, old) in rows.range_mut(keys.clone()) {
                    old.clone_from(&v);
                    changes.push(Change { op: "update", key: *key, v: v.clone() });
                }
                format!("UPDATE {table} SET v = '{v}', n = {n} WHERE id >= {} AND id < {}", keys.start, keys.end)
            }
            _ => {
                let nth = self.random.within(0..rows.len().max(1) as u64) as usize;
                let key = rows.keys().nth(nth).copied().unwrap_or(0);
                changes.extend(rows.remove(&key).map(|v| Change { op: "delete", key, v }));
                format!("DELETE FROM {table} WHERE id = {key}")
            }
        };
        Step { sql, changes, rows }
    }

    pub fn run(&mut self, place: &Place) {
        let mut client = place.client(self.user);
        while !place.is_over() {
            let step = self.step();
            let durability = if self.random.one_in(2) { "sync" } else { "buffered" };
            let done = match client.sql_if_there(&json!({"sql": step.sql, "durability": durability})) {
                Some(Ok(_)) => true,
                Some(Err(failure)) => panic!("{}: {failure}", step.sql),
                None => {
                    let done = self.has_happened(place, &step);
                    client = place.client(self.user);
                    done
                }
            };
            if done {
                self.rows = step.rows;
                self.committed.extend(step.changes);
                place.acknowledge();
            }
        }
    }

    /// Of a statement without an answer, whose server is gone.
    fn has_happened(&self, place: &Place, step: &Step) -> bool {
        let sql = format!("SELECT id, v FROM {}", self.table);
        let there = eventually("the rows are told", || {
            let results = place.client(self.user).sql_if_there(&json!({ "sql": sql }))?;
            Some(rows_of(&results.unwrap_or_else(|failure| panic!("{sql}: {failure}"))[0]["rows"]))
        });
        assert!(
            there == self.rows || there == step.rows,
            "{}'s {}: {there:?} is neither without nor with {}; without it {:?}",
            self.user,
            self.table,
            step.sql,
            self.rows
        );
        there == step.rows && there != self.rows
    }

    /// Writes what comes last.
    pub fn mark(&mut self, place: &Place) {
        let key = 1 << 40;
        place.client(self.user).sql(&format!("INSERT INTO {} VALUES ({key}, '{MARK}', 3)", self.table));
        self.rows.insert(key, MARK.to_owned());
        self.committed.push(Change { op: "insert", key, v: MARK.to_owned() });
        let rows = place.client(self.user).rows(&format!("SELECT id, v FROM {}", self.table));
        assert_eq!(rows_of(&rows), self.rows, "{}'s {}", self.user, self.table);
    }
}

fn rows_of(rows: &Value) -> Rows {
    let pair = |row: &Value| (row[0].as_str().unwrap().parse().unwrap(), row[1].as_str().unwrap().to_owned());
    rows.as_array().unwrap().iter().map(pair).collect()
}
