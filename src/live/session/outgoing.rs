//! What waits to go out of one session, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::live::LiveEvent;
use crate::live::encoding::{Wire, WireFrame};
use crate::live::frames::ServerMessage;
use crate::live::outbox::SubscriptionKey;
use crate::model::{Seq, TableId};

/// Something for the socket.
#[derive(Debug)]
pub enum Outgoing {
    Frame(WireFrame),
    /// A change of this subscription, and its position.
    Change(WireFrame, SubscriptionKey, (TableId, Seq)),
    Ping,
    Pong(Bytes),
    /// The last.
    Close(Close),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    pub reason: String,
}

#[derive(Debug)]
pub(super) enum Item {
    Frame(WireFrame),
    /// A batch of initial rows, and up to where (of which table) everything is told with it.
    Batch(SubscriptionKey, WireFrame, (Option<TableId>, Option<Seq>)),
    /// Becomes a frame only when it goes out: until then its bytes are shared.
    Event(SubscriptionKey, Arc<LiveEvent>),
    /// The end of this subscription, in its place behind what was told before.
    Ended(SubscriptionKey, Error),
    Ping,
    Pong(Bytes),
    Close(Close),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    /// Items that are no events: what the peer itself has asked for.
    replies: usize,
    bytes: usize,
}

impl Queue {
    pub(super) fn push(&mut self, item: Item) {
        self.count(&item, 1);
        self.items.push_back(item);
    }

    pub(super) fn push_message(&mut self, message: &ServerMessage<'_>, wire: Wire) {
        match message.frame(wire) {
            Ok(frame) => self.push(Item::Frame(frame)),
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
            Item::Frame(frame) | Item::Batch(_, frame, _) => (1, frame.len()),
            Item::Event(_, event) => (0, event.weight()),
            Item::Pong(payload) => (1, payload.len()),
            Item::Ended(..) | Item::Ping | Item::Close(_) => (1, 0),
        };
        self.replies = self.replies.saturating_add_signed(sign * replies);
        self.bytes = self.bytes.saturating_add_signed(sign * isize::try_from(bytes).unwrap_or(isize::MAX));
    }
}
