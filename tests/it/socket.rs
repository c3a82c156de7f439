//! A small blocking WebSocket client that can also break the rules.
//!
//! Owns framing, un-gzipping and MessagePack. Every wait is bounded by [`PATIENCE`].

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{PATIENCE, Response, connect, read_response};

/// The sample key of RFC 6455 and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

pub struct Socket {
    stream: BufReader<TcpStream>,
    /// Speaks MessagePack.
    pub packed: bool,
}

impl Socket {
    /// A socket that has not said who it is.
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address, "/v1/ws", &[]).unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// A socket with a token in its request; `query` like `?compress=false`, or empty.
    pub fn open_as(address: SocketAddr, token: &str, query: &str) -> Self {
        let authorization = format!("Bearer {token}");
        let path = format!("/v1/ws{query}");
        let opened = Self::try_open(address, &path, &[("Authorization", &authorization)]);
        let mut socket = opened.unwrap_or_else(|refused| panic!("{refused:?}"));
        let success = socket.json();
        assert_eq!(success["type"], "auth_success", "{success}");
        socket.packed = query.contains("serialization=msgpack");
        socket
    }

    /// # Errors
    /// The answer that was no upgrade.
    pub fn try_open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, Response> {
        let mut stream = BufReader::new(connect(address).unwrap());
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.get_mut().write_all((head + "\r\n").as_bytes()).unwrap();
        let mut response = read_response(&mut stream).unwrap();
        if response.status != 101 {
            return Err(response);
        }
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
        response.body.clear();
        Ok(Self { stream, packed: false })
    }

    /// A socket with a token in its request, over a connection that may break at any byte. `query` as in
    /// [`Self::open_as`].
    ///
    /// # Errors
    /// It broke, or nothing came for so long, or the server is on its way down.
    pub fn open_through(address: SocketAddr, token: &str, query: &str, patience: Duration) -> io::Result<Self> {
        let mut stream = BufReader::new(connect(address)?);
        stream.get_ref().set_read_timeout(Some(patience))?;
        let head = format!(
            "GET /v1/ws{query} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.get_mut().write_all(head.as_bytes())?;
        let response = read_response(&mut stream)?;
        if response.status == 503 {
            return Err(io::Error::other(response.body));
        }
        assert_eq!(response.status, 101, "{}", response.body);
        let mut socket = Self { stream, packed: false };
        let Message::Text(text) = socket.try_message()? else { panic!("no word of who it is") };
        assert!(text.contains("auth_success"), "{text}");
        socket.packed = query.contains("serialization=msgpack");
        Ok(socket)
    }

    pub fn send(&mut self, message: &Value) {
        self.try_send(message).unwrap();
    }

    /// # Errors
    /// The connection broke.
    pub fn try_send(&mut self, message: &Value) -> io::Result<()> {
        if self.packed {
            let bytes = rmp_serde::to_vec_named(message).unwrap();
            self.send_frame(2, &bytes)
        } else {
            self.send_frame(1, message.to_string().as_bytes())
        }
    }

    pub fn subscribe(&mut self, id: &str, sql: &str, options: Value) {
        self.send(&json!({"type": "subscribe", "subscription": {"id": id, "sql": sql, "options": options}}));
    }

    /// Subscribes to changes only and takes the acknowledgement.
    pub fn follow(&mut self, id: &str, sql: &str) {
        self.subscribe(id, sql, Value::Null);
        let ack = self.json();
        assert_eq!(
            (&ack["type"], &ack["batch_control"]["status"]),
            (&json!("subscription_ack"), &json!("ready")),
            "{ack}"
        );
    }

    /// # Errors
    /// The connection broke.
    pub fn send_frame(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            small @ 0..=125 => frame.push(0x80 | small as u8),
            medium @ 126..=65_535 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(medium as u16).to_be_bytes());
            }
            large => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(large as u64).to_be_bytes());
            }
        }
        let mask = [0x12, 0x34, 0x56, 0x78];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        self.send_raw(&frame)
    }

    /// # Errors
    /// The connection broke.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next message, pings answered and passed over.
    pub fn message(&mut self) -> Message {
        self.try_message().unwrap_or_else(|error| panic!("no message: {error}"))
    }

    /// # Errors
    /// The connection ended, or nothing came.
    pub fn try_message(&mut self) -> io::Result<Message> {
        loop {
            match self.any_message()? {
                Message::Ping(payload) => self.send_frame(10, &payload)?,
                other => return Ok(other),
            }
        }
    }

    /// The next message, pings included and not answered.
    ///
    /// # Errors
    /// The connection ended, or nothing came.
    pub fn any_message(&mut self) -> io::Result<Message> {
        let mut payload = Vec::new();
        let mut first = None;
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head)?;
            assert_eq!(head[1] & 0x80, 0, "a server does not mask");
            assert_eq!(head[0] & 0x70, 0, "no extension was agreed on");
            let length = match head[1] {
                126 => u64::from(u16::from_be_bytes(self.array()?)),
                127 => u64::from_be_bytes(self.array()?),
                small => u64::from(small),
            };
            let at = payload.len();
            payload.resize(at + usize::try_from(length).unwrap(), 0);
            self.stream.read_exact(&mut payload[at..])?;
            let opcode = *first.get_or_insert(head[0] & 0x0f);
            if head[0] & 0x80 == 0 {
                continue;
            }
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
            return Ok(match opcode {
                1 => Message::Text(text(&payload)),
                2 => Message::Binary(payload),
                8 if payload.len() >= 2 => {
                    Message::Close(u16::from_be_bytes([payload[0], payload[1]]), text(&payload[2..]))
                }
                8 => Message::Close(1005, String::new()),
                9 => Message::Ping(payload),
                10 => Message::Pong(payload),
                other => panic!("opcode {other}"),
            });
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The next message, which is a frame of the protocol.
    pub fn json(&mut self) -> Value {
        match self.message() {
            Message::Text(text) => serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")),
            Message::Binary(bytes) => self.unpack(&bytes),
            other => panic!("{other:?} in place of a frame"),
        }
    }

    /// What a binary frame holds.
    pub fn unpack(&self, bytes: &[u8]) -> Value {
        let bytes = if bytes.starts_with(&[0x1f, 0x8b]) { gunzip(bytes) } else { bytes.to_vec() };
        if self.packed && bytes.first() != Some(&b'{') {
            return rmp_serde::from_slice(&bytes).unwrap();
        }
        serde_json::from_slice(&bytes).unwrap()
    }

    /// The next message, which closes.
    pub fn closed(&mut self) -> (u16, String) {
        match self.message() {
            Message::Close(code, reason) => (code, reason),
            other => panic!("{other:?} in place of a close"),
        }
    }

    /// The next frame is the answer to nothing but what comes: nothing is on its way before it. Sends a ping and takes
    /// its answer.
    pub fn quiet(&mut self) {
        self.send_frame(9, b"quiet?").unwrap();
        let next = self.message();
        assert_eq!(next, Message::Pong(b"quiet?".to_vec()), "something else was on its way");
    }

    /// How long to wait for a message; [`PATIENCE`] otherwise.
    pub fn patience(&self, patience: Duration) {
        self.stream.get_ref().set_read_timeout(Some(patience.min(PATIENCE))).unwrap();
    }

    /// Cuts the connection without a word.
    pub fn cut(self) {
        // Gone already: that is what was wanted.
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }
}

pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}
