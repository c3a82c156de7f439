//! A small blocking client of server-sent events.
//!
//! Owns reading a response that goes on: its chunks, and the events in them. Every wait is bounded by [`PATIENCE`].

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::http::{PATIENCE, Response, connect, read_response};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub retry: Option<String>,
    pub data: String,
    /// A comment alone.
    pub comment: bool,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

/// A response of events.
pub struct EventStream {
    stream: BufReader<TcpStream>,
    pub headers: Vec<(String, String)>,
    read: Vec<u8>,
    ended: bool,
}

impl EventStream {
    /// # Errors
    /// The answer that was none of events.
    pub fn try_open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, Response> {
        Self::open_through(address, path, headers, PATIENCE).unwrap()
    }

    /// Over a connection that may break at any byte.
    ///
    /// # Errors
    /// It broke, or nothing came for so long; within, the answer that was none of events.
    pub fn open_through(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> io::Result<Result<Self, Response>> {
        let mut stream = BufReader::new(connect(address)?);
        stream.get_ref().set_read_timeout(Some(patience))?;
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.get_mut().write_all((head + "\r\n").as_bytes())?;
        // The head is read first: whether its body ends by itself is seen there.
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            stream.read_until(b'\n', &mut line)?;
            let ends = line == b"\r\n" || line.is_empty();
            lines.extend_from_slice(&line);
            if ends {
                break;
            }
        }
        let text = String::from_utf8(lines.clone()).unwrap();
        if !text.starts_with("HTTP/1.1 200") || !text.to_ascii_lowercase().contains("text/event-stream") {
            return Ok(Err(read_response(&mut BufReader::new(lines.as_slice().chain(stream)))?));
        }
        let headers = text.lines().filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Ok(Ok(Self { stream, headers, read: Vec::new(), ended: false }))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The next event, or comment; `None`: the response has ended.
    pub fn any_event(&mut self) -> Option<Event> {
        let event = self.try_any_event().unwrap();
        assert!(event.is_some() || self.read.is_empty(), "half an event: {:?}", String::from_utf8_lossy(&self.read));
        event
    }

    /// # Errors
    /// The connection broke, or nothing came.
    pub fn try_any_event(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.read.drain(..end + 2).collect();
                return Ok(Some(event(std::str::from_utf8(&block).unwrap())));
            }
            if self.ended {
                return Ok(None);
            }
            self.read_chunk()?;
        }
    }

    /// The next event that is no comment.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            match self.any_event() {
                Some(event) if event.comment => {}
                other => return other,
            }
        }
    }

    pub fn shut(self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }

    fn read_chunk(&mut self) -> io::Result<()> {
        let mut size = String::new();
        self.stream.read_line(&mut size)?;
        let size = u64::from_str_radix(size.trim_end(), 16)
            .map_err(|_| io::Error::new(io::ErrorKind::ConnectionAborted, format!("no chunk size: {size:?}")))?;
        let before = self.read.len() as u64;
        (&mut self.stream).take(size).read_to_end(&mut self.read)?;
        if self.read.len() as u64 != before + size {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a chunk was cut off"));
        }
        let mut end = String::new();
        self.stream.read_line(&mut end)?;
        self.ended = size == 0;
        Ok(())
    }
}

fn event(block: &str) -> Event {
    let mut event = Event::default();
    let mut data = Vec::new();
    for line in block.lines() {
        match line.split_once(": ").or_else(|| line.split_once(':')) {
            _ if line.is_empty() => {}
            _ if line.starts_with(':') => event.comment = true,
            Some(("event", name)) => event.name = name.to_owned(),
            Some(("id", id)) => event.id = Some(id.to_owned()),
            Some(("retry", ms)) => event.retry = Some(ms.to_owned()),
            Some(("data", line)) => data.push(line),
            _ => panic!("no field: {line:?}"),
        }
    }
    event.comment &= data.is_empty();
    event.data = data.join("\n");
    event
}
