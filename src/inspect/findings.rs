//! What an inspection found, as it is written for programs.
//!
//! Owns the form of `--json`: a field that is there stays, and keeps its meaning.

use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::storage::Recovered;

#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    pub data: String,
    pub format: u32,
    pub commits: u64,
    pub hot: Hot,
    pub namespaces: Vec<NamespaceFinding>,
    /// With `--table`, the table's own.
    pub storages: Vec<StorageFinding>,
    pub tables: Vec<TableFinding>,
    /// Without `--table`.
    pub topics: Vec<TopicFinding>,
    /// Dropped ones whose rows and files the server still has to remove.
    pub dropped_tables: usize,
    /// Absent where segments were not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    pub faults: Vec<Fault>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Hot {
    pub keyspaces: Vec<KeyspaceFinding>,
    pub journal_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct KeyspaceFinding {
    pub name: String,
    /// `null` where they can not be counted.
    pub entries: Option<u64>,
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct NamespaceFinding {
    pub name: String,
    pub tables: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct StorageFinding {
    pub id: String,
    pub kind: &'static str,
    pub base: String,
    pub tables: usize,
    /// Of the tables that were looked at.
    pub segments: u64,
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct TableFinding {
    pub table: String,
    pub id: u32,
    pub kind: &'static str,
    pub storage: String,
    pub partitions: usize,
    #[serde(flatten)]
    pub count: Count,
    /// With `--table`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owners: Option<Vec<PartitionFinding>>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct TopicFinding {
    pub topic: String,
    pub partitions: u32,
    /// That retention and CLEAR TOPIC have left.
    pub entries: u64,
    pub bytes: u64,
    /// In each partition that it was in, a group counts once.
    pub groups: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct PartitionFinding {
    /// `null`: the rows of a SHARED table.
    pub owner: Option<String>,
    #[serde(flatten)]
    pub count: Count,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Count {
    /// Live ones.
    pub hot_rows: u64,
    pub hot_tombstones: u64,
    pub segments: u64,
    /// All rows of segments, tombstones and deleted ones included.
    pub cold_rows: u64,
    pub cold_tombstones: u64,
    /// Rows of segments that were replaced or deleted since.
    pub deleted_rows: u64,
    pub bytes: u64,
}

impl Count {
    pub fn add(&mut self, other: &Count) {
        self.hot_rows += other.hot_rows;
        self.hot_tombstones += other.hot_tombstones;
        self.segments += other.segments;
        self.cold_rows += other.cold_rows;
        self.cold_tombstones += other.cold_tombstones;
        self.deleted_rows += other.deleted_rows;
        self.bytes += other.bytes;
    }
}

/// What was read as a whole and is as it was written.
#[derive(Debug, Default, Serialize)]
pub(super) struct Verified {
    pub segments: u64,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Fault {
    /// Of a storage: its id, then the path in it.
    pub file: String,
    pub reason: String,
}

impl Findings {
    pub fn new(data: &Path, format: u32, recovered: Recovered) -> Self {
        let Recovered { commits, lost_commits } = recovered;
        let mut found = Self { data: data.display().to_string(), format, commits, ..Self::default() };
        if lost_commits > 0 {
            let reason =
                format!("{lost_commits} of the last commits were durable and are gone: the journal is damaged");
            found.fault("hot".to_owned(), reason);
        }
        found
    }

    pub fn fault(&mut self, file: String, reason: String) {
        self.faults.push(Fault { file, reason });
    }

    pub fn fault_of(&mut self, file: String, error: &Error) {
        // What a caller of the server must not see is what is wanted here.
        let reason = match error {
            Error::SegmentDamaged { fault, .. } | Error::ColdUnavailable { fault, .. } => fault.clone(),
            Error::Internal(source) => source.to_string(),
            other => other.to_string(),
        };
        self.fault(file, reason);
    }
}

/// # Errors
/// `INTERNAL`.
pub(super) fn to_json(found: &Findings) -> Result<String> {
    let mut text = serde_json::to_string_pretty(found).map_err(Error::internal)?;
    text.push('\n');
    Ok(text)
}
