//! What breaks the rules of the socket: each is told or closed, and everyone else goes on.

use std::time::Duration;

use serde_json::json;

use super::{World, error_of, insert, told};
use crate::socket::{Message, Socket};

#[test]
fn messages_that_are_none() {
    let world = World::new(&[]);
    for text in [
        "",
        "{",
        "[]",
        "null",
        "SELECT 1",
        r#"{"type":"dance"}"#,
        r#"{"type":"subscribe"}"#,
        r#"{"type":"subscribe","subscription":{"id":"s"}}"#,
        r#"{"type":"subscribe","subscription":{"id":5,"sql":"SELECT 1"}}"#,
        r#"{"type":"subscribe","subscription":{"id":"s","sql":"SELECT * FROM w.mail","options":{"batch_size":-1}}}"#,
        r#"{"type":"subscribe","subscription":{"id":"s","sql":"SELECT * FROM w.mail","options":{"from":"soon"}}}"#,
        r#"{"type":"subscribe","subscription":{"id":"s","sql":"SELECT * FROM w.mail","options":{"from":-5}}}"#,
        r#"{"type":"next_batch"}"#,
        r#"{"type":"authenticate","method":"jwt","token":"x"}"#,
        &"[".repeat(100_000),
    ] {
        let mut socket = world.socket(&world.alice);
        socket.send_frame(1, text.as_bytes()).unwrap();
        let (code, reason) = socket.closed();
        assert_eq!(code, 1_011, "{text:.40}");
        assert!(reason.starts_with("Invalid message: ") && reason.len() <= 123, "{text:.40}: {reason}");
    }
    let mut socket = world.socket(&world.alice);
    socket.follow("s", "SELECT id FROM w.mail");
}

#[test]
fn binary_where_text_was_agreed_on() {
    let mut world = World::new(&[]);
    let mut socket = world.socket(&world.alice);
    for bytes in [&b"\x81\xa4type\xa4ping"[..], b"", b"\x1f\x8b not gzip", br#"{"type":"ping"}"#] {
        socket.send_frame(2, bytes).unwrap();
        let error = socket.json();
        assert_eq!(error_of(&error), ("protocol", "UNSUPPORTED_DATA"));
        assert!(error["message"].as_str().unwrap().contains("Binary not supported"), "{error}");
    }
    socket.follow("s", "SELECT id FROM w.mail");
    insert(&mut world.alice, 1..2);
    assert_eq!(told(&socket.json()), "insert 1");
}

#[test]
fn text_that_is_too_long() {
    let mut world = World::new(&["websocket.max_message_size=16KiB"]);
    let mut socket = world.socket(&world.alice);
    let sql = format!("SELECT id FROM w.mail WHERE body <> '{}'", "x".repeat(17 << 10));
    socket.subscribe("s", &sql, json!(null));
    let error = socket.json();
    assert_eq!(error_of(&error), ("protocol", "MESSAGE_TOO_LARGE"));
    assert!(error["message"].as_str().unwrap().contains("16384"), "{error}");
    socket.follow("s", "SELECT id FROM w.mail");
    insert(&mut world.alice, 1..2);
    assert_eq!(told(&socket.json()), "insert 1");

    // Far beyond, its head alone is enough: nothing of it is waited for.
    for head in
        [&[0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4][..], &[0x01, 0xff, 0, 0, 0, 0, 0, 0x01, 0, 0, 1, 2, 3, 4]]
    {
        let mut socket = world.socket(&world.alice);
        socket.send_raw(head).unwrap();
        assert_eq!(error_of(&socket.json()), ("protocol", "MESSAGE_TOO_LARGE"));
        assert_eq!(socket.closed(), (1_009, "Message too large".to_owned()));
    }
    // In many parts.
    let mut socket = world.socket(&world.alice);
    socket.send_raw(&part(0x01, &[b'x'; 8_000])).unwrap();
    for _ in 0..4 {
        socket.send_raw(&part(0x00, &[b'x'; 8_000])).unwrap();
    }
    assert_eq!(error_of(&socket.json()), ("protocol", "MESSAGE_TOO_LARGE"));
    assert_eq!(socket.closed().0, 1_009);
}

/// A frame of a message in parts.
fn part(first: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 126];
    frame.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(bytes);
    frame
}

#[test]
fn frames_that_break_the_websocket_protocol() {
    let mut world = World::new(&[]);
    for bytes in [
        // Not masked.
        &[0x81, 0x04, b'p', b'i', b'n', b'g'][..],
        // A reserved opcode.
        &[0x83, 0x80, 1, 2, 3, 4],
        // A reserved bit.
        &[0xf1, 0x80, 1, 2, 3, 4],
        // A ping in parts.
        &[0x09, 0x80, 1, 2, 3, 4],
        // Longer than memory.
        &[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4],
        // Text that is no UTF-8.
        &[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe],
        // A continuation of nothing.
        &[0x80, 0x81, 0, 0, 0, 0, b'x'],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut socket = world.socket(&world.alice);
        socket.send_raw(bytes).unwrap();
        socket.patience(Duration::from_secs(20));
        // A close, an error, or the end: but not silence for ever, and nothing for the others.
        let ended = loop {
            match socket.try_message() {
                Ok(Message::Text(_)) => {}
                Ok(Message::Close(code, _)) => break code != 1_000,
                Ok(other) => panic!("{bytes:?}: {other:?}"),
                Err(error) => {
                    break !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                }
            }
        };
        assert!(ended, "{bytes:?} was taken in silence");
    }
    let mut socket = world.socket(&world.alice);
    socket.follow("s", "SELECT id FROM w.mail");
    insert(&mut world.alice, 1..2);
    assert_eq!(told(&socket.json()), "insert 1");
}

#[test]
fn a_message_in_parts_is_one_message() {
    let world = World::new(&[]);
    let mut socket = world.socket(&world.alice);
    let text = json!({"type": "subscribe", "subscription": {"id": "s", "sql": "SELECT id FROM w.mail"}}).to_string();
    let (head, tail) = text.as_bytes().split_at(20);
    socket.send_raw(&part(0x01, head)).unwrap();
    socket.send_raw(&part(0x80, tail)).unwrap();
    assert_eq!(socket.json()["type"], "subscription_ack");
}

#[test]
fn too_many_messages_and_subscriptions() {
    let world = World::new(&["websocket.max_messages_per_sec=20"]);
    let mut socket = world.socket(&world.alice);
    for _ in 0..200 {
        socket.send(&json!({"type": "ping"}));
    }
    let error = socket.json();
    assert_eq!(error_of(&error), ("rate_limit", "RATE_LIMIT_EXCEEDED"));
    assert_eq!(error["message"], "Too many messages");

    let world = World::new(&["websocket.max_subscriptions_per_connection=3", "websocket.max_subscriptions_per_user=5"]);
    let (mut one, mut two) = (world.socket(&world.alice), world.socket(&world.alice));
    for id in ["a", "b", "c"] {
        one.follow(id, "SELECT id FROM w.mail");
    }
    one.subscribe("d", "SELECT id FROM w.mail", json!(null));
    let error = one.json();
    assert_eq!(error["subscription_id"], "d");
    assert!(["SUBSCRIPTION_LIMIT_EXCEEDED", "UNSUPPORTED"].contains(&error["code"].as_str().unwrap()), "{error}");
    one.follow("a", "SELECT body FROM w.mail");
    for id in ["a", "b"] {
        two.follow(id, "SELECT id FROM w.mail");
    }
    two.subscribe("c", "SELECT id FROM w.mail", json!(null));
    assert_eq!(error_of(&two.json()), ("c", "SUBSCRIPTION_LIMIT_EXCEEDED"));
    world.socket(&world.bob).follow("c", "SELECT id FROM w.mail");
    one.send(&json!({"type": "unsubscribe", "subscription_id": "b"}));
    one.quiet();
    two.follow("c", "SELECT id FROM w.mail");
}

#[test]
fn upgrades_that_are_none() {
    let world = World::new(&[
        "security.cors.allowed_origins=[\"https://app.example.org\"]",
        "security.strict_ws_origin_check=true",
    ]);
    let open = |headers: &[(&str, &str)]| Socket::try_open(world.server.address, "/v1/ws", headers).err();
    let refused = open(&[]).expect("an origin is required");
    assert_eq!((refused.status, refused.body.contains("Origin header required")), (403, true), "{}", refused.body);
    let refused = open(&[("Origin", "https://evil.example.org")]).expect("not this one");
    assert_eq!((refused.status, refused.body.contains("Origin not allowed")), (403, true), "{}", refused.body);
    assert!(open(&[("Origin", "https://app.example.org")]).is_none());
    let plain = world.server.client().get("/v1/ws");
    assert!((400..500).contains(&plain.status), "{plain:?}");
}
