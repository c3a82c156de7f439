//! How subscriptions and sessions end, and what their subscribers are told before (A11, A13).

use super::outgoing::{Close, Item};
use super::{Effect, SessionCore, State};
use crate::error::{Error, SubscriptionFault};
use crate::live::history::End;
use crate::live::limits::MAX_REPLIES;
use crate::live::outbox::SubscriptionKey;

impl SessionCore {
    /// The peer closes.
    pub fn goodbye(&mut self) {
        for key in self.entries.keys() {
            self.directory.note_end(*key, End::closed_by_peer());
        }
        self.close(Close { code: 1000, reason: String::new() });
    }

    /// The peer does not keep up: each subscription is told where it stands, then the socket is closed.
    pub fn overflowed(&mut self) {
        if matches!(self.state, State::Closing) {
            return;
        }
        // What has not gone out is given up as a whole: the client comes back for all of it.
        self.queue.clear();
        for (key, entry) in self.entries.iter().filter(|(_, entry)| !entry.ended) {
            let slow = entry.feed.slow().into();
            self.queue.push_error(&entry.id, &slow, self.wire);
            self.directory.note_end(*key, End::of(&slow));
        }
        let code = SubscriptionFault::SlowConsumer { last_delivered: None }.code();
        self.close(Close { code: code.close_code(), reason: "Can not keep up; reconnect and resume".into() });
    }

    /// Ends the session: each subscription is told why, then the socket is closed.
    pub fn close_with(&mut self, error: &Error) {
        if matches!(self.state, State::Closing) {
            return;
        }
        for (key, entry) in self.entries.iter().filter(|(_, entry)| !entry.ended) {
            self.queue.push_error(&entry.id, error, self.wire);
            self.directory.note_end(*key, End::of(error));
        }
        let reason = match error {
            Error::ShuttingDown => "Server shutting down".to_owned(),
            error => error.to_string(),
        };
        self.close(Close { code: error.code().close_code(), reason });
    }

    /// Time has passed: deadlines, the token's end, silence.
    pub fn tick(&mut self, now_us: i64) {
        let micros = |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let silent = now_us - self.seen_at;
        match &self.state {
            State::Closing => return,
            State::Stranger if now_us - self.opened_at >= micros(self.limits.auth_timeout) => {
                let seconds = self.limits.auth_timeout.as_secs_f64();
                let message = format!("Authentication timeout - no auth message received within {seconds} seconds");
                return self.refuse(&message, "Authentication timeout");
            }
            State::Known(login) if login.expires_at.is_some_and(|expires_at| now_us >= expires_at) => {
                return self.close_with(&Error::TokenExpired);
            }
            State::Stranger | State::Known(_) => {}
        }
        if silent >= micros(self.limits.client_timeout) {
            return self.close(Close { code: 1000, reason: "Heartbeat timeout".into() });
        }
        // Half: a peer whose answer to the last ping came just after it must be asked again by this tick, since at the
        // next one it may already have been silent for too long.
        if silent >= micros(self.limits.heartbeat_interval) / 2 {
            self.reply(Item::Ping);
        }
        self.give_up_views(now_us);
    }

    pub(super) fn give_up_views(&mut self, now_us: i64) {
        let expired = |key: &SubscriptionKey| Some((*key, self.entries.get(key)?.feed.expired(now_us)?));
        let expired: Vec<_> = self.with_view.iter().filter_map(expired).collect();
        for (key, fault) in expired {
            match fault {
                SubscriptionFault::SlowConsumer { .. } | SubscriptionFault::SlowFeed { .. } => {
                    return self.overflowed();
                }
                fault => self.end(key, &fault.into()),
            }
        }
    }

    /// Ends a subscription: what waits for it still goes out, and then why it is over.
    pub(super) fn end(&mut self, key: SubscriptionKey, error: &Error) {
        self.directory.note_end(key, End::of(error));
        if self.detach(key) {
            self.reply(Item::Ended(key, error.clone()));
        }
    }

    /// From now on nothing more comes for it. `false` where that was so before.
    pub(super) fn detach(&mut self, key: SubscriptionKey) -> bool {
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| !entry.ended) else { return false };
        entry.ended = true;
        self.with_view.remove(&key);
        self.effects.push(Effect::Drop(key));
        true
    }

    /// A peer that asks and does not read is a slow consumer as well.
    pub(super) fn bound_replies(&mut self) {
        if self.queue.replies() > MAX_REPLIES {
            self.overflowed();
        }
    }

    pub(super) fn close(&mut self, close: Close) {
        if self.is_closing() {
            return;
        }
        self.state = State::Closing;
        self.queue.push(Item::Close(close));
        let keys: Vec<_> = self.entries.keys().copied().collect();
        for key in keys {
            self.detach(key);
        }
        self.waiting.clear();
    }
}
