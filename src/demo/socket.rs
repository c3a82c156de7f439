//! One subscription over the WebSocket, with resume.
//!
//! Owns the socket, the position (the last `_seq` handed out) and coming back: a socket that breaks is opened again
//! and subscribes with `from` that position.
//! Never hides what the server sends: a row that comes twice is handed out twice, for the proof to find.

use std::io::Read as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix_web::rt::time::timeout;
use awc::ws::{Codec, Frame, Message};
use awc::{BoxedSocket, Client, Connector, http::StatusCode};
use flate2::read::GzDecoder;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::client::Token;
use crate::model::Seq;

/// The server is back within seconds after it is killed; a debug build on a busy machine takes longer.
const RECONNECT_LIMIT: Duration = Duration::from_secs(60);
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for the answer to a subscription.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const MAX_FRAME_BYTES: usize = 16 << 20;
const MAX_UNPACKED_BYTES: u64 = 256 << 20;

const SUBSCRIPTION: &str = "demo";

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Comes back by itself, with `from`.
    #[error("the socket broke: {0}")]
    Broken(String),
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("no connection within {seconds} s: {0}", seconds = RECONNECT_LIMIT.as_secs())]
    Unreachable(String),
    #[error("the server's message is not understood: {0}")]
    NotUnderstood(String),
}

/// A row of the chat's table, as a subscriber sees it.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) content: String,
    #[serde(rename = "_seq")]
    seq: String,
    /// Whose row it is; only the feed of all owners says so.
    #[serde(rename = "_user_id")]
    pub(crate) owner: Option<String>,
    #[serde(skip)]
    pub(crate) position: Seq,
}

#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) rows: Vec<Row>,
    pub(crate) at: Instant,
    /// When this connection's subscription was answered: what was written before came late by the break.
    pub(crate) subscribed: Instant,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ServerFrame {
    AuthSuccess,
    AuthError {
        message: String,
    },
    SubscriptionAck,
    InitialDataBatch {
        rows: Vec<Row>,
        batch_control: BatchControl,
    },
    Change {
        change_type: String,
        #[serde(default)]
        rows: Vec<Row>,
    },
    Error {
        code: String,
        message: String,
    },
}

#[derive(Deserialize)]
struct BatchControl {
    has_more: bool,
    last_seq_id: Option<i64>,
}

type Socket = actix_codec::Framed<BoxedSocket, Codec>;

pub(crate) struct LiveQuery {
    client: Client,
    address: SocketAddr,
    token: Token,
    sql: String,
    position: Option<Seq>,
    socket: Option<Socket>,
    subscribed: Instant,
}

impl LiveQuery {
    /// Not connected yet: [`Self::connect`], or the first [`Self::next`], does that.
    pub(crate) fn new(address: SocketAddr, token: Token, sql: impl Into<String>) -> Self {
        // A client of its own: its sockets must not use up the connections of the HTTP calls.
        let client = Client::builder().connector(Connector::new().limit(0)).timeout(ANSWER_LIMIT).finish();
        Self { client, address, token, sql: sql.into(), position: None, socket: None, subscribed: Instant::now() }
    }

    /// Breaks the connection as a dead battery would: no close frame, no good-bye.
    pub(crate) fn cut(&mut self) {
        self.socket = None;
    }

    /// Connects and subscribes: from the position where there is one, else with all rows there are.
    ///
    /// # Errors
    /// The server refuses, or is not reached within [`RECONNECT_LIMIT`].
    pub(crate) async fn connect(&mut self) -> Result<(), SocketError> {
        let deadline = Instant::now() + RECONNECT_LIMIT;
        loop {
            match self.try_connect().await {
                Err(SocketError::Broken(why)) if Instant::now() > deadline => {
                    return Err(SocketError::Unreachable(why));
                }
                Err(SocketError::Broken(_)) => sleep(RECONNECT_PAUSE).await,
                Err(other) => return Err(other),
                Ok(socket) => {
                    self.socket = Some(socket);
                    self.subscribed = Instant::now();
                    return Ok(());
                }
            }
        }
    }

    /// The next rows, over as many connections as it takes. Cancelled between two calls it loses nothing: the
    /// position moves only with the rows that are handed out.
    ///
    /// # Errors
    /// As [`Self::connect`]; and a message that is no part of the protocol.
    pub(crate) async fn next(&mut self) -> Result<Delivery, SocketError> {
        loop {
            let Some(socket) = &mut self.socket else {
                self.connect().await?;
                continue;
            };
            match read(socket).await {
                Ok(Some(rows)) => {
                    if let Some(last) = rows.last() {
                        self.position = Some(last.position);
                    }
                    return Ok(Delivery { rows, at: Instant::now(), subscribed: self.subscribed });
                }
                Ok(None) => {}
                Err(SocketError::Broken(_)) => self.socket = None,
                Err(other) => return Err(other),
            }
        }
    }

    async fn try_connect(&self) -> Result<Socket, SocketError> {
        let request = self.client.ws(format!("ws://{}/v1/ws", self.address)).max_frame_size(MAX_FRAME_BYTES);
        let request = request.header("Authorization", format!("Bearer {}", self.token.as_str()));
        let (_, mut socket) = request.connect().await.map_err(|fault| match fault {
            awc::error::WsClientError::InvalidResponseStatus(status) if status != StatusCode::SERVICE_UNAVAILABLE => {
                SocketError::Refused(format!("the WebSocket, with {status}"))
            }
            other => SocketError::Broken(other.to_string()),
        })?;
        let options = match self.position {
            Some(position) => json!({ "from": position }),
            None => json!({}),
        };
        let subscribe = json!({
            "type": "subscribe",
            "subscription": { "id": SUBSCRIPTION, "sql": self.sql, "options": options },
        });
        let answered = async {
            await_frame(&mut socket, "auth_success", |frame| matches!(frame, ServerFrame::AuthSuccess)).await?;
            send(&mut socket, &subscribe).await?;
            await_frame(&mut socket, "subscription_ack", |frame| matches!(frame, ServerFrame::SubscriptionAck)).await
        };
        let late = |_| SocketError::Broken(format!("no answer within {} s", ANSWER_LIMIT.as_secs()));
        timeout(ANSWER_LIMIT, answered).await.map_err(late)??;
        Ok(socket)
    }
}

async fn await_frame(
    socket: &mut Socket,
    expected: &str,
    is_it: impl Fn(&ServerFrame) -> bool,
) -> Result<(), SocketError> {
    loop {
        match receive(socket).await?.map(passed).transpose()? {
            Some(frame) if is_it(&frame) => return Ok(()),
            Some(_) => return Err(SocketError::NotUnderstood(format!("expected {expected} first"))),
            None => {}
        }
    }
}

/// Rows, or `None` for what is only between the machines.
async fn read(socket: &mut Socket) -> Result<Option<Vec<Row>>, SocketError> {
    let Some(frame) = receive(socket).await? else {
        return Ok(None);
    };
    let mut rows = match passed(frame)? {
        ServerFrame::InitialDataBatch { rows, batch_control } => {
            if batch_control.has_more {
                let last = batch_control.last_seq_id;
                send(socket, &json!({ "type": "next_batch", "subscription_id": SUBSCRIPTION, "last_seq_id": last }))
                    .await?;
            }
            rows
        }
        ServerFrame::Change { change_type, rows } if change_type == "insert" => rows,
        ServerFrame::Change { change_type, .. } => {
            return Err(SocketError::NotUnderstood(format!("a change of type {change_type}: the demo only inserts")));
        }
        _ => return Ok(None),
    };
    for row in &mut rows {
        let position = row.seq.parse().ok().and_then(Seq::new);
        row.position = position.ok_or_else(|| SocketError::NotUnderstood(format!("_seq {}", row.seq)))?;
    }
    Ok(Some(rows))
}

/// A frame that says an error is one.
fn passed(frame: ServerFrame) -> Result<ServerFrame, SocketError> {
    match frame {
        // The server sends us away for now: come back with `from`.
        ServerFrame::Error { code, message } if matches!(code.as_str(), "SLOW_CONSUMER" | "SHUTTING_DOWN" | "BUSY") => {
            Err(SocketError::Broken(format!("{code}: {message}")))
        }
        ServerFrame::Error { code, message } => Err(SocketError::Refused(format!("{code}: {message}"))),
        ServerFrame::AuthError { message } => Err(SocketError::Refused(message)),
        other => Ok(other),
    }
}

async fn receive(socket: &mut Socket) -> Result<Option<ServerFrame>, SocketError> {
    let frame = match socket.next().await {
        Some(Ok(frame)) => frame,
        Some(Err(fault)) => return Err(SocketError::Broken(fault.to_string())),
        None => return Err(SocketError::Broken("the server closed it".to_owned())),
    };
    match frame {
        Frame::Text(text) => decode(&text).map(Some),
        Frame::Binary(packed) => {
            let mut text = Vec::new();
            let unpacked = GzDecoder::new(packed.as_ref()).take(MAX_UNPACKED_BYTES).read_to_end(&mut text);
            unpacked.map_err(|fault| SocketError::NotUnderstood(format!("a binary frame: {fault}")))?;
            decode(&text).map(Some)
        }
        Frame::Ping(payload) => {
            let sent = socket.send(Message::Pong(payload)).await;
            sent.map_err(|fault| SocketError::Broken(fault.to_string()))?;
            Ok(None)
        }
        Frame::Pong(_) => Ok(None),
        Frame::Close(reason) => Err(closed(reason)),
        Frame::Continuation(_) => Err(SocketError::NotUnderstood("a message in several frames".to_owned())),
    }
}

/// 4500–4999: do not come back. All others: come back with `from`.
fn closed(reason: Option<awc::ws::CloseReason>) -> SocketError {
    let text = reason.as_ref().map_or_else(|| "closed".to_owned(), |reason| format!("{reason:?}"));
    match reason.map(|reason| u16::from(reason.code)) {
        Some(4500..=4999) => SocketError::Refused(text),
        _ => SocketError::Broken(text),
    }
}

fn decode(text: &[u8]) -> Result<ServerFrame, SocketError> {
    serde_json::from_slice(text).map_err(|fault| {
        let text: String = String::from_utf8_lossy(text).chars().take(200).collect();
        SocketError::NotUnderstood(format!("{fault}: {text}"))
    })
}

async fn send(socket: &mut Socket, message: &serde_json::Value) -> Result<(), SocketError> {
    let sent = socket.send(Message::Text(message.to_string().into())).await;
    sent.map_err(|fault| SocketError::Broken(fault.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_the_protocol_are_understood() {
        let change = br#"{"type":"change","subscription_id":"demo","change_type":"insert",
            "rows":[{"id":"3","content":"x","turn":0,"_seq":"301200000100000000","_user_id":"user_002"}]}"#;
        let ServerFrame::Change { change_type, rows } = decode(change).unwrap() else { panic!("a change") };
        assert_eq!((change_type.as_str(), rows[0].owner.as_deref()), ("insert", Some("user_002")));
        let batch = br#"{"type":"initial_data_batch","subscription_id":"demo","rows":[],"batch_control":
            {"batch_num":0,"has_more":true,"status":"loading","last_seq_id":301200000000000001,"snapshot_end_seq":null}}"#;
        let ServerFrame::InitialDataBatch { batch_control, .. } = decode(batch).unwrap() else { panic!("a batch") };
        assert_eq!((batch_control.has_more, batch_control.last_seq_id), (true, Some(301_200_000_000_000_001)));
    }

    #[test]
    fn a_slow_consumer_comes_back_and_a_refused_one_does_not() {
        let error = |code: &str| passed(ServerFrame::Error { code: code.to_owned(), message: String::new() });
        assert!(matches!(error("SLOW_CONSUMER"), Err(SocketError::Broken(_))));
        assert!(matches!(error("POSITION_LOST"), Err(SocketError::Refused(_))));
        let close = |code: u16| closed(Some(awc::ws::CloseCode::from(code).into()));
        assert!(matches!(close(4408), SocketError::Broken(_)));
        assert!(matches!(close(4501), SocketError::Refused(_)));
    }
}
