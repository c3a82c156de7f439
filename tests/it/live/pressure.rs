//! Slow readers and crowds: nobody else is slowed down, and who is given up is told (A11).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{World, error_of, seq_of, told};
use crate::server::eventually;
use crate::socket::{Message, Socket};

/// Sockets that do not read are together beyond what may wait for all: the one for which most waits goes, is told where
/// it stood, and misses nothing when it comes back. Who reads hears everything, and the writer never waits.
#[test]
fn the_slowest_goes_when_too_much_waits_for_all() {
    let mut world = World::new(&[
        "websocket.outbox_bytes=1MiB",
        "websocket.outbox_bytes_total=1536KiB",
        "websocket.client_timeout=120s",
        "websocket.max_messages_per_sec=1000",
    ]);
    let mut stalled: Vec<Socket> = (0..4)
        .map(|_| {
            let mut socket = Socket::open_as(world.server.address, world.alice.token(), "?compress=false");
            socket.follow("s", "SELECT id, body FROM w.mail");
            socket
        })
        .collect();
    let mut quick = world.socket(&world.alice);
    quick.follow("s", "SELECT id FROM w.mail");
    let mut other = world.socket(&world.bob);
    other.follow("s", "SELECT id FROM w.pub");
    let long = "x".repeat(100_000);
    let (mut written, mut slowest) = (0, Duration::ZERO);
    while world.admin.rows("SELECT COUNT(*) FROM system.live") == json!([["6"]]) {
        for _ in 0..10 {
            let began = Instant::now();
            world.alice.sql_with("INSERT INTO w.mail VALUES ($1, $2, 0)", json!([written, long]));
            slowest = slowest.max(began.elapsed());
            assert_eq!(told(&quick.json()), format!("insert {written}"));
            written += 1;
        }
        assert!(written < 2_000, "200 MB wait for those that do not read");
    }
    assert!(slowest < Duration::from_secs(5), "a writer waited {slowest:?}");
    // All four wait for the same: whose outbox is the largest is a matter of moments, and in the end each may go.
    world.admin.sql("INSERT INTO w.pub VALUES (1, 'x')");
    assert_eq!(told(&other.json()), "insert 1");
    let mut closed = 0;
    for socket in &mut stalled {
        socket.patience(Duration::from_millis(500));
        let (mut heard, mut last) = (0, 0);
        while let Ok(message) = socket.try_message() {
            let Message::Text(text) = message else { panic!("{message:?}") };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == "error" {
                assert_eq!(error_of(&frame), ("s", "SLOW_CONSUMER"));
                assert_eq!(frame["last_seq_id"], last);
                assert_eq!(socket.closed().0, 4_408);
                closed += 1;
                break;
            }
            assert_eq!(told(&frame), format!("insert {heard}"), "nothing is missing from the middle");
            last = seq_of(&frame);
            heard += 1;
        }
        let mut again = world.socket(&world.alice);
        again.subscribe("s", "SELECT id FROM w.mail", json!({"from": last}));
        assert_eq!(again.json()["type"], "subscription_ack");
        for id in heard..written {
            assert_eq!(told(&again.json()), format!("insert {id}"));
        }
    }
    assert!(closed > 0, "nobody was given up");
}

/// Everyone comes back at once: one opens at a time, the others in their order, and beyond the line they are told when to
/// come back. In the end all are there.
#[test]
fn a_crowd_that_comes_back_is_admitted_in_turns() {
    let mut world = World::new(&[
        "websocket.max_concurrent_opens=1",
        "websocket.max_waiting_opens=3",
        "websocket.max_messages_per_sec=1000",
    ]);
    super::insert(&mut world.alice, 0..200);
    let mut sockets: Vec<Socket> = (0..30).map(|_| world.socket(&world.alice)).collect();
    for socket in &mut sockets {
        for id in ["a", "b", "c"] {
            socket.subscribe(id, "SELECT id FROM w.mail", json!({}));
        }
    }
    let mut refused = 0;
    for socket in &mut sockets {
        let mut open = 0;
        while open < 3 {
            let frame = socket.json();
            match frame["type"].as_str().unwrap() {
                "subscription_ack" => open += 1,
                "initial_data_batch" => {}
                "error" => {
                    let (id, code) = error_of(&frame);
                    assert_eq!(code, "SUBSCRIBE_BUSY");
                    let wait = frame["retry_after_ms"].as_u64().unwrap();
                    assert!((100..=30_000).contains(&wait), "{frame}");
                    refused += 1;
                    assert!(refused < 100_000, "nobody gets in");
                    let id = id.to_owned();
                    socket.subscribe(&id, "SELECT id FROM w.mail", json!({}));
                }
                _ => panic!("{frame}"),
            }
        }
    }
    eventually("all are subscribed", || {
        (world.admin.rows("SELECT COUNT(*) FROM system.live") == json!([["90"]])).then_some(())
    });
    super::insert(&mut world.alice, 500..501);
    for socket in &mut sockets {
        let mut heard = 0;
        while heard < 3 {
            let frame = socket.json();
            if frame["type"] == "change" {
                assert_eq!(told(&frame), "insert 500");
                heard += 1;
            }
        }
    }
}
