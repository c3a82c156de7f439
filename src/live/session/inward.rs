//! What a peer says, and how it is taken.

use std::sync::Arc;

use bytes::Bytes;

use super::outgoing::{Close, Item};
use super::{Effect, Entry, OpenRequest, SessionCore, State};
use crate::error::{Error, SubscriptionFault};
use crate::live::Position;
use crate::live::encoding::Format;
use crate::live::frames::{ClientMessage, MessageFault, Protocol, SubscribeRequest};
use crate::live::history::End;
use crate::live::subscription::{Start, Subscription};

const MAX_ID_BYTES: usize = 256;

impl SessionCore {
    /// A text message.
    pub fn text(&mut self, text: &[u8], now_us: i64) {
        if self.admit(text.len(), now_us) {
            self.message(ClientMessage::from_json(text), now_us);
        }
    }

    /// A binary message: only a session that agreed on MessagePack sends such.
    pub fn binary(&mut self, bytes: &[u8], now_us: i64) {
        if !self.admit(bytes.len(), now_us) {
            return;
        }
        if self.wire.format == Format::Json {
            self.error("protocol", &SubscriptionFault::UnsupportedData("Binary not supported".into()).into());
            return;
        }
        match ClientMessage::from_msgpack(bytes, self.limits.max_message_bytes) {
            Ok(message) => self.message(Ok(message), now_us),
            Err(fault) => self.error("protocol", &SubscriptionFault::UnsupportedData(fault.to_string()).into()),
        }
    }

    /// A protocol ping.
    pub fn ping(&mut self, payload: Bytes, now_us: i64) {
        self.seen(now_us);
        if !matches!(self.state, State::Closing) {
            self.reply(Item::Pong(payload));
        }
    }

    /// The peer sent more than a frame may hold; the rest of its bytes make no sense any more.
    pub fn oversized(&mut self) {
        let max = self.limits.max_message_bytes as u64;
        self.error("protocol", &SubscriptionFault::MessageTooLarge { max }.into());
        self.close(Close { code: 1009, reason: "Message too large".into() });
    }

    fn admit(&mut self, bytes: usize, now_us: i64) -> bool {
        self.seen(now_us);
        if self.is_closing() {
            return false;
        }
        if !self.rate.admit(now_us) {
            self.error("rate_limit", &SubscriptionFault::TooManyMessages.into());
            return false;
        }
        if bytes > self.limits.max_message_bytes {
            let max = self.limits.max_message_bytes as u64;
            self.error("protocol", &SubscriptionFault::MessageTooLarge { max }.into());
            return false;
        }
        true
    }

    fn message(&mut self, message: std::result::Result<ClientMessage, MessageFault>, now_us: i64) {
        let known = matches!(self.state, State::Known(_));
        match message {
            Err(fault) => self.close(Close { code: 1011, reason: fault.to_string() }),
            Ok(ClientMessage::Ping) => {}
            Ok(ClientMessage::Authenticate { .. }) if known => self.welcome(),
            Ok(ClientMessage::Authenticate { method, token, protocol }) => self.authenticate(&method, token, protocol),
            Ok(ClientMessage::Subscribe { subscription }) if known => self.subscribe(subscription, now_us),
            Ok(ClientMessage::Subscribe { .. }) => self.error("subscribe", &SubscriptionFault::AuthRequired.into()),
            Ok(ClientMessage::NextBatch { subscription_id, .. }) if known => {
                self.next_batch(&subscription_id, now_us);
            }
            Ok(ClientMessage::Unsubscribe { subscription_id }) if known => self.unsubscribe(&subscription_id),
            Ok(ClientMessage::Ack { subscription_id, upto }) if known => self.ack(&subscription_id, &upto, now_us),
            // Before authentication there is nothing that these could mean.
            Ok(ClientMessage::NextBatch { .. } | ClientMessage::Unsubscribe { .. } | ClientMessage::Ack { .. }) => {}
        }
    }

    fn authenticate(&mut self, method: &str, token: String, protocol: Protocol) {
        if method == "jwt" {
            self.agree(protocol);
            self.effects.push(Effect::Authenticate { token });
        } else {
            self.refuse("Unsupported authentication method; use \"jwt\"", "Authentication failed");
        }
    }

    /// A subscription. Of a WebSocket its message asks for it, of a response its request.
    pub fn subscribe(&mut self, request: SubscribeRequest, now_us: i64) {
        if request.id.trim().is_empty() || request.id.len() > MAX_ID_BYTES {
            return self.error("invalid_subscription", &SubscriptionFault::InvalidId.into());
        }
        // The same id again replaces the subscription.
        self.unsubscribe(&request.id);
        let max = self.limits.max_subscriptions_per_connection;
        if self.entries.len() >= max {
            return self.error(&request.id, &SubscriptionFault::TooManyForConnection { max }.into());
        }
        let key = self.directory.next_key();
        let id: Arc<str> = request.id.as_str().into();
        let start = Start::of(request.options.as_ref());
        let subscription = Subscription::new(start, self.limits.held, now_us);
        self.entries.insert(key, Entry::new(id, subscription));
        self.waiting.push_back(Effect::Open(OpenRequest { key, request, start, wire: self.wire }));
    }

    fn unsubscribe(&mut self, id: &str) {
        if let Some(key) = self.key_of(id) {
            self.directory.note_end(key, End::unsubscribed());
            self.detach(key);
            self.remove(key);
        }
    }

    /// The next batch of a load, once the one before has gone out.
    pub fn next_batch(&mut self, id: &str, now_us: i64) {
        let Some(key) = self.key_of(id) else {
            return self.error(id, &Error::NotFound(format!("no subscription '{id}' on this connection")));
        };
        let Some(entry) = self.current(key) else { return };
        match entry.feed.next_batch(now_us) {
            Ok(steps) => self.run(key, None, steps),
            Err(error) => self.end(key, &error),
        }
    }

    /// What does not fit is refused, and the subscription goes on.
    fn ack(&mut self, id: &str, upto: &Position, now_us: i64) {
        let Some(key) = self.key_of(id) else {
            return self.error(id, &Error::NotFound(format!("no subscription '{id}' on this connection")));
        };
        let Some(entry) = self.current(key) else { return };
        let Some(cursor) = entry.cursor.clone() else {
            return self.refuse_ack(id, "the subscription has no group, or is not open yet".into());
        };
        match entry.feed.acknowledged(cursor.table, upto) {
            Ok(positions) => {
                if let Err(error) = self.directory.cursors().ack(&cursor.key, key, positions, now_us) {
                    self.error(id, &error);
                }
            }
            Err(why) => self.refuse_ack(id, why),
        }
    }

    fn refuse_ack(&mut self, id: &str, why: String) {
        self.error(id, &SubscriptionFault::AckRefused(why).into());
    }
}
