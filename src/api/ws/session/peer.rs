//! Who a session writes to: a WebSocket, or a response of server-sent events.
//!
//! Owns how what the core says goes into either. Never decides what is said.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_ws::{CloseCode, CloseReason, Message};
use bytes::Bytes;
use futures_util::Sink;

use crate::api::events::{EventWriter, write_event};
use crate::live::WireFrame;
use crate::live::session::{Label, Outgoing};

pub(in crate::api) enum Peer {
    Socket(actix_ws::Session),
    Events(EventWriter),
}

/// The peer takes nothing any more.
pub(super) struct Gone;

impl Peer {
    pub(super) fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match self {
            Peer::Socket(socket) => Pin::new(socket).poll_ready(task).map_err(|actix_ws::Closed| Gone),
            Peer::Events(writer) => writer.poll_ready(task).map_err(|_| Gone),
        }
    }

    /// `Break`: nothing comes behind it.
    pub(super) fn send(&mut self, outgoing: Outgoing) -> ControlFlow<()> {
        match self {
            Peer::Socket(socket) => {
                let last = matches!(outgoing, Outgoing::Close(_));
                let sent = Pin::new(socket).start_send(message(outgoing));
                if last || sent.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Peer::Events(writer) => writer.write(|out| write_event(out, &outgoing)),
        }
    }

    /// Is the connection gone? Of a WebSocket its messages end then.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Peer::Events(writer) if writer.is_gone())
    }

    /// Has the peer shown that it is there, by taking something? Of a WebSocket its messages show that.
    pub(super) fn took(&self) -> bool {
        match self {
            Peer::Socket(_) => false,
            Peer::Events(writer) => writer.took(),
        }
    }

    /// Does the transport ask for the next batch of a load by itself, when it has taken one? A WebSocket's client does.
    pub(super) fn asks_for_more(&self, outgoing: &Outgoing) -> bool {
        matches!(self, Peer::Events(_)) && matches!(outgoing, Outgoing::Frame(_, Label::Rows { more: true, .. }))
    }
}

fn message(outgoing: Outgoing) -> Message {
    match outgoing {
        Outgoing::Frame(WireFrame::Text(text), _) | Outgoing::Change(WireFrame::Text(text), ..) => Message::Text(text),
        Outgoing::Frame(WireFrame::Binary(bytes), _) | Outgoing::Change(WireFrame::Binary(bytes), ..) => {
            Message::Binary(bytes)
        }
        Outgoing::Ping => Message::Ping(Bytes::new()),
        Outgoing::Pong(payload) => Message::Pong(payload),
        Outgoing::Close(close) => {
            Message::Close(Some(CloseReason { code: CloseCode::from(close.code), description: Some(close.reason) }))
        }
    }
}
