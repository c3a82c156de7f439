//! When a table's partitions are flushed by themselves: `FLUSH_POLICY = 'rows:N,interval:S'`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a table says itself; what it leaves out, the server's configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct FlushPolicy {
    /// At so many hot rows.
    pub rows: Option<u32>,
    /// When the oldest hot row is so many seconds old, and there are enough to be worth a file.
    pub interval_s: Option<u32>,
}

const ROWS_MAX: u32 = 999_999;
const INTERVAL_MAX: u32 = 86_399;

impl FlushPolicy {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for FlushPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rows, self.interval_s) {
            (Some(rows), Some(interval)) => write!(f, "rows:{rows},interval:{interval}"),
            (Some(rows), None) => write!(f, "rows:{rows}"),
            (None, Some(interval)) => write!(f, "interval:{interval}"),
            (None, None) => Ok(()),
        }
    }
}

impl From<FlushPolicy> for String {
    fn from(policy: FlushPolicy) -> String {
        policy.to_string()
    }
}

impl TryFrom<String> for FlushPolicy {
    type Error = UnknownFlushPolicy;

    fn try_from(text: String) -> Result<Self, UnknownFlushPolicy> {
        text.parse()
    }
}

impl FromStr for FlushPolicy {
    type Err = UnknownFlushPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownFlushPolicy> {
        let fault = || UnknownFlushPolicy(text.to_owned());
        let mut policy = Self::default();
        for part in text.split(',') {
            let (name, number) = part.split_once(':').ok_or_else(fault)?;
            let number: u32 = number.trim().parse().map_err(|_| fault())?;
            let (slot, max) = match name.trim().to_ascii_lowercase().as_str() {
                "rows" => (&mut policy.rows, ROWS_MAX),
                "interval" => (&mut policy.interval_s, INTERVAL_MAX),
                _ => return Err(fault()),
            };
            if slot.is_some() || !(1..=max).contains(&number) {
                return Err(fault());
            }
            *slot = Some(number);
        }
        Ok(policy)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no flush policy: write 'rows:N', 'interval:S' or 'rows:N,interval:S', N from 1 to {ROWS_MAX}, S (seconds) \
     from 1 to {INTERVAL_MAX}"
)]
pub struct UnknownFlushPolicy(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_written() {
        let policy = |rows, interval_s| FlushPolicy { rows, interval_s };
        for (text, expected) in [
            ("rows:10", policy(Some(10), None)),
            ("interval:60", policy(None, Some(60))),
            ("rows:999999,interval:86399", policy(Some(999_999), Some(86_399))),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        assert_eq!(" Interval: 5 , ROWS:7".parse(), Ok(policy(Some(7), Some(5))));
        for text in
            ["", "rows", "rows:0", "rows:1000000", "interval:86400", "rows:1,rows:2", "bytes:3", "rows:-1", "rows:1,"]
        {
            assert!(text.parse::<FlushPolicy>().is_err(), "{text:?}");
        }
    }
}
