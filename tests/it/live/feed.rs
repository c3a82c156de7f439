//! The feed over all tables of a namespace: its rows are what SELECT says, across cuts, restarts, flushes and DDL.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::http::Client;
use crate::random::Random;
use crate::server::Server;
use crate::socket::{Message, Socket};

const FEED: &str = "EXECUTE AS USER '*' (SELECT id, v, _user_id FROM f.* WHERE v >= 3)";

/// Rows by table, owner and key, and where the subscriber stands in each table.
#[derive(Default, Debug)]
struct Known {
    rows: BTreeMap<(String, String, String), Value>,
    positions: BTreeMap<String, i64>,
    ready: bool,
}

impl Known {
    fn take(&mut self, frame: &Value) {
        match frame["type"].as_str().unwrap() {
            "subscription_ack" => {
                for (table, at) in frame["positions"].as_object().unwrap() {
                    self.positions.insert(table.clone(), at.as_i64().unwrap());
                }
                self.ready = frame["batch_control"]["status"] == "ready";
            }
            "initial_data_batch" => {
                self.ready = frame["batch_control"]["status"] == "ready";
                frame["rows"].as_array().unwrap().iter().for_each(|row| self.put(row));
            }
            "change" => {
                let gone = frame["change_type"] == "delete";
                let row = if gone { &frame["old_values"][0] } else { &frame["rows"][0] };
                let seq: i64 = row["_seq"].as_str().unwrap().parse().unwrap();
                let table = row["_table"].as_str().unwrap();
                let last = self.positions.entry(table.to_owned()).or_default();
                assert!(seq > *last, "{seq} after {last}: {frame}");
                *last = seq;
                if gone { drop(self.rows.remove(&key(row))) } else { self.put(row) }
            }
            "feed_table" if frame["change"] == "dropped" => {
                let table = frame["table"].as_str().unwrap();
                self.rows.retain(|key, _| key.0 != table);
                self.positions.remove(table);
            }
            "feed_table" => {}
            _ => panic!("{frame}"),
        }
    }

    fn put(&mut self, row: &Value) {
        self.rows.insert(key(row), row["v"].clone());
    }
}

fn key(row: &Value) -> (String, String, String) {
    let text = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("no {name}: {row}")).to_owned();
    (text("_table"), text("_user_id"), text("id"))
}

/// What SELECT says of these tables.
fn selected(client: &mut Client, tables: &[&str]) -> BTreeMap<(String, String, String), Value> {
    let mut all = BTreeMap::new();
    for table in tables {
        let sql = format!("EXECUTE AS USER '*' (SELECT _table, _user_id, id, v FROM f.{table} WHERE v >= 3)");
        for row in client.rows(&sql).as_array().unwrap() {
            let text = |at: usize| row[at].as_str().unwrap().to_owned();
            all.insert((text(0), text(1), text(2)), row[3].clone());
        }
    }
    all
}

fn write(client: &mut Client, random: &mut Random, tables: &[&str], count: u64) {
    for _ in 0..count {
        let table = tables[usize::try_from(random.within(0..tables.len() as u64)).unwrap()];
        let (id, v) = (random.within(0..12), random.within(0..8));
        let sql = match random.within(0..4) {
            0 | 1 => format!("INSERT INTO f.{table} (id, v) VALUES ({id}, {v})"),
            2 => format!("UPDATE f.{table} SET v = {v} WHERE id = {id}"),
            _ => format!("DELETE FROM f.{table} WHERE id = {id}"),
        };
        if let Err(failure) = client.try_sql(&json!({ "sql": sql })) {
            assert_eq!(failure.sqlstate, "23505", "{sql}: {failure}");
        }
    }
}

/// Takes what comes until `count` frames or a pause; asks for batches as a client does.
fn follow(socket: &mut Socket, known: &mut Known, count: u64) {
    socket.patience(std::time::Duration::from_millis(300));
    for _ in 0..count {
        let Ok(message) = socket.try_message() else { return };
        let frame = match message {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            Message::Binary(bytes) => socket.unpack(&bytes),
            other => panic!("{other:?}"),
        };
        known.take(&frame);
        if frame["type"] == "initial_data_batch" && !known.ready {
            socket.send(&json!({"type": "next_batch", "subscription_id": "f"}));
        }
    }
}

#[test]
fn a_feed_over_tables_is_whole_across_cuts_restarts_flushes_and_ddl() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("feed"));
    let mut tables = vec!["a", "b", "c"];
    let mut known = Known::default();
    let mut server = Server::start_over(&data, &[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE f");
    for table in &tables {
        admin.sql(&format!("CREATE USER TABLE f.{table} (id BIGINT PRIMARY KEY, v INT)"));
    }
    drop(server.new_user(&mut admin, "alice", "user"));
    drop(server.new_user(&mut admin, "bob", "user"));
    drop(server.new_user(&mut admin, "worker", "service"));
    for round in 0..8 {
        let mut people = [server.log_in("alice"), server.log_in("bob")];
        let worker = server.log_in("worker");
        for person in &mut people {
            write(person, &mut random, &tables, 20);
        }
        let mut socket = Socket::open_as(server.address, worker.token(), "");
        // An unfinished load is begun anew; afterwards it comes back with what it knows of each table.
        let options = if known.ready { json!({"from": known.positions}) } else { json!({"batch_size": 4}) };
        if !known.ready {
            known = Known::default();
        }
        socket.subscribe("f", FEED, options);
        follow(&mut socket, &mut known, random.within(1..10));
        let person = usize::try_from(random.within(0..2)).unwrap();
        write(&mut people[person], &mut random, &tables, 15);
        match round {
            2 => {
                admin.sql("CREATE USER TABLE f.d (id BIGINT PRIMARY KEY, v INT, w TEXT DEFAULT 'x')");
                tables.push("d");
            }
            // Its rows are there before the table is: they are told when it joins.
            3 => {
                let rows = "SELECT CAST(value AS BIGINT) AS id, CAST(7 AS INT) AS v FROM generate_series(1, 3)";
                admin.sql(&format!("CREATE USER TABLE f.e (PRIMARY KEY (id)) AS {rows}"));
                tables.push("e");
            }
            4 => drop(admin.sql("ALTER TABLE f.a ADD COLUMN w TEXT")),
            5 => {
                admin.sql("DROP TABLE f.b");
                tables.retain(|table| *table != "b");
                // Whoever is away when a table goes hears nothing of it: it is not in the next acknowledgement.
                known.rows.retain(|key, _| key.0 != "f.b");
                known.positions.remove("f.b");
            }
            _ => {}
        }
        write(&mut people[1 - person], &mut random, &tables, 15);
        follow(&mut socket, &mut known, random.within(1..60));
        known.rows.retain(|key, _| tables.contains(&key.0.trim_start_matches("f.")));
        known.positions.retain(|table, _| tables.contains(&table.trim_start_matches("f.")));
        socket.cut();
        if random.within(0..2) == 0 {
            for table in &tables {
                admin.sql(&format!("STORAGE FLUSH TABLE f.{table}"));
            }
        }
        if random.within(0..2) == 0 {
            server.kill();
            server = Server::start_over(&data, &[]);
            admin = server.log_in("admin");
        }
    }
    let mut worker = server.log_in("worker");
    let mut socket = Socket::open_as(server.address, worker.token(), "");
    let options = if known.ready { json!({"from": known.positions}) } else { json!({}) };
    if !known.ready {
        known = Known::default();
    }
    socket.subscribe("f", FEED, options);
    follow(&mut socket, &mut known, 10_000);
    assert!(known.ready);
    assert_eq!(known.rows, selected(&mut worker, &tables));
}
