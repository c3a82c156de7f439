//! A small Redis client: one connection, one command at a time.
//!
//! Owns the framing of commands and replies (RESP 2). Never pipelines, reconnects or knows what a command means.
//! [`parse_reply`] is the pure part.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const READ_BYTES: usize = 4 * 1024;

pub(crate) struct RedisClient {
    stream: TcpStream,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Error(String),
    Integer(i64),
    Nil,
    List(Vec<Reply>),
}

impl RedisClient {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        Ok(Self { stream, outgoing: Vec::new(), incoming: Vec::with_capacity(READ_BYTES) })
    }

    /// An error of the server is a [`Reply::Error`]; `Err` means that the connection is of no use any more.
    pub(crate) async fn command(&mut self, words: &[&str]) -> Result<Reply> {
        self.outgoing.clear();
        self.outgoing.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.outgoing.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            self.outgoing.extend_from_slice(word.as_bytes());
            self.outgoing.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&self.outgoing).await.context("send a command")?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply> {
        loop {
            if let Some((reply, used)) = parse_reply(&self.incoming)? {
                self.incoming.drain(..used);
                return Ok(reply);
            }
            self.incoming.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.incoming).await.context("read a reply")?;
            if read == 0 {
                bail!("the server closed the connection");
            }
        }
    }
}

/// The reply at the beginning of `received` and its length; `None` until it is whole.
fn parse_reply(received: &[u8]) -> Result<Option<(Reply, usize)>> {
    let Some(end) = received.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
    let line = std::str::from_utf8(&received[..end]).context("a reply is not UTF-8")?;
    let after_line = end + 2;
    let Some(kind) = line.chars().next() else { bail!("an empty reply") };
    let rest = &line[kind.len_utf8()..];
    let reply = match kind {
        '+' => Reply::Text(rest.to_owned()),
        '-' => Reply::Error(rest.to_owned()),
        ':' => Reply::Integer(rest.parse().with_context(|| format!("not a number: {rest:?}"))?),
        '$' => return parse_bulk(received, after_line, rest),
        '*' => return parse_list(received, after_line, rest),
        _ => bail!("not a reply: {line:?}"),
    };
    Ok(Some((reply, after_line)))
}

fn parse_bulk(received: &[u8], start: usize, length: &str) -> Result<Option<(Reply, usize)>> {
    let Some(length) = parse_length(length)? else { return Ok(Some((Reply::Nil, start))) };
    let end = start + length;
    if received.len() < end + 2 {
        return Ok(None);
    }
    let text = std::str::from_utf8(&received[start..end]).context("a reply is not UTF-8")?;
    Ok(Some((Reply::Text(text.to_owned()), end + 2)))
}

fn parse_list(received: &[u8], start: usize, length: &str) -> Result<Option<(Reply, usize)>> {
    let Some(length) = parse_length(length)? else { return Ok(Some((Reply::Nil, start))) };
    let mut replies = Vec::new();
    let mut at = start;
    for _ in 0..length {
        let Some((reply, used)) = parse_reply(&received[at..])? else { return Ok(None) };
        replies.push(reply);
        at += used;
    }
    Ok(Some((Reply::List(replies), at)))
}

/// `None` for the length −1 of something that is not there.
fn parse_length(text: &str) -> Result<Option<usize>> {
    if text == "-1" {
        return Ok(None);
    }
    text.parse().map(Some).with_context(|| format!("not a length: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let text = |text: &str| Reply::Text(text.to_owned());
        let cases = [
            ("+OK\r\n", text("OK")),
            ("-ERR no\r\n", Reply::Error("ERR no".to_owned())),
            (":-7\r\n", Reply::Integer(-7)),
            ("$-1\r\n", Reply::Nil),
            ("*-1\r\n", Reply::Nil),
            ("$4\r\na\r\nb\r\n", text("a\r\nb")),
            ("*0\r\n", Reply::List(vec![])),
            ("*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", Reply::List(vec![Reply::Integer(1), Reply::List(vec![text("x")])])),
        ];
        for (wire, expected) in cases {
            let more = format!("{wire}+next\r\n");
            assert_eq!(parse_reply(more.as_bytes()).expect("it can be read"), Some((expected, wire.len())), "{wire:?}");
            for cut in 0..wire.len() {
                assert_eq!(
                    parse_reply(&wire.as_bytes()[..cut]).expect("a part can be read"),
                    None,
                    "{wire:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn bad_replies_are_refused() {
        for wire in ["\r\n", "?x\r\n", ":x\r\n", "$x\r\n", "*-2\r\n"] {
            assert!(parse_reply(wire.as_bytes()).is_err(), "{wire:?}");
        }
    }
}
