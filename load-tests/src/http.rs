//! A small HTTP/1.1 client: one connection, one request at a time, as little work as PostgreSQL's driver does.
//!
//! Owns the framing of requests and answers. Never pools, redirects, retries or speaks TLS.
//! Invariant: after an answer the buffer holds nothing of it, so the next answer begins at its start.
//! Start at [`HttpClient::post`]; [`parse_head`] and [`ChunkedBody`] are the pure parts.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Small on purpose: an answer of these tests fits, and a thousand connections cost the client little.
const READ_BYTES: usize = 4 * 1024;
const MOST_HEAD_BYTES: usize = 64 * 1024;

pub(crate) struct HttpClient {
    stream: TcpStream,
    /// Everything of a request's head that stays the same, `POST ` and the path left out.
    fixed_head: String,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl HttpClient {
    pub(crate) async fn connect(address: SocketAddr, token: Option<&str>) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let fixed_head = format!(
            " HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Type: application/json\r\nContent-Length: "
        );
        Ok(Self { stream, fixed_head, outgoing: Vec::new(), incoming: Vec::with_capacity(READ_BYTES) })
    }

    pub(crate) async fn post(&mut self, path: &str, body: &[u8]) -> Result<Answer> {
        self.outgoing.clear();
        for part in ["POST ", path, &self.fixed_head, &body.len().to_string(), "\r\n\r\n"] {
            self.outgoing.extend_from_slice(part.as_bytes());
        }
        self.outgoing.extend_from_slice(body);
        self.stream.write_all(&self.outgoing).await.context("send a request")?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Answer> {
        let head = loop {
            if let Some(head) = parse_head(&self.incoming)? {
                break head;
            }
            if self.incoming.len() > MOST_HEAD_BYTES {
                bail!("the answer's head is over {MOST_HEAD_BYTES} bytes");
            }
            self.read_more().await?;
        };
        self.incoming.drain(..head.bytes);
        let body = match head.body {
            BodyLength::Known(length) => {
                while self.incoming.len() < length {
                    self.read_more().await?;
                }
                self.incoming.drain(..length).collect()
            }
            BodyLength::Chunked => {
                let mut chunked = ChunkedBody::default();
                loop {
                    let used = chunked.take(&self.incoming)?;
                    self.incoming.drain(..used);
                    if chunked.is_whole() {
                        break chunked.body;
                    }
                    self.read_more().await?;
                }
            }
        };
        Ok(Answer { status: head.status, body: String::from_utf8(body).context("the answer is not UTF-8")? })
    }

    async fn read_more(&mut self) -> Result<()> {
        self.incoming.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.incoming).await.context("read an answer")?;
        if read == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Its length, the empty line included.
    bytes: usize,
    body: BodyLength,
}

#[derive(Debug, PartialEq, Eq)]
enum BodyLength {
    Known(usize),
    Chunked,
}

/// `None` until the head is whole.
fn parse_head(received: &[u8]) -> Result<Option<Head>> {
    let Some(end) = find(received, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&received[..end]).context("the answer's head is not UTF-8")?;
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = match status_line.split(' ').collect::<Vec<_>>()[..] {
        [version, status, ..] if version.starts_with("HTTP/1.") => status.parse().context("read the status")?,
        _ => bail!("not an HTTP answer: {status_line:?}"),
    };
    let mut body = BodyLength::Known(0);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { bail!("not a header: {line:?}") };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            body = BodyLength::Known(value.parse().context("read the content's length")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                bail!("transfer encoding {value:?} is not understood");
            }
            body = BodyLength::Chunked;
            break;
        }
    }
    Ok(Some(Head { status, bytes: end + 4, body }))
}

/// A chunked body as it comes in. Trailers are read over.
#[derive(Debug, Default)]
struct ChunkedBody {
    body: Vec<u8>,
    state: ChunkState,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Data {
        left: usize,
    },
    DataEnd,
    Trailer,
    Whole,
}

impl ChunkedBody {
    fn is_whole(&self) -> bool {
        self.state == ChunkState::Whole
    }

    /// Takes what it can of `received` and tells how many bytes that was.
    fn take(&mut self, received: &[u8]) -> Result<usize> {
        let mut used = 0;
        while self.state != ChunkState::Whole {
            let rest = &received[used..];
            if let ChunkState::Data { left } = self.state {
                let taken = left.min(rest.len());
                self.body.extend_from_slice(&rest[..taken]);
                used += taken;
                if taken < left {
                    self.state = ChunkState::Data { left: left - taken };
                    break;
                }
                self.state = ChunkState::DataEnd;
                continue;
            }
            let Some(end) = find(rest, b"\r\n") else { break };
            self.line(&rest[..end])?;
            used += end + 2;
        }
        Ok(used)
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        self.state = match self.state {
            ChunkState::Size => {
                let text = std::str::from_utf8(line).context("a chunk's size is not UTF-8")?;
                let digits = text.split(';').next().unwrap_or_default().trim();
                match usize::from_str_radix(digits, 16).with_context(|| format!("a chunk's size is {digits:?}"))? {
                    0 => ChunkState::Trailer,
                    left => ChunkState::Data { left },
                }
            }
            ChunkState::DataEnd if line.is_empty() => ChunkState::Size,
            ChunkState::DataEnd => bail!("a chunk is longer than its size"),
            ChunkState::Trailer if line.is_empty() => ChunkState::Whole,
            ChunkState::Trailer | ChunkState::Data { .. } | ChunkState::Whole => return Ok(()),
        };
        Ok(())
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        use BodyLength::{Chunked, Known};
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length:  5\r\n\r\n", "hello", 200, Known(5)),
            ("HTTP/1.1 204 No Content\r\n\r\n", "", 204, Known(0)),
            ("HTTP/1.1 503\r\n\r\n", "", 503, Known(0)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: Chunked\r\n\r\n", "1\r\n", 200, Chunked),
        ];
        for (text, more, status, body) in cases {
            let expected = Head { status, bytes: text.len(), body };
            assert_eq!(
                parse_head(format!("{text}{more}").as_bytes()).expect("it can be read"),
                Some(expected),
                "{text:?}"
            );
            for cut in 0..text.len() {
                assert_eq!(
                    parse_head(&text.as_bytes()[..cut]).expect("a part can be read"),
                    None,
                    "{text:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn bad_heads_are_refused() {
        for text in [
            "SSH-2.0 x\r\n\r\n",
            "HTTP/1.1 twenty OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            assert!(parse_head(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        let text = b"5\r\nhello\r\n6;name=x\r\n world\r\n0\r\nTrailer: t\r\n\r\n";
        for cut in 0..=text.len() {
            let mut chunked = ChunkedBody::default();
            let mut received = text[..cut].to_vec();
            let used = chunked.take(&received).expect("the first part can be read");
            received.drain(..used);
            received.extend_from_slice(&text[cut..]);
            let used = chunked.take(&received).expect("the rest can be read");
            assert!(chunked.is_whole(), "cut at {cut}");
            assert_eq!((used, &chunked.body[..]), (received.len(), &b"hello world"[..]), "cut at {cut}");
        }
    }

    #[test]
    fn what_follows_a_chunked_body_is_left_alone() {
        let mut chunked = ChunkedBody::default();
        let received = b"1\r\nx\r\n0\r\n\r\nHTTP/1.1 200 OK";
        assert_eq!(chunked.take(received).expect("it can be read"), 11);
        assert!(chunked.is_whole());
    }

    #[test]
    fn bad_chunks_are_refused() {
        for text in ["x\r\n", "\r\n", "2\r\nabc\r\n"] {
            assert!(ChunkedBody::default().take(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
