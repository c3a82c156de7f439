//! Settings of topics and their groups.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::units::{duration, size};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicsConfig {
    #[serde(with = "duration")]
    pub visibility_timeout: Duration,
    #[serde(with = "duration")]
    pub default_retention: Duration,
    #[serde(with = "size")]
    pub default_retention_bytes: ByteSize,
    #[serde(with = "duration")]
    pub check_interval: Duration,
    pub max_waiters: usize,
    pub max_groups: usize,
    pub max_in_flight: u64,
    pub max_batch: u64,
    #[serde(with = "size")]
    pub max_batch_bytes: ByteSize,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            visibility_timeout: Duration::from_secs(60),
            default_retention: Duration::from_secs(7 * 24 * 60 * 60),
            default_retention_bytes: ByteSize::gib(1),
            check_interval: Duration::from_secs(60),
            max_waiters: 1_000,
            max_groups: 1_000,
            max_in_flight: 10_000,
            max_batch: 1_000,
            max_batch_bytes: ByteSize::mib(4),
        }
    }
}
