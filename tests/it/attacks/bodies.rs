//! Bodies that are huge, that never come, or that grow when they are unpacked.

use std::io::{BufReader, Write};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::Target;
use crate::http::{PATIENCE, connect, read_response};
use crate::socket::{Message, Socket};

/// Proves that a body of a gigabyte is refused by its length, before any of it is read.
#[test]
fn a_gigabyte_is_refused_by_its_length() {
    let target = Target::new(&[]);
    for path in ["/v1/api/sql", "/v1/api/auth/login", "/v1/api/topics/consume", "/none"] {
        let mut stream = BufReader::new(connect(target.server.address).unwrap());
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes()).unwrap();
        let answer = read_response(&mut stream).unwrap();
        assert_eq!(answer.status, 413, "{path}: {}", answer.body);
        assert_eq!(answer.json()["size_bytes"], 1_073_741_824_u64);
    }
}

/// Proves that a body without a length is cut off at the same size, however it is chunked.
#[test]
fn chunks_without_end_are_cut_off() {
    let target = Target::new(&["server.request_body_limit=64KiB"]);
    let mut stream = BufReader::new(connect(target.server.address).unwrap());
    let head = format!(
        "POST /v1/api/sql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        target.alice.token()
    );
    stream.get_mut().write_all(head.as_bytes()).unwrap();
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for _ in 0..64 {
        // Refused already: that is what was wanted.
        if stream.get_mut().write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    if let Ok(answer) = read_response(&mut stream) {
        assert_eq!(answer.status, 413, "{}", answer.body);
    }
    assert_eq!(target.server.client().get("/health").status, 200);
}

/// Proves that a body that does not come is given up in time, and holds nobody else up meanwhile.
#[test]
fn a_body_that_never_comes_is_given_up() {
    let mut target = Target::new(&["server.client_body_timeout=300ms"]);
    let started = Instant::now();
    let token = target.alice.token().to_owned();
    let mut slow: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = BufReader::new(connect(target.server.address).unwrap());
            let head = format!(
                "POST /v1/api/sql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000\r\n\r\n{{"
            );
            stream.get_mut().write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(target.alice.rows("SELECT 1"), json!([["1"]]));
    for stream in &mut slow {
        let answer = read_response(stream).unwrap();
        assert_eq!(answer.status, 408, "{}", answer.body);
    }
    assert!(started.elapsed() < PATIENCE);
}

fn bomb(bytes: usize) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![b' '; bytes]).unwrap();
    packed.finish().unwrap()
}

/// Proves that what is packed is not unpacked beyond a message's bound: on a socket it is refused, over HTTP nothing is
/// unpacked at all.
#[test]
fn what_is_packed_has_a_bound_when_unpacked() {
    let target = Target::new(&["websocket.max_message_size=64KiB"]);
    let bomb = bomb(64 << 20);
    assert!(bomb.len() < 100_000);
    let headers = [("Content-Encoding", "gzip"), ("Content-Type", "application/json")];
    let answer = target.alice.again().request("POST /v1/api/sql", &headers, &bomb).unwrap();
    assert_eq!(answer.status, 400, "{}", answer.body);

    let mut socket = Socket::open_as(target.server.address, target.alice.token(), "?serialization=msgpack");
    socket.send_frame(2, &bomb).unwrap();
    match socket.try_message() {
        Ok(Message::Text(text)) => assert!(text.contains("\"error\""), "{text}"),
        Ok(Message::Binary(bytes)) => assert_eq!(socket.unpack(&bytes)["type"], "error"),
        Ok(Message::Close(..)) | Err(_) => {}
        Ok(other) => panic!("{other:?}"),
    }
    assert_eq!(target.server.client().get("/health").status, 200);
}
