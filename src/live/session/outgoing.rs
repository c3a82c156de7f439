//! What waits to go out of one session, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorCode};
use crate::live::encoding::{Wire, WireFrame};
use crate::live::frames::{BatchControl, ServerMessage};
use crate::live::outbox::SubscriptionKey;
use crate::live::{EventKind, LiveEvent};
use crate::model::{Seq, TableId};

/// Something for the socket.
#[derive(Debug)]
pub enum Outgoing {
    Frame(WireFrame, Label),
    /// A change of this subscription.
    Change(WireFrame, SubscriptionKey, Label),
    Ping,
    Pong(Bytes),
    /// The last.
    Close(Close),
}

/// What a frame is, for a transport that says so outside of it: an event's name and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    Authentication,
    /// The subscription stands.
    Subscribed,
    /// Initial rows. Coming back with `position` misses nothing; `None`: only a new load does.
    Rows {
        position: Option<Seq>,
        more: bool,
    },
    Change {
        kind: EventKind,
        table: TableId,
        seq: Seq,
        /// Coming back with `seq` misses nothing. Not so over several tables: each has a position of its own.
        resumes: bool,
    },
    /// A table joined a subscription to several, or left it.
    Table,
    Error(ErrorCode),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    pub reason: String,
}

#[derive(Debug)]
pub(super) enum Item {
    Frame(WireFrame, Label),
    /// A batch of initial rows, and up to where (of which table) everything is told with it.
    Batch(SubscriptionKey, WireFrame, BatchControl, (Option<TableId>, Option<Seq>)),
    /// Becomes a frame only when it goes out: until then its bytes are shared.
    Event(SubscriptionKey, Arc<LiveEvent>),
    /// The end of this subscription, in its place behind what was told before.
    Ended(SubscriptionKey, Error),
    Ping,
    Pong(Bytes),
    Close(Close),
}

impl ServerMessage<'_> {
    pub(super) fn label(&self) -> Label {
        match self {
            ServerMessage::AuthSuccess { .. } | ServerMessage::AuthError { .. } => Label::Authentication,
            ServerMessage::SubscriptionAck { .. } | ServerMessage::FeedAck { .. } => Label::Subscribed,
            ServerMessage::FeedTable { .. } => Label::Table,
            ServerMessage::InitialDataBatch { control, .. } => control.label(),
            ServerMessage::Error { error, .. } => Label::Error(error.code()),
        }
    }
}

impl BatchControl {
    /// Rows come in the order of their positions: whoever has a batch has all up to its last row, and behind the last
    /// batch all up to the load's end.
    pub(super) fn label(&self) -> Label {
        let position = if self.has_more { self.last_seq_id } else { self.snapshot_end_seq };
        Label::Rows { position, more: self.has_more }
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    /// Items that are no events: what the peer itself has asked for.
    replies: usize,
    bytes: usize,
}

/// Items for which an idle session keeps room: a live one has few at a time.
const KEEP: usize = 4;

impl Queue {
    pub(super) fn push(&mut self, item: Item) {
        self.count(&item, 1);
        self.items.push_back(item);
    }

    pub(super) fn push_message(&mut self, message: &ServerMessage<'_>, wire: Wire) {
        match message.frame(wire) {
            Ok(frame) => self.push(Item::Frame(frame, message.label())),
            // Names, numbers and texts are always encodable.
            Err(error) => tracing::error!(%error, "a message could not be encoded"),
        }
    }

    pub(super) fn push_error(&mut self, subscription_id: &str, error: &Error, wire: Wire) {
        self.push_message(&ServerMessage::Error { subscription_id, error }, wire);
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.count(&item, -1);
        if self.items.is_empty() && self.items.capacity() > KEEP {
            self.items = VecDeque::new();
        }
        Some(item)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn replies(&self) -> usize {
        self.replies
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn count(&mut self, item: &Item, sign: isize) {
        let (replies, bytes) = match item {
            Item::Frame(frame, _) | Item::Batch(_, frame, ..) => (1, frame.len()),
            Item::Event(_, event) => (0, event.weight()),
            Item::Pong(payload) => (1, payload.len()),
            Item::Ended(..) | Item::Ping | Item::Close(_) => (1, 0),
        };
        self.replies = self.replies.saturating_add_signed(sign * replies);
        self.bytes = self.bytes.saturating_add_signed(sign * isize::try_from(bytes).unwrap_or(isize::MAX));
    }
}
