//! Topics: durable logs of changes, as the catalog has them, and what their entries and groups are.
//!
//! Owns which names and options of topics and groups can exist. A topic is named like a table.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ChangeKind, TableId, TableName, UserId};
use crate::error::Error;

/// Partitions of a topic at most: each has a head in memory and on disk.
pub const TOPIC_PARTITIONS_MAX: u32 = 1_024;

/// Routes of a table at most: each is asked about each of its changes, on the way of its writers.
pub const ROUTES_PER_TABLE_MAX: usize = 64;

const GROUP_ID_MAX: usize = 128;

/// A topic's number: the first bytes of each of its keys. Tables and topics take them from one counter; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub u32);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One ordered log of a topic: offsets are given in it, from 0, without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: TopicId,
    pub partition: u32,
}

/// A consumer group: 1 to 128 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct GroupId(Arc<str>);

impl GroupId {
    /// # Errors
    /// `INVALID_NAME`: the rule that the name breaks.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fault = if text.trim().is_empty() {
            "it is empty"
        } else if text.len() > GROUP_ID_MAX {
            "it is longer than 128 bytes"
        } else if text.chars().any(char::is_control) {
            "it has a control character"
        } else {
            return Ok(Self(text.into()));
        };
        Err(Error::InvalidName { what: "group", name: text.escape_debug().to_string(), fault: fault.to_owned() })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A group's place in one partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    pub at: TopicPartition,
    pub group: GroupId,
}

/// Where a new group begins, and whoever reads without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsumeFrom {
    /// With what comes next.
    #[default]
    Latest,
    Earliest,
    Offset(u64),
}

/// What an entry's payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadMode {
    /// The primary key.
    Key,
    /// The whole row.
    #[default]
    Full,
    /// The primary key, the columns that changed, and what they held before.
    Diff,
}

impl PayloadMode {
    pub fn as_str(self) -> &'static str {
        match self {
            PayloadMode::Key => "key",
            PayloadMode::Full => "full",
            PayloadMode::Diff => "diff",
        }
    }
}

impl FromStr for PayloadMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "key" => Ok(PayloadMode::Key),
            "full" => Ok(PayloadMode::Full),
            "diff" => Ok(PayloadMode::Diff),
            _ => Err(Error::InvalidSql(format!("'{text}' is no payload; payloads are 'key', 'full' and 'diff'"))),
        }
    }
}

/// Which changes of a table a topic gets. One for a table and an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRoute {
    pub table_id: TableId,
    pub table: TableName,
    pub op: ChangeKind,
    /// As written behind WHERE.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    #[serde(default)]
    pub payload: PayloadMode,
}

/// Where messages go that were delivered too often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// In the same namespace.
    pub topic_id: TopicId,
    pub topic: TableName,
    /// Deliveries to one group, without an acknowledgement, behind which a message goes there.
    pub max_deliveries: u32,
}

/// A topic as the catalog stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicMeta {
    pub id: TopicId,
    pub name: TableName,
    pub partitions: u32,
    #[serde(default)]
    pub routes: Vec<TopicRoute>,
    /// `None`: entries do not go for their age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<u64>,
    /// Of all its partitions together; `None`: entries do not go for their size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_max_bytes: Option<u64>,
    /// `None`: as long as the server's setting says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility_timeout_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    pub updated_at: i64,
}

impl TopicMeta {
    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> + use<> {
        let topic = self.id;
        (0..self.partitions).map(move |partition| TopicPartition { topic, partition })
    }

    /// # Errors
    /// `INVALID_INPUT`.
    pub fn partition(&self, partition: u32) -> Result<TopicPartition, Error> {
        if partition < self.partitions {
            return Ok(TopicPartition { topic: self.id, partition });
        }
        Err(Error::InvalidInput(format!(
            "Topic '{}' has no partition {partition}; its partitions are 0 to {}",
            self.name,
            self.partitions - 1
        )))
    }
}

/// Where an entry of a dead-letter topic comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryOrigin {
    pub topic_id: String,
    pub partition_id: u32,
    pub offset: u64,
    pub group_id: String,
    /// How often it was delivered to that group.
    pub deliveries: u32,
}

/// One change, as a topic's log has it. Its offset is its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicEntry {
    pub timestamp_ms: i64,
    pub op: ChangeKind,
    /// Whose row: `None` of a SHARED table.
    pub user: Option<UserId>,
    /// The primary key as text, where the table has one.
    pub key: Option<String>,
    pub origin: Option<EntryOrigin>,
    /// JSON.
    pub payload: Vec<u8>,
}

/// Where a partition's log begins and ends, and how much is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicHead {
    /// What is below is gone.
    pub first: u64,
    /// The offset that the next entry gets.
    pub next: u64,
    /// Of the entries' values.
    pub bytes: u64,
    /// What is below is removed; from here to the first, it is still to be.
    pub swept: u64,
}

/// What is stored of a group in one partition: what it has acknowledged, and what it was given beyond.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupState {
    /// Everything below is done with.
    pub cursor: u64,
    /// Messages that retention removed before the group had acknowledged them.
    pub lost: u64,
    /// Messages that went to the dead-letter topic.
    pub buried: u64,
    /// From the cursor on, what was delivered; ascending, without gap.
    pub runs: Vec<GroupRun>,
    /// Microseconds since the Unix epoch.
    pub updated_at: i64,
}

/// Messages in a row that were delivered equally often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRun {
    pub len: u64,
    pub deliveries: u32,
    /// In the dead-letter topic: the group is done with them.
    pub buried: bool,
}

impl GroupState {
    /// What follows the last message that was ever delivered.
    pub fn end(&self) -> u64 {
        self.cursor + self.runs.iter().map(|run| run.len).sum::<u64>()
    }

    /// Delivered, and neither acknowledged nor given up.
    pub fn in_flight(&self) -> u64 {
        self.runs.iter().filter(|run| !run.buried).map(|run| run.len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_rule_a_group_breaks() {
        assert_eq!(GroupId::parse("billing workers").unwrap().as_str(), "billing workers");
        for (text, expected) in [("", "empty"), (" ", "empty"), ("a\0b", "control"), (&"g".repeat(129), "longer")] {
            assert!(GroupId::parse(text).unwrap_err().to_string().contains(expected), "{text:?}");
        }
    }
}
