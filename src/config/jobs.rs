//! Settings of background jobs, of what is flushed when, of how long tombstones and exports stay, and of what becomes of
//! dropped users. And how often the server is sampled.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::units::{duration, size};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobsConfig {
    pub max_concurrent: usize,
    pub max_queued: usize,
    pub max_retries: u16,
    #[serde(with = "duration")]
    pub retry_backoff: Duration,
    #[serde(with = "duration")]
    pub history_retention: Duration,
    pub history_entries: usize,
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            max_concurrent: 10,
            max_queued: 10_000,
            max_retries: 3,
            retry_backoff: Duration::from_millis(100),
            history_retention: 7 * DAY,
            history_entries: 10_000,
            shutdown_timeout: Duration::from_secs(5 * 60),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlushConfig {
    pub default_row_limit: u64,
    #[serde(with = "size")]
    pub default_byte_limit: ByteSize,
    #[serde(with = "duration")]
    pub default_time_interval: Duration,
    pub minimum_rows: u64,
    #[serde(with = "size")]
    pub max_hot: ByteSize,
    #[serde(with = "size")]
    pub min_free_disk: ByteSize,
    #[serde(with = "duration")]
    pub check_interval: Duration,
}

impl Default for FlushConfig {
    fn default() -> Self {
        Self {
            default_row_limit: 10_000,
            default_byte_limit: ByteSize::mib(64),
            default_time_interval: Duration::from_secs(5 * 60),
            minimum_rows: 1_000,
            max_hot: ByteSize::gib(8),
            min_free_disk: ByteSize::gib(1),
            check_interval: Duration::from_secs(60),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportsConfig {
    #[serde(with = "duration")]
    pub retention: Duration,
}

impl Default for ExportsConfig {
    fn default() -> Self {
        Self { retention: 7 * DAY }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserManagementConfig {
    #[serde(with = "duration")]
    pub deletion_grace_period: Duration,
}

impl Default for UserManagementConfig {
    fn default() -> Self {
        Self { deletion_grace_period: 30 * DAY }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    pub default_deleted_retention_hours: u32,
    #[serde(with = "duration")]
    pub check_interval: Duration,
    pub enable_dba_stats: bool,
    #[serde(with = "duration")]
    pub dba_stats_interval: Duration,
    #[serde(with = "duration")]
    pub dba_stats_retention: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            default_deleted_retention_hours: 168,
            check_interval: Duration::from_secs(10 * 60),
            enable_dba_stats: true,
            dba_stats_interval: Duration::from_secs(60),
            dba_stats_retention: 7 * DAY,
        }
    }
}
