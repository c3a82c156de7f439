//! Topics over HTTP: what is answered, what is refused, and a long poll that is one.

use std::io::Write as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::World;
use crate::http::{Client, Response, connect};
use crate::server::eventually;

const CONSUME: &str = "/v1/api/topics/consume";
const ACK: &str = "/v1/api/topics/ack";

fn world(settings: &[&str]) -> World {
    let mut world = World::new(settings);
    for sql in [
        "CREATE TOPIC w.feed",
        "ALTER TOPIC w.feed ADD SOURCE w.mail ON INSERT",
        "ALTER TOPIC w.feed ADD SOURCE w.mail ON UPDATE WITH (payload = 'diff')",
        "ALTER TOPIC w.feed ADD SOURCE w.pub ON DELETE WITH (payload = 'key')",
    ] {
        world.admin.sql(sql);
    }
    world
}

fn ask(group: &str, more: Value) -> Value {
    let mut body = json!({"topic_id": "w.feed", "group_id": group});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn consume(client: &mut Client, group: &str, more: Value) -> Value {
    let response = client.post(CONSUME, &ask(group, more));
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()
}

fn ack(client: &mut Client, group: &str, upto: u64) -> Response {
    client.post(ACK, &ask(group, json!({"upto_offset": upto})))
}

fn offsets(answer: &Value) -> Vec<u64> {
    answer["messages"].as_array().unwrap().iter().map(|m| m["offset"].as_u64().unwrap()).collect()
}

fn payload(message: &Value) -> Value {
    serde_json::from_slice(&BASE64.decode(message["payload"].as_str().unwrap()).unwrap()).unwrap()
}

#[test]
fn a_message_says_what_happened_to_whose_row() {
    let mut world = world(&[]);
    let latest = consume(&mut world.service, "late", json!({}));
    assert_eq!(latest, json!({"messages": [], "next_offset": 0, "has_more": false, "first_offset": 0}));
    world.alice.sql("INSERT INTO w.mail VALUES (7, 'x', NULL)");
    world.alice.sql("UPDATE w.mail SET body = 'y' WHERE id = 7");
    world.admin.sql("DELETE FROM w.pub WHERE id = 1");

    let mut answer = consume(&mut world.service, "g", json!({"start": "Earliest", "limit": 2}));
    assert_eq!(
        (offsets(&answer), &answer["next_offset"], &answer["has_more"]),
        (vec![0, 1], &json!(2), &json!(true)),
        "{answer}"
    );
    let mut inserted = answer["messages"][0].take();
    let mut row = payload(&inserted);
    assert!(row["_seq"].take().is_string());
    assert_eq!(row, json!({"id": "7", "body": "x", "n": null, "_seq": null, "_deleted": false, "_table": "w:mail"}));
    assert!(inserted["timestamp_ms"].take().as_i64().unwrap() > 1_700_000_000_000);
    inserted["payload"].take();
    assert_eq!(
        inserted,
        json!({"topic_id": "w.feed", "partition_id": 0, "offset": 0, "payload": null, "key": "7",
               "timestamp_ms": null, "user": "alice", "op": "Insert", "deliveries": 1})
    );
    let mut changed = payload(&answer["messages"][1]);
    changed["_seq"].take();
    assert_eq!(
        changed,
        json!({"id": "7", "body": "y", "_seq": null, "_deleted": false, "_table": "w:mail", "_old": {"body": "x"}})
    );
    let rest = consume(&mut world.service, "g", json!({}));
    let deleted = &rest["messages"][0];
    assert_eq!((payload(deleted), &deleted["op"]), (json!({"id": "1"}), &json!("Delete")));
    assert!(deleted.get("user").is_none(), "nobody's: the table is shared");
    // Groups do not know of each other, and one that has seen nothing misses nothing.
    assert_eq!(offsets(&consume(&mut world.service, "late", json!({"start": "Earliest"}))), [0, 1, 2]);
    assert_eq!(offsets(&consume(&mut world.admin, "own", json!({"start": {"Offset": 2}}))), [2]);
    assert!(offsets(&consume(&mut world.service, "g", json!({}))).is_empty(), "hidden");
}

#[test]
fn an_acknowledgement_goes_up_to_what_was_delivered() {
    let mut world = world(&[]);
    world.alice.sql("INSERT INTO w.mail VALUES (7, 'x', 1), (8, 'x', 1), (9, 'x', 1)");
    let early = ack(&mut world.service, "g", 0);
    assert_eq!((early.status, &early.json()["code"]), (409, &json!("NOT_DELIVERED")), "{}", early.body);
    assert_eq!(offsets(&consume(&mut world.service, "g", json!({"start": "earliest", "limit": 2}))), [0, 1]);
    let beyond = ack(&mut world.service, "g", 2);
    assert_eq!(
        beyond.json(),
        json!({"error": "Offset 2 of topic 'w.feed' has not been delivered to group 'g'; 2 is the next one",
               "code": "NOT_DELIVERED"})
    );
    for _ in 0..2 {
        let done = ack(&mut world.service, "g", 1);
        assert_eq!((done.status, done.json()), (200, json!({"success": true, "acknowledged_offset": 1})));
    }
    let late = ack(&mut world.service, "g", 0);
    assert_eq!(late.json(), json!({"success": true, "acknowledged_offset": 0}), "it is done with already");
    let offset = world.admin.rows("SELECT last_acked_offset FROM system.topic_offsets WHERE group_id = 'g'");
    assert_eq!(offset, json!([["1"]]), "and does not go back");
}

#[test]
fn what_is_not_acknowledged_comes_again_to_whoever_waits_and_then_to_the_dead_letters() {
    let mut world = world(&["topics.visibility_timeout=100ms"]);
    world.admin.sql("ALTER TOPIC w.feed SET (max_deliveries = 2)");
    world.alice.sql("INSERT INTO w.mail VALUES (7, 'x', 1)");
    let wait = json!({"start": "Earliest", "timeout_seconds": 60});
    for deliveries in 1..=2 {
        // The first member died with it: nobody tells, its time passes.
        let answer = consume(&mut world.service, "g", wait.clone());
        assert_eq!((offsets(&answer), &answer["messages"][0]["deliveries"]), (vec![0], &json!(deliveries)));
    }
    let mut other = world.service.again();
    let waiting = std::thread::spawn(move || {
        other.post(CONSUME, &json!({"topic_id": "w.feed", "group_id": "g", "timeout_seconds": 60})).json()
    });
    let dead = json!({"topic_id": "w.feed_dead", "group_id": "undertaker", "start": "Earliest", "timeout_seconds": 60});
    let answer = world.service.post(CONSUME, &dead).json();
    let message = &answer["messages"][0];
    assert_eq!(
        message["origin"],
        json!({"topic_id": "w.feed", "partition_id": 0, "offset": 0, "group_id": "g", "deliveries": 2}),
        "{answer}"
    );
    assert_eq!(
        (&message["key"], &message["user"], &payload(message)["body"]),
        (&json!("7"), &json!("alice"), &json!("x"))
    );
    // The group goes on behind it.
    world.alice.sql("INSERT INTO w.mail VALUES (8, 'x', 1)");
    assert_eq!(offsets(&waiting.join().unwrap()), [1]);
    let row =
        "SELECT last_acked_offset, lag, in_flight, dead_lettered, lost FROM system.deliveries WHERE group_id = 'g'";
    assert_eq!(world.admin.rows(row), json!([["0", "1", "1", "1", "0"]]));
}

#[test]
fn a_long_poll_is_answered_by_the_commit() {
    let mut world = world(&[]);
    assert!(offsets(&consume(&mut world.service, "g", json!({}))).is_empty());
    let began = Instant::now();
    let mut other = world.service.again();
    let waiting = std::thread::spawn(move || consume(&mut other, "g", json!({"timeout_seconds": 60, "limit": 5})));
    world.alice.sql("INSERT INTO w.mail VALUES (7, 'x', 1), (8, 'y', 2)");
    assert_eq!(offsets(&waiting.join().unwrap()), [0, 1], "one commit, one answer");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // And by its end, where nothing comes.
    let began = Instant::now();
    assert!(offsets(&consume(&mut world.service, "g", json!({"timeout_seconds": 0.3}))).is_empty());
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[test]
fn those_who_wait_are_few_and_told_of_every_end() {
    let mut world = world(&["topics.max_waiters=1"]);
    let mut waiter = world.service.again();
    let waiting = std::thread::spawn(move || waiter.post(CONSUME, &ask("a", json!({"timeout_seconds": 60}))));
    let begun = "SELECT count(*) FROM system.topic_offsets WHERE group_id = 'a'";
    eventually("it waits", || (world.admin.rows(begun) == json!([["1"]])).then_some(()));
    // It takes its place a moment behind the group's beginning.
    let busy = eventually("the only place is taken", || {
        let answer = world.service.post(CONSUME, &ask("b", json!({"timeout_seconds": 0.05})));
        (answer.status == 503).then_some(answer)
    });
    assert_eq!((&busy.json()["code"], busy.header("retry-after")), (&json!("BUSY"), Some("1")));
    world.admin.sql("DROP TOPIC w.feed");
    let told = waiting.join().unwrap();
    assert_eq!(told.status, 404, "{}", told.body);
    assert_eq!(told.json(), json!({"error": "Topic 'w.feed' does not exist", "code": "NOT_FOUND"}));
}

#[test]
fn a_client_that_goes_leaves_its_place_and_gets_nothing() {
    let mut world = world(&["topics.max_waiters=1"]);
    consume(&mut world.service, "g", json!({}));
    let body = ask("g", json!({"timeout_seconds": 60})).to_string();
    let mut gone = connect(world.server.address).unwrap();
    let token = world.service.token();
    write!(
        gone,
        "POST {CONSUME} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut other = world.service.again();
    let short = ask("other", json!({"timeout_seconds": 0.05}));
    eventually("it waits", || (other.post(CONSUME, &short).status == 503).then_some(()));
    drop(gone);
    eventually("its place is free", || (other.post(CONSUME, &short).status == 200).then_some(()));
    world.alice.sql("INSERT INTO w.mail VALUES (7, 'x', 1)");
    assert_eq!(offsets(&consume(&mut world.service, "g", json!({}))), [0], "what came is not the dead one's");
}

#[test]
fn a_server_that_stops_tells_whoever_waits() {
    let mut world = world(&[]);
    let mut waiter = world.service.again();
    let waiting = std::thread::spawn(move || waiter.post(CONSUME, &ask("a", json!({"timeout_seconds": 60}))));
    let begun = "SELECT count(*) FROM system.topic_offsets WHERE group_id = 'a'";
    eventually("it waits", || (world.admin.rows(begun) == json!([["1"]])).then_some(()));
    world.server.signal(rustix::process::Signal::TERM);
    let told = waiting.join().unwrap();
    assert_eq!((told.status, &told.json()["code"]), (503, &json!("SHUTTING_DOWN")), "{}", told.body);
}

#[test]
fn only_services_and_administrators_consume() {
    let mut world = world(&[]);
    for client in [&mut world.alice, &mut world.anonymous] {
        let refused = client.post(CONSUME, &ask("g", json!({})));
        assert_eq!(refused.status, 403);
        let text = "Topic consumption requires service, dba, or system role";
        assert_eq!(refused.json(), json!({"error": text, "code": "FORBIDDEN"}));
        let refused = ack(client, "g", 0);
        let text = "Topic acknowledgment requires service, dba, or system role";
        assert_eq!((refused.status, refused.json()), (403, json!({"error": text, "code": "FORBIDDEN"})));
    }
    let nobody = world.server.client().post(CONSUME, &ask("g", json!({})));
    assert_eq!((nobody.status, &nobody.json()["code"]), (401, &json!("MISSING_AUTHORIZATION")));
    assert_eq!(world.admin.rows("SELECT count(*) FROM system.topic_offsets"), json!([["0"]]));
}

#[test]
fn what_is_no_request_is_told_apart() {
    let mut world = world(&["topics.max_groups=1"]);
    consume(&mut world.service, "g", json!({}));
    let cases = [
        (json!({"topic_id": "w.nothing"}), 404, "NOT_FOUND", "Topic 'w.nothing' does not exist"),
        (json!({"topic_id": "feed"}), 404, "NOT_FOUND", "Topic 'feed' does not exist"),
        (json!({"topic_id": "w/../x.y"}), 404, "NOT_FOUND", "does not exist"),
        (json!({"group_id": ""}), 400, "SQL_EXECUTION_ERROR", "Invalid group name"),
        (json!({"group_id": "a\u{0}"}), 400, "SQL_EXECUTION_ERROR", "control character"),
        (json!({"group_id": "second"}), 400, "INVALID_INPUT", "topics.max_groups"),
        (json!({"group_id": 5}), 400, "INVALID_INPUT", "Invalid JSON payload"),
        (json!({"partition_id": 1}), 400, "INVALID_INPUT", "has no partition 1"),
        (json!({"partition_id": -1}), 400, "INVALID_INPUT", "Invalid JSON payload"),
        (json!({"start": "Middle"}), 400, "INVALID_INPUT", "start is"),
        (json!({"start": {"Offset": 1, "offset": 2}}), 400, "INVALID_INPUT", "start is"),
        (json!({"start": {"Offset": "x"}}), 400, "INVALID_INPUT", "Invalid JSON payload"),
        (json!({"limit": 0}), 400, "INVALID_INPUT", "limit is"),
        (json!({"limit": -1}), 400, "INVALID_INPUT", "Invalid JSON payload"),
        (json!({"timeout_seconds": -1}), 400, "INVALID_INPUT", "timeout_seconds"),
        (json!({"timeout_seconds": 1e300}), 400, "INVALID_INPUT", "timeout_seconds"),
    ];
    for (more, status, code, text) in cases {
        let answer = world.service.post(CONSUME, &ask("g", more.clone()));
        let body = answer.json();
        assert_eq!((answer.status, &body["code"]), (status, &json!(code)), "{more}: {body}");
        assert!(body["error"].as_str().unwrap().contains(text), "{more}: {body}");
    }
    for text in ["", "{", "[]", "{\"topic_id\":\"w.feed\"}"] {
        for path in [CONSUME, ACK] {
            let answer = world.service.post_text(path, text);
            assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("INVALID_INPUT")), "{text:?}");
        }
    }
    let wrong = world.service.get(CONSUME);
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
}
