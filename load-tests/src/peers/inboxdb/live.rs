//! A live query of InboxDB over WebSocket: the bodies of what is inserted from now on.
//!
//! Owns the frames that a subscription needs. Never resumes: a subscription that ends has failed its turn.

use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// The library's default of 128 KiB a connection would be most of what a thousand sockets cost the client.
const SOCKET_READ_BYTES: usize = 4 * 1024;

pub(crate) struct InboxDbSubscription<S = TcpStream> {
    socket: WebSocketStream<S>,
    waiting: VecDeque<String>,
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    rows: Vec<LiveRow>,
}

#[derive(Deserialize)]
struct LiveRow {
    body: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> InboxDbSubscription<S> {
    /// Subscribes to the mailbox of the user whose token this is, over a connection that is made.
    pub(super) async fn open(stream: S, address: SocketAddr, token: &str) -> Result<Self> {
        let uri = format!("ws://{address}/v1/ws?compress=false").parse().context("build the WebSocket's address")?;
        let request = ClientRequestBuilder::new(uri).with_header("Authorization", format!("Bearer {token}"));
        let settings = WebSocketConfig::default().read_buffer_size(SOCKET_READ_BYTES);
        let (socket, _) =
            client_async_with_config(request, stream, Some(settings)).await.context("open a WebSocket")?;
        let mut subscription = Self { socket, waiting: VecDeque::new() };
        subscription.wait_for("auth_success").await?;
        // No `options`: no initial rows, only what comes.
        let request = json!({"type": "subscribe",
            "subscription": {"id": "s", "sql": "SELECT id, body FROM chat.messages", "options": null}});
        subscription.socket.send(Message::text(request.to_string())).await.context("subscribe")?;
        subscription.wait_for("subscription_ack").await?;
        Ok(subscription)
    }

    pub(crate) async fn next(&mut self) -> Result<String> {
        loop {
            if let Some(body) = self.waiting.pop_front() {
                return Ok(body);
            }
            let text = self.text().await?;
            let frame: Frame = serde_json::from_str(&text).with_context(|| format!("read the frame {text}"))?;
            ensure!(frame.kind != "error", "the subscription ended: {text}");
            self.waiting.extend(frame.rows.into_iter().map(|row| row.body));
        }
    }

    async fn wait_for(&mut self, kind: &str) -> Result<()> {
        let text = self.text().await?;
        let frame: Frame = serde_json::from_str(&text).with_context(|| format!("read the frame {text}"))?;
        ensure!(frame.kind == kind, "waited for {kind}, got {text}");
        Ok(())
    }

    async fn text(&mut self) -> Result<Utf8Bytes> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                // The library answers pings by itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => bail!("an unexpected frame: {other:?}"),
                Some(Err(error)) => return Err(error).context("read from a WebSocket"),
                None => bail!("the server closed the WebSocket"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_tungstenite::accept_async;

    use super::*;

    /// A server that sends `frames`, after the first of them reads the request to subscribe, and closes.
    async fn serve(stream: DuplexStream, frames: Vec<Message>) {
        let mut socket = accept_async(stream).await.expect("a WebSocket");
        for (number, frame) in frames.into_iter().enumerate() {
            socket.send(frame).await.expect("the client listens");
            if number == 0 {
                let request = socket.next().await.expect("a message").expect("a whole one");
                let request: serde_json::Value = serde_json::from_str(request.to_text().expect("text")).expect("JSON");
                assert_eq!(
                    (&request["type"], &request["subscription"]["options"]),
                    (&json!("subscribe"), &json!(null))
                );
            }
        }
        socket.close(None).await.expect("the client listens");
        while let Some(Ok(_)) = socket.next().await {}
    }

    async fn subscribe(frames: Vec<Message>) -> Result<InboxDbSubscription<DuplexStream>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(far, frames));
        InboxDbSubscription::open(near, "127.0.0.1:1".parse().expect("an address"), "token").await
    }

    fn opening() -> Vec<Message> {
        vec![
            Message::text(r#"{"type":"auth_success","user":"u0","role":"user","protocol":{}}"#),
            Message::text(r#"{"type":"subscription_ack","subscription_id":"s","schema":[]}"#),
        ]
    }

    #[tokio::test]
    async fn every_row_of_every_change_is_handed_out() {
        let mut frames = opening();
        frames.push(Message::Ping(Vec::new().into()));
        for rows in [r#"[{"id":"1","body":"a"},{"id":"2","body":"b"}]"#, r#"[{"id":"3","body":"c","_seq":"9"}]"#] {
            frames.push(Message::text(format!(
                r#"{{"type":"change","subscription_id":"s","change_type":"insert","rows":{rows}}}"#
            )));
        }
        let mut subscription = subscribe(frames).await.expect("subscribed");
        for expected in ["a", "b", "c"] {
            assert_eq!(subscription.next().await.expect("a body"), expected);
        }
        assert!(subscription.next().await.is_err(), "the server closed");
    }

    #[tokio::test]
    async fn refusals_are_told() {
        let mut frames = opening();
        frames[1] =
            Message::text(r#"{"type":"error","subscription_id":"s","code":"NOT_FOUND","message":"no such table"}"#);
        let refused = subscribe(frames).await.err().expect("refused");
        assert!(refused.to_string().contains("no such table"), "{refused}");

        let mut frames = opening();
        frames.push(Message::text(r#"{"type":"error","subscription_id":"s","code":"SLOW_CONSUMER","message":"…"}"#));
        assert!(subscribe(frames).await.expect("subscribed").next().await.is_err());
    }
}
