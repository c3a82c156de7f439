//! Compression and MessagePack (§7.5).

use serde_json::{Value, json};

use super::{World, insert, told};
use crate::socket::{Message, Socket, gunzip};

fn long_row(world: &mut World, id: i64) {
    world.alice.sql_with("INSERT INTO w.mail VALUES ($1, $2, 0)", json!([id, "long ".repeat(400)]));
}

#[test]
fn long_frames_are_gzipped_and_short_ones_are_not() {
    let mut world = World::new(&[]);
    let mut socket = world.socket(&world.alice);
    socket.follow("s", "SELECT id, body FROM w.mail");
    insert(&mut world.alice, 1..2);
    assert!(matches!(socket.message(), Message::Text(_)), "below 512 bytes: text");
    long_row(&mut world, 2);
    let Message::Binary(bytes) = socket.message() else { panic!("at 512 bytes: gzip") };
    assert!(bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < 500, "{} bytes", bytes.len());
    let event: Value = serde_json::from_slice(&gunzip(&bytes)).unwrap();
    assert_eq!(told(&event), "insert 2");
    assert_eq!(event["rows"][0]["body"].as_str().unwrap().len(), 2_000);

    // The initial rows, too; and what does not get smaller stays text.
    socket.subscribe("all", "SELECT id, body FROM w.mail", json!({}));
    let ack = socket.json();
    assert_eq!(ack["type"], "subscription_ack");
    let Message::Binary(bytes) = socket.message() else { panic!("a batch") };
    let batch: Value = serde_json::from_slice(&gunzip(&bytes)).unwrap();
    assert_eq!(batch["rows"].as_array().unwrap().len(), 2);
}

#[test]
fn compression_can_be_turned_off() {
    let mut world = World::new(&[]);
    let mut socket = Socket::open_as(world.server.address, world.alice.token(), "?compress=false");
    socket.follow("s", "SELECT id, body FROM w.mail");
    long_row(&mut world, 1);
    let Message::Text(text) = socket.message() else { panic!("text") };
    assert!(text.len() > 2_000);
    // The same event, at the same time, to one who takes gzip.
    let mut packed = world.socket(&world.alice);
    packed.follow("s", "SELECT id, body FROM w.mail");
    long_row(&mut world, 2);
    assert!(matches!(packed.message(), Message::Binary(_)));
    assert!(matches!(socket.message(), Message::Text(_)));
}

#[test]
fn message_pack_says_the_same() {
    let mut world = World::new(&[]);
    insert(&mut world.alice, 1..3);
    let mut json_socket = world.socket(&world.alice);
    let mut packed = Socket::open_as(world.server.address, world.alice.token(), "?serialization=msgpack");
    for socket in [&mut json_socket, &mut packed] {
        socket.subscribe("s", "SELECT * FROM w.mail", json!({"batch_size": 1}));
    }
    let mut both = |what: &str| -> Value {
        let (left, right) = (json_socket.json(), packed.json());
        assert_eq!(left, right, "{what}");
        right
    };
    both("acknowledgement");
    both("first batch");
    json_socket.send(&json!({"type": "next_batch", "subscription_id": "s", "last_seq_id": 1}));
    packed.send(&json!({"type": "next_batch", "subscription_id": "s", "last_seq_id": 1}));
    let mut both = |what: &str| -> Value {
        let (left, right) = (json_socket.json(), packed.json());
        assert_eq!(left, right, "{what}");
        right
    };
    assert_eq!(both("second batch")["batch_control"]["status"], "ready");
    insert(&mut world.alice, 3..4);
    assert_eq!(told(&both("insert")), "insert 3");
    world.alice.sql("UPDATE w.mail SET body = NULL WHERE id = 3");
    assert_eq!(told(&both("update")), "update 3");
    world.alice.sql("DELETE FROM w.mail WHERE id = 3");
    assert_eq!(told(&both("delete")), "delete 3");
    long_row(&mut world, 4);
    assert_eq!(told(&both("a long one, gzipped")), "insert 4");
    // Errors are JSON in any format.
    packed.subscribe("bad", "SELECT * FROM mail", json!(null));
    let Message::Text(text) = packed.message() else { panic!("JSON text") };
    assert!(text.contains("INVALID_SQL"), "{text}");
}

#[test]
fn message_pack_by_message_gzipped_and_broken() {
    let mut world = World::new(&[]);
    let mut socket = Socket::open(world.server.address);
    let protocol = json!({"serialization": "msgpack", "compression": "gzip"});
    socket.send(&json!({"type": "authenticate", "method": "jwt", "token": world.alice.token(), "protocol": protocol}));
    let Message::Text(text) = socket.message() else { panic!("auth_success is text in any format") };
    assert!(text.contains("auth_success") && text.contains("msgpack"), "{text}");
    socket.packed = true;
    for bytes in [&b"\xc1"[..], b"{\"type\":\"ping\"}", b"\x1f\x8b broken", b""] {
        socket.send_frame(2, bytes).unwrap();
        let error = socket.json();
        assert_eq!(
            (&error["subscription_id"], &error["code"]),
            (&json!("protocol"), &json!("UNSUPPORTED_DATA")),
            "{error}"
        );
    }
    // Gzipped messages of the client; one that unpacks to more than is allowed is not unpacked.
    let subscribe =
        json!({"type": "subscribe", "subscription": {"id": "s", "sql": "SELECT id FROM w.mail", "options": null}});
    socket.send_frame(2, &gzip(&rmp_serde::to_vec_named(&subscribe).unwrap())).unwrap();
    assert_eq!(socket.json()["type"], "subscription_ack");
    socket.send_frame(2, &gzip(&vec![b'x'; 200 << 20])).unwrap();
    assert_eq!(socket.json()["type"], "error");
    insert(&mut world.alice, 1..2);
    assert_eq!(told(&socket.json()), "insert 1");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
