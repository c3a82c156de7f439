//! Settings of the audit log: how long and how much of it is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::duration;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    #[serde(with = "duration")]
    pub retention: Duration,
    pub max_entries: usize,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { retention: Duration::from_secs(90 * 24 * 60 * 60), max_entries: 100_000 }
    }
}
