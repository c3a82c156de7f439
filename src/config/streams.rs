//! The section `streams`: STREAM tables, and Durable Streams on them.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::units::{duration, size};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamsConfig {
    pub max_rows_per_owner: u64,
    #[serde(with = "size")]
    pub max_bytes_per_owner: ByteSize,
    #[serde(with = "duration")]
    pub long_poll_timeout: Duration,
    #[serde(with = "duration")]
    pub sse_lifetime: Duration,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self {
            max_rows_per_owner: 100_000,
            max_bytes_per_owner: ByteSize::mib(64),
            long_poll_timeout: Duration::from_secs(20),
            sse_lifetime: Duration::from_secs(60),
        }
    }
}
