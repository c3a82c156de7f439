//! A subscribed connection that thousands of can be read by one thread: no buffer of its own, hardly any work a message.
//!
//! Owns the reading; `wire.rs` cuts what was read. All lines read into one buffer of the thread; a line keeps only the
//! beginning of a message whose end has not come.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::wire::{Framing, Part};

const BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

pub(crate) struct Line {
    stream: TcpStream,
    framing: Framing,
    held: Vec<u8>,
    /// Pongs that are due.
    due: Vec<u8>,
}

impl Line {
    pub(crate) async fn connect(address: SocketAddr, framing: Framing) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        Ok(Self { stream, framing, held: Vec::new(), due: Vec::new() })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("send")
    }

    /// Reads once, and hands out every message that is whole.
    pub(crate) async fn receive(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        poll_fn(|cx| self.poll_receive(cx, &mut each)).await?;
        if !self.due.is_empty() {
            let due = std::mem::take(&mut self.due);
            self.send(&due).await?;
        }
        Ok(())
    }

    fn poll_receive(
        &mut self,
        cx: &mut TaskContext<'_>,
        each: &mut impl FnMut(&[u8]) -> Result<()>,
    ) -> Poll<Result<()>> {
        // What came in the same read as the last message of the set-up.
        let used = cut(self.framing, &self.held, &mut self.due, each)?;
        if used > 0 {
            self.held.drain(..used);
            return Poll::Ready(Ok(()));
        }
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)).context("read")?;
            if read.filled().is_empty() {
                return Poll::Ready(Err(anyhow!("the server closed the connection")));
            }
            if self.held.is_empty() {
                let used = cut(self.framing, read.filled(), &mut self.due, each)?;
                self.held.extend_from_slice(&read.filled()[used..]);
            } else {
                self.held.extend_from_slice(read.filled());
                let used = cut(self.framing, &self.held, &mut self.due, each)?;
                self.held.drain(..used);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// The next message, while a connection is set up: those behind it stay.
    pub(crate) async fn message(&mut self) -> Result<Vec<u8>> {
        loop {
            let found = self.framing.part(&self.held)?;
            let (message, used) = match found {
                Some((Part::Data(data), used)) => (Some(data.to_vec()), used),
                Some((Part::Ping(payload), used)) => {
                    let pong = self.framing.pong(payload);
                    self.stream.write_all(&pong).await.context("answer a ping")?;
                    (None, used)
                }
                Some((Part::Other, used)) => (Some(Vec::new()), used),
                Some((Part::Closed(why), _)) => bail!("the server ended the connection: {why}"),
                None => {
                    self.read_more().await?;
                    continue;
                }
            };
            self.held.drain(..used);
            if let Some(message) = message {
                return Ok(message);
            }
        }
    }

    /// The head of an HTTP answer.
    pub(crate) async fn head(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.held.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(String::from_utf8_lossy(&self.held.drain(..end + 4).collect::<Vec<_>>()).into_owned());
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Result<()> {
        let held = &mut self.held;
        let stream = &mut self.stream;
        poll_fn(|cx| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)).context("read")?;
                if read.filled().is_empty() {
                    return Poll::Ready(Err(anyhow!("the server closed the connection")));
                }
                held.extend_from_slice(read.filled());
                Poll::Ready(Ok(()))
            })
        })
        .await
    }
}

/// Hands out the whole messages at the beginning of `received`; how long they are together.
fn cut(
    framing: Framing,
    received: &[u8],
    due: &mut Vec<u8>,
    each: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<usize> {
    let mut at = 0;
    while let Some((part, used)) = framing.part(&received[at..])? {
        match part {
            Part::Data(data) => each(data)?,
            Part::Ping(payload) => due.extend(framing.pong(payload)),
            Part::Other => {}
            Part::Closed(why) => bail!("the server ended the connection: {why}"),
        }
        at += used;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn messages_in_pieces_are_handed_out_once_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut line = Line::connect(address, Framing::Nats).await.expect("connected");
        let (mut far, _) = listener.accept().await.expect("accepted");
        far.write_all(b"INFO {}\r\nMSG a 1 2\r\nhi\r\nMSG a 1 2\r\nhu\r\nPI").await.expect("sent");
        assert_eq!(line.message().await.expect("the greeting"), b"");
        assert_eq!(line.message().await.expect("a message"), b"hi");
        // It is there already: nothing more needs to come for it.
        let mut early = Vec::new();
        let there = line.receive(|message| {
            early = message.to_vec();
            Ok(())
        });
        there.await.expect("received");
        assert_eq!(early, b"hu");
        far.write_all(b"NG\r\nMSG a 1 2\r\nho\r\n").await.expect("sent");
        let mut seen = Vec::new();
        while seen.is_empty() {
            line.receive(|message| {
                seen.push(message.to_vec());
                Ok(())
            })
            .await
            .expect("received");
        }
        assert_eq!(seen, [b"ho"]);
        let mut pong = [0; 6];
        far.read_exact(&mut pong).await.expect("a pong");
        assert_eq!(&pong, b"PONG\r\n");
        drop(far);
        assert!(line.receive(|_| Ok(())).await.is_err());
    }
}
