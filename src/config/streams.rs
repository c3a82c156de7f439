//! The section `streams`.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::units::size;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamsConfig {
    pub max_rows_per_owner: u64,
    #[serde(with = "size")]
    pub max_bytes_per_owner: ByteSize,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self { max_rows_per_owner: 100_000, max_bytes_per_owner: ByteSize::mib(64) }
    }
}
