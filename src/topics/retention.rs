//! What of a topic's log is to go, for its age or for its size.
//!
//! Owns that decision alone. The oldest entries go first; one that stays keeps all behind it.

use crate::model::TopicMeta;

/// How old and how many entries of one partition may get, as of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicRetention {
    /// Entries from before go.
    oldest_ms: Option<i64>,
    max_bytes: Option<u64>,
}

impl TopicRetention {
    /// Of each partition of a topic: its bytes are an even share of the topic's.
    pub fn of(topic: &TopicMeta, now_ms: i64) -> Self {
        let kept_ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
        Self {
            oldest_ms: topic.retention_seconds.map(|seconds| now_ms.saturating_sub(kept_ms(seconds))),
            max_bytes: topic.retention_max_bytes.map(|bytes| bytes / u64::from(topic.partitions.max(1))),
        }
    }

    /// Is the oldest entry to go, where the log has so many bytes from it on?
    pub fn takes(&self, timestamp_ms: i64, bytes: u64) -> bool {
        self.oldest_ms.is_some_and(|oldest| timestamp_ms < oldest) || self.is_over(bytes)
    }

    pub fn is_over(&self, bytes: u64) -> bool {
        self.max_bytes.is_some_and(|max| bytes > max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NamespaceName, TableName, TopicId};

    #[test]
    fn takes_what_is_too_old_or_too_much() {
        let topic = |retention_seconds, retention_max_bytes| TopicMeta {
            id: TopicId(1),
            name: TableName::new(NamespaceName::parse("shop").unwrap(), "feed").unwrap(),
            partitions: 2,
            routes: Vec::new(),
            retention_seconds,
            retention_max_bytes,
            visibility_timeout_seconds: None,
            dead_letter: None,
            created_at: 0,
            updated_at: 0,
        };
        let cases = [
            // seconds, bytes of the topic, timestamp, bytes of the partition, goes
            (Some(10), None, 89_999, 1 << 40, true),
            (Some(10), None, 90_000, 1 << 40, false),
            (None, Some(100), 0, 51, true),
            (None, Some(100), 0, 50, false),
            (None, None, 0, u64::MAX, false),
            (Some(u64::MAX), Some(u64::MAX), 0, 9, false),
        ];
        for (seconds, max, timestamp, bytes, goes) in cases {
            let retention = TopicRetention::of(&topic(seconds, max), 100_000);
            assert_eq!(retention.takes(timestamp, bytes), goes, "{seconds:?} {max:?} {timestamp} {bytes}");
        }
    }
}
