//! The limits of a session.

use std::time::Duration;

use super::outbox::OutboxLimits;
use crate::config::WebSocketConfig;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLimits {
    /// How long a socket may stay without authentication.
    pub auth_timeout: Duration,
    /// A peer that is silent for longer is closed.
    pub client_timeout: Duration,
    /// How often silent peers are pinged and looked for.
    pub heartbeat_interval: Duration,
    pub max_message_bytes: usize,
    pub max_messages_per_sec: u32,
    pub max_subscriptions_per_user: usize,
    pub max_subscriptions_per_connection: usize,
    pub max_cursors_per_user: usize,
    /// What may wait for a session. Beyond, it is closed with SLOW_CONSUMER.
    pub outbox: OutboxLimits,
    /// What may wait for all sessions together. Beyond, the one for which most waits is closed.
    pub outbox_bytes_total: usize,
    /// Subscriptions being opened at a time, and that may wait for it, over all sessions.
    pub max_concurrent_opens: usize,
    pub max_waiting_opens: usize,
    /// What one session's subscriptions may hold back while they load. Beyond, the session is closed with SLOW_CONSUMER.
    pub held: OutboxLimits,
}

/// What goes out before a client has read it: beyond, a client that asks and never reads is closed.
pub(crate) const MAX_REPLIES: usize = 1_024;
/// Subscriptions being opened and pages being read for one session at a time.
pub(crate) const MAX_WORK: usize = 4;

/// An event of the smallest useful size: a bound in bytes stands for a bound in events of a few times as many.
const SMALL_EVENT_BYTES: usize = 256;

/// A client that loads is busy, not slow: more may be held back for it than may wait for one that is live.
const HELD_TIMES: usize = 4;

impl From<&WebSocketConfig> for SessionLimits {
    fn from(config: &WebSocketConfig) -> Self {
        let bytes = |size: bytesize::ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        let outbox = bytes(config.outbox_bytes);
        let bound = |bytes: usize| OutboxLimits { events: (bytes / SMALL_EVENT_BYTES).max(16), bytes };
        Self {
            auth_timeout: config.auth_timeout,
            client_timeout: config.client_timeout,
            heartbeat_interval: config.heartbeat_interval,
            max_message_bytes: bytes(config.max_message_size),
            max_messages_per_sec: config.max_messages_per_sec,
            max_subscriptions_per_user: config.max_subscriptions_per_user,
            max_subscriptions_per_connection: config.max_subscriptions_per_connection,
            max_cursors_per_user: config.max_cursors_per_user,
            outbox: bound(outbox),
            outbox_bytes_total: bytes(config.outbox_bytes_total),
            max_concurrent_opens: config.max_concurrent_opens,
            max_waiting_opens: config.max_waiting_opens,
            held: bound(outbox.saturating_mul(HELD_TIMES)),
        }
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self::from(&WebSocketConfig::default())
    }
}
