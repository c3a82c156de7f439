//! Requests that a proxy in front might read in another way than this server does.

use std::io::{BufReader, Read, Write};

use super::Target;
use crate::http::connect;

/// Behind whatever was sent: a request that nobody wrote on purpose.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Everything that is answered until the server closes, as text.
fn answers(target: &Target, bytes: &[u8]) -> String {
    let mut stream = connect(target.server.address).unwrap();
    // It may answer and close before it has read it all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = BufReader::new(stream).read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Proves that a request whose length can be read in two ways is refused, and that nothing behind it is taken for a request of
/// its own.
#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    let target = Target::new(&[]);
    let heads = [
        ("both lengths", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("both, the other way", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ("two lengths", "Content-Length: 0\r\nContent-Length: 5\r\n", ""),
        ("two equal lengths", "Content-Length: 0\r\nContent-Length: 0\r\n", ""),
        ("a list of lengths", "Content-Length: 0, 5\r\n", ""),
        ("a signed length", "Content-Length: +0\r\n", ""),
        ("a negative length", "Content-Length: -1\r\n", ""),
        ("a hexadecimal length", "Content-Length: 0x0\r\n", ""),
        ("a length beyond numbers", "Content-Length: 99999999999999999999999\r\n", ""),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n", ""),
        ("chunked, and not last", "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("a blank before the colon", "Content-Length : 5\r\n", ""),
        ("a blank in a name", "Content Length: 5\r\n", ""),
        ("a folded header", "X-Fold: a\r\n Content-Length: 5\r\n", ""),
        ("NUL in a header", "X-Nul: a\0b\r\n", ""),
        ("no name", ": x\r\n", ""),
    ];
    for (what, head, body) in heads {
        let text = format!("POST /v1/api/sql HTTP/1.1\r\nHost: x\r\n{head}\r\n{body}{SMUGGLED}");
        let answered = answers(&target, text.as_bytes());
        assert!(!answered.contains("/smuggled"), "{what}: {answered}");
        let status = answered.split(' ').nth(1).unwrap_or("none");
        assert!(status == "none" || status.starts_with('4'), "{what}: {answered}");
    }
    for (what, bytes) in [
        (
            "a chunk that is no number",
            "POST /v1/api/sql HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        ),
        (
            "a chunk beyond numbers",
            "POST /v1/api/sql HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
        ),
        ("no request line", "\0\0\0\0\r\n\r\n"),
        ("another protocol", "EHLO x\r\nMAIL FROM: y\r\n\r\n"),
    ] {
        let answered = answers(&target, format!("{bytes}{SMUGGLED}").as_bytes());
        assert!(!answered.contains("HTTP/1.1 200"), "{what}: {answered}");
    }
    assert_eq!(target.server.client().get("/health").status, 200);
}

/// Proves that a head has a bound: no header and no number of headers makes the server take it all.
#[test]
fn huge_heads_are_refused() {
    let target = Target::new(&[]);
    let long = format!("GET /health HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(4 << 20));
    let many = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: x\r\n".repeat(100_000));
    let path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(4 << 20));
    for head in [long, many, path] {
        let answered = answers(&target, head.as_bytes());
        assert!(!answered.contains("HTTP/1.1 200"), "{:.60}: {answered:.200}", head);
    }
    assert_eq!(target.server.client().get("/health").status, 200);
}
