//! Settings of WebSocket connections and live queries.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::units::{duration, size};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocketConfig {
    #[serde(with = "duration")]
    pub auth_timeout: Duration,
    #[serde(with = "duration")]
    pub client_timeout: Duration,
    #[serde(with = "duration")]
    pub heartbeat_interval: Duration,
    #[serde(with = "size")]
    pub max_message_size: ByteSize,
    pub max_messages_per_sec: u32,
    pub max_subscriptions_per_user: usize,
    pub max_subscriptions_per_connection: usize,
    #[serde(with = "size")]
    pub outbox_bytes: ByteSize,
    /// Of all sockets together.
    #[serde(with = "size")]
    pub outbox_bytes_total: ByteSize,
    pub max_concurrent_opens: usize,
    pub max_waiting_opens: usize,
    pub max_cursors_per_user: usize,
    #[serde(with = "duration")]
    pub cursor_idle: Duration,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            auth_timeout: Duration::from_secs(3),
            client_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(5),
            max_message_size: ByteSize::mib(1),
            max_messages_per_sec: 50,
            max_subscriptions_per_user: 1_000,
            max_subscriptions_per_connection: 100,
            outbox_bytes: ByteSize::mib(4),
            outbox_bytes_total: ByteSize::mib(512),
            max_concurrent_opens: 32,
            max_waiting_opens: 20_000,
            max_cursors_per_user: 100,
            cursor_idle: Duration::from_secs(30 * 24 * 3600),
        }
    }
}
