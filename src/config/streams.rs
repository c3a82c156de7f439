//! Settings of Durable Streams.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::duration;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamsConfig {
    #[serde(with = "duration")]
    pub long_poll_timeout: Duration,
    #[serde(with = "duration")]
    pub sse_lifetime: Duration,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self { long_poll_timeout: Duration::from_secs(20), sse_lifetime: Duration::from_secs(60) }
    }
}
