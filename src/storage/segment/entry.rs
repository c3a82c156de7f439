//! What the manifest knows of a segment: its meta, its key filter, its block checksums.
//!
//! Owns the questions that are answered without opening the file, and the file's name.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

use super::checksum::{BlockSums, Checksum};
use super::key_filter::KeyFilter;
use super::stats::ColumnStats;
use crate::model::{PkBytes, Seq, StorageId, TableId, TableMeta};

/// A segment's number, unique within its table and never used again: rows of `deletions` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub u64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentMeta {
    pub id: SegmentId,
    /// `None` in entries of format 3: see [`SegmentMeta::storage`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageId>,
    /// Relative to the storage's base.
    pub path: String,
    pub first_seq: Seq,
    pub last_seq: Seq,
    /// All rows, tombstones and deleted ones included.
    pub rows: u32,
    pub bytes: u64,
    pub checksum: Checksum,
    /// The version of the table's schema whose columns the file has.
    pub schema_version: u32,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Rows that `deletions` names: how much a compaction would save. 0 in the keyspace: counted for whoever is shown it.
    pub deleted_rows: u32,
    pub tombstones: u32,
    /// Decides when the segment's tombstones may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_tombstone: Option<Seq>,
    /// Least and greatest encoded primary key, of all rows.
    #[serde(serialize_with = "write_key", deserialize_with = "read_key")]
    pub key_min: PkBytes,
    #[serde(serialize_with = "write_key", deserialize_with = "read_key")]
    pub key_max: PkBytes,
    /// By column id.
    pub stats: BTreeMap<u32, ColumnStats>,
}

fn write_key<S: Serializer>(key: &PkBytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(&key.0))
}

fn read_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PkBytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64.decode(text).map(|bytes| PkBytes(Bytes::from(bytes))).map_err(serde::de::Error::custom)
}

impl SegmentMeta {
    /// Where its file lies.
    pub fn storage<'a>(&'a self, table: &'a TableMeta) -> &'a StorageId {
        self.storage.as_ref().unwrap_or_else(|| table.storage_of_unnamed())
    }

    /// The file's name, without its folder.
    pub fn file(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

#[derive(Debug, Clone)]
pub struct SegmentEntry {
    pub meta: SegmentMeta,
    pub filter: KeyFilter,
    pub blocks: BlockSums,
}

impl SegmentEntry {
    /// May a row of the segment be in this range of positions?
    pub fn overlaps(&self, range: &RangeInclusive<Seq>) -> bool {
        *range.start() <= self.meta.last_seq && self.meta.first_seq <= *range.end()
    }

    /// May a row of the segment, live or not, have this key?
    pub fn may_hold(&self, key: &PkBytes) -> bool {
        self.meta.key_min <= *key && *key <= self.meta.key_max && self.filter.contains(&key.0)
    }

    /// About how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        1_024 + self.filter.size() + 8 * self.blocks.len()
    }

    /// The form in the `manifest` keyspace: length of the meta, meta (JSON), length of the filter, filter, block checksums;
    /// lengths are `u32le`.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let meta = serde_json::to_vec(&self.meta)?;
        let filter = self.filter.to_bytes();
        let blocks = self.blocks.to_bytes();
        let mut bytes = Vec::with_capacity(8 + meta.len() + filter.len() + blocks.len());
        for part in [&meta, &filter] {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(&blocks);
        Ok(bytes)
    }

    /// `None` where the bytes are no entry.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut part = || -> Option<&[u8]> {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            bytes = rest;
            Some(part)
        };
        let (meta, filter) = (part()?, part()?);
        let meta: SegmentMeta = serde_json::from_slice(meta).ok()?;
        let entry = Self { meta, filter: KeyFilter::from_bytes(filter)?, blocks: BlockSums::from_bytes(bytes)? };
        (entry.blocks.len() as u64 == entry.meta.bytes.div_ceil(super::checksum::BLOCK)).then_some(entry)
    }
}

/// A segment's file: its table's number makes it unique beside the files of a table that had the same name before.
pub(super) fn file_name(table: TableId, segment: SegmentId) -> String {
    format!("{table}-{:016x}.parquet", segment.0)
}

/// The table and segment of a file name that [`SegmentWriter`](super::SegmentWriter) gave.
pub fn parse_file_name(name: &str) -> Option<(TableId, SegmentId)> {
    let (table, segment) = name.strip_suffix(".parquet")?.split_once('-')?;
    let parsed = (TableId(table.parse().ok()?), SegmentId(u64::from_str_radix(segment, 16).ok()?));
    (file_name(parsed.0, parsed.1) == name).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_say_whose_they_are() {
        let name = file_name(TableId(7), SegmentId(0x2a));
        assert_eq!(name, "7-000000000000002a.parquet");
        assert_eq!(parse_file_name(&name), Some((TableId(7), SegmentId(0x2a))));
        for other in [
            "7-2a.parquet",
            "manifest.json",
            "7-000000000000002a.parquet.tmp",
            "-.parquet",
            "+7-000000000000002a.parquet",
        ] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }
}
