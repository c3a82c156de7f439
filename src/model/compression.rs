//! How a table's cold segments are compressed: `COMPRESSION = 'zstd' | 'snappy' | 'none'`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// At level 1: a third smaller than Snappy, and higher levels add next to nothing.
    #[default]
    Zstd,
    Snappy,
    None,
}

impl Compression {
    pub fn as_str(self) -> &'static str {
        match self {
            Compression::Zstd => "zstd",
            Compression::Snappy => "snappy",
            Compression::None => "none",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, UnknownCompression> {
        match text.to_ascii_lowercase().as_str() {
            "zstd" => Ok(Compression::Zstd),
            "snappy" => Ok(Compression::Snappy),
            "none" => Ok(Compression::None),
            _ => Err(UnknownCompression(text.to_owned())),
        }
    }
}

/// The text names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a compression; there are zstd, snappy and none")]
pub struct UnknownCompression(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_it_prints() {
        for compression in [Compression::Zstd, Compression::Snappy, Compression::None] {
            assert_eq!(compression.to_string().parse(), Ok(compression));
            assert_eq!(serde_json::to_string(&compression).unwrap(), format!("\"{compression}\""));
        }
        assert_eq!("ZSTD".parse(), Ok(Compression::Zstd));
        assert_eq!("lz4".parse::<Compression>(), Err(UnknownCompression("lz4".to_owned())));
    }
}
