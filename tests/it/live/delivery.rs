//! Nothing lost, nothing twice, in order: under load, over reconnects, for those who can not keep up, and for each only
//! what is theirs (LQ-1, LQ-2, LQ-3, A11).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{World, error_of, insert, seq_of, told};
use crate::http::Client;
use crate::random::Random;
use crate::socket::{Message, Socket};

/// Rows by key, as a subscriber knows them.
#[derive(Default, Debug, PartialEq)]
struct Known {
    rows: BTreeMap<(String, String), Value>,
    last: i64,
}

impl Known {
    /// Takes what a frame says; a change that is not above the last one is a fault.
    fn take(&mut self, frame: &Value) {
        match frame["type"].as_str().unwrap() {
            "initial_data_batch" => {
                for row in frame["rows"].as_array().unwrap() {
                    self.put(row);
                    let seq: i64 = row["_seq"].as_str().unwrap().parse().unwrap();
                    assert!(seq > self.last, "{seq} after {}", self.last);
                    self.last = seq;
                }
            }
            "change" => {
                let seq = seq_of(frame);
                assert!(seq > self.last, "{seq} after {}: {frame}", self.last);
                self.last = seq;
                if frame["change_type"] == "delete" {
                    let row = &frame["old_values"][0];
                    self.rows.remove(&key(row));
                } else {
                    self.put(&frame["rows"][0]);
                }
            }
            "subscription_ack" => {}
            _ => panic!("{frame}"),
        }
    }

    fn put(&mut self, row: &Value) {
        let mut row = row.clone();
        // They come along without being selected.
        row.as_object_mut().unwrap().retain(|name, _| name != "_seq" && name != "_storage_id");
        self.rows.insert(key(&row), row);
    }
}

fn key(row: &Value) -> (String, String) {
    (row["_user_id"].as_str().unwrap_or_default().to_owned(), row["id"].as_str().unwrap().to_owned())
}

/// What SELECT says.
fn selected(client: &mut Client, sql: &str) -> BTreeMap<(String, String), Value> {
    let result = client.sql(sql).swap_remove(0);
    let names: Vec<&str> = result["schema"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    let object = |row: &Value| -> Value {
        names
            .iter()
            .zip(row.as_array().unwrap())
            .map(|(name, cell)| ((*name).to_owned(), cell.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    result["rows"].as_array().unwrap().iter().map(object).map(|row| (key(&row), row)).collect()
}

fn write(client: &mut Client, random: &mut Random, count: u64) {
    for _ in 0..count {
        let (id, n) = (random.within(0..30), random.within(0..10));
        let sql = match random.within(0..6) {
            0..=2 => format!("INSERT INTO w.mail VALUES ({id}, 'v{n}', {n})"),
            3 => format!("UPDATE w.mail SET n = {n} WHERE id = {id}"),
            4 => format!("UPDATE w.mail SET n = n + 1 WHERE id < {id} AND n < 9"),
            _ => format!("DELETE FROM w.mail WHERE id = {id}"),
        };
        if let Err(failure) = client.try_sql(&json!({ "sql": sql })) {
            assert_eq!(failure.sqlstate, "23505", "{sql}: {failure}");
        }
    }
}

/// Writers write; a subscriber loads in small batches, is cut off and comes back again and again. In the end it knows
/// exactly what SELECT says.
fn follow_and_compare(sql: &str, as_feed: bool) {
    let mut world = World::new(&[]);
    let mut random = Random::new(Random::seed("delivery"));
    let reader = if as_feed { world.service.again() } else { world.alice.again() };
    let wrap = |sql: &str| if as_feed { format!("EXECUTE AS USER '*' ({sql})") } else { sql.to_owned() };
    let mut writers = vec![world.alice.again(), world.alice.again(), world.bob.again()];
    write(&mut writers[0], &mut random, 40);
    let mut known = Known::default();
    let mut loaded = false;
    for _ in 0..6 {
        let mut socket = world.socket(&reader);
        let options = if loaded { json!({"from": known.last}) } else { json!({"batch_size": 3}) };
        if !loaded {
            known = Known::default();
        }
        socket.subscribe("s", &wrap(sql), options);
        std::thread::scope(|scope| {
            for writer in &mut writers {
                let mut random = Random::new(random.next());
                scope.spawn(move || write(writer, &mut random, 25));
            }
            for _ in 0..random.within(1..60) {
                socket.patience(std::time::Duration::from_millis(300));
                let Ok(message) = socket.try_message() else { break };
                let frame = match message {
                    Message::Text(text) => serde_json::from_str(&text).unwrap(),
                    Message::Binary(bytes) => socket.unpack(&bytes),
                    other => panic!("{other:?}"),
                };
                known.take(&frame);
                loaded |= frame["type"] == "initial_data_batch" && frame["batch_control"]["status"] == "ready";
                if frame["batch_control"]["has_more"] == true && frame["type"] == "initial_data_batch" {
                    socket.send(&json!({"type": "next_batch", "subscription_id": "s"}));
                }
            }
            socket.cut();
        });
    }
    // The last time it stays until a last row, which only it waits for, has come.
    let mut socket = world.socket(&reader);
    let options = if loaded { json!({"from": known.last}) } else { json!({}) };
    if !loaded {
        known = Known::default();
    }
    socket.subscribe("s", &wrap(sql), options);
    known.take(&socket.json());
    world.alice.sql("INSERT INTO w.mail VALUES (1000, 'the end', 5)");
    while !known.rows.keys().any(|(_, id)| id == "1000") {
        known.take(&socket.json());
    }
    let mut reader = reader;
    assert_eq!(known.rows, selected(&mut reader, &wrap(sql)));
}

#[test]
fn a_mailbox_over_reconnects() {
    follow_and_compare("SELECT id, body, n FROM w.mail", false);
}

#[test]
fn a_filtered_mailbox_over_reconnects() {
    follow_and_compare("SELECT id, n FROM w.mail WHERE n BETWEEN 3 AND 7", false);
}

#[test]
fn the_feed_over_reconnects() {
    follow_and_compare("SELECT id, body, n, _user_id FROM w.mail", true);
}

#[test]
fn everyone_hears_their_own_and_nothing_else() {
    let mut world = World::new(&[]);
    let users: Vec<String> = (0..8).map(|n| format!("user{n}")).collect();
    let clients: Vec<Client> = users.iter().map(|user| world.server.new_user(&mut world.admin, user, "user")).collect();
    let mut sockets: Vec<Socket> = clients.iter().map(|client| world.socket(client)).collect();
    for socket in &mut sockets {
        socket.follow("s", "SELECT id, body FROM w.mail");
    }
    let mut feed = world.socket(&world.service);
    feed.follow("f", "EXECUTE AS USER '*' (SELECT id, body, _user_id FROM w.mail)");
    const EACH: usize = 25;
    std::thread::scope(|scope| {
        for (client, user) in clients.iter().zip(&users) {
            scope.spawn(move || {
                let mut client = client.again();
                for id in 0..EACH {
                    client.sql_with("INSERT INTO w.mail VALUES ($1, $2, 0)", json!([id, user]));
                }
            });
        }
    });
    for (socket, user) in sockets.iter_mut().zip(&users) {
        for id in 0..EACH {
            let event = socket.json();
            assert_eq!((told(&event), &event["rows"][0]["body"]), (format!("insert {id}"), &json!(user)));
        }
        socket.quiet();
    }
    let mut heard: BTreeMap<String, usize> = BTreeMap::new();
    let mut last = 0;
    for _ in 0..EACH * users.len() {
        let event = feed.json();
        let row = &event["rows"][0];
        assert_eq!(row["body"], row["_user_id"]);
        let next = heard.entry(row["_user_id"].as_str().unwrap().to_owned()).or_default();
        assert_eq!(row["id"], next.to_string(), "each user's rows in their order");
        *next += 1;
        assert!(seq_of(&event) > last, "one order over all users");
        last = seq_of(&event);
    }
    feed.quiet();
}

#[test]
fn one_large_statement_arrives_whole() {
    let mut world = World::new(&[]);
    let mut socket = world.socket(&world.alice);
    socket.follow("s", "SELECT id, body FROM w.mail");
    insert(&mut world.alice, 0..2_000);
    for id in 0..2_000 {
        assert_eq!(told(&socket.json()), format!("insert {id}"));
    }
}

#[test]
fn who_can_not_keep_up_is_told_where_to_come_back() {
    let mut world = World::new(&["websocket.outbox_bytes=64KiB", "websocket.client_timeout=120s"]);
    let mut slow = Socket::open_as(world.server.address, world.alice.token(), "?compress=false");
    slow.follow("s", "SELECT id, body FROM w.mail");
    let mut quick = world.socket(&world.alice);
    quick.follow("s", "SELECT id FROM w.mail");
    // The slow one does not read: what the sockets' buffers take is let through, then its outbox runs over.
    let long = "x".repeat(100_000);
    let mut written = 0;
    while world.admin.rows("SELECT COUNT(*) FROM system.live") == json!([["2"]]) {
        for _ in 0..10 {
            world.alice.sql_with("INSERT INTO w.mail VALUES ($1, $2, 0)", json!([written, long]));
            assert_eq!(
                told(&quick.json()),
                format!("insert {written}"),
                "another socket of the same user misses nothing"
            );
            written += 1;
        }
        assert!(written < 2_000, "200 MB wait for one that does not read");
    }
    let mut heard = 0;
    let mut last = 0;
    let error = loop {
        let frame = slow.json();
        if frame["type"] == "error" {
            break frame;
        }
        assert_eq!(told(&frame), format!("insert {heard}"), "nothing is missing from the middle");
        last = seq_of(&frame);
        heard += 1;
    };
    assert!(heard < written, "it read everything: the test's rows are too few");
    assert_eq!(error_of(&error).1, "SLOW_CONSUMER");
    assert!(error["message"].as_str().unwrap().contains("from"), "{error}");
    assert_eq!(error["last_seq_id"], last, "{error}");
    assert_eq!(slow.closed().0, 4_408);

    let mut again = world.socket(&world.alice);
    again.subscribe("s", "SELECT id FROM w.mail", json!({"from": last}));
    assert_eq!(again.json()["type"], "subscription_ack");
    for id in heard..written {
        assert_eq!(told(&again.json()), format!("insert {id}"));
    }
}

#[test]
fn a_position_beyond_the_end_is_no_gap() {
    let mut world = World::new(&[]);
    insert(&mut world.alice, 0..3);
    let mut socket = world.socket(&world.alice);
    socket.subscribe("s", "SELECT id FROM w.mail", json!({"from": i64::MAX}));
    assert_eq!(socket.json()["type"], "subscription_ack");
    insert(&mut world.alice, 3..4);
    assert_eq!(told(&socket.json()), "insert 3");
}

#[test]
fn a_thousand_subscriptions_of_one_user_are_allowed() {
    let mut world = World::new(&[]);
    let mut sockets: Vec<Socket> = (0..10).map(|_| world.socket(&world.alice)).collect();
    for socket in &mut sockets {
        for id in 0..100 {
            socket.subscribe(&format!("s{id}"), "SELECT id FROM w.mail", Value::Null);
        }
        for _ in 0..100 {
            assert_eq!(socket.json()["type"], "subscription_ack");
        }
    }
    assert_eq!(world.admin.rows("SELECT COUNT(*) FROM system.live"), json!([["1000"]]));
    insert(&mut world.alice, 1..2);
    for socket in &mut sockets {
        let mut ids: Vec<String> =
            (0..100).map(|_| socket.json()["subscription_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 100, "each of them once");
    }
}
