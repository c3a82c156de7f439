//! What folders of older formats have not noted, and this one goes by.
//!
//! Owns that it is noted once, when the folder is first opened: what is hot (from format 3 on), and the oldest tombstones
//! (from format 4 on). Reads the whole hot half for it, and every manifest.

use std::collections::HashMap;
use std::path::Path;

use super::hot_stats;
use super::keys;
use super::manifest::ManifestHead;
use super::row_block::{self, RowValue};
use super::segment::SegmentEntry;
use super::store::{OpenError, Store};
use crate::model::{HotStats, Seq};

/// By the partition's prefix.
type Stats = HashMap<Vec<u8>, HotStats>;

impl Store {
    /// `from`: the folder's format. Doing it twice is the same as once.
    ///
    /// # Errors
    /// Where the folder is damaged.
    pub(super) fn note_what_older_formats_did_not(&self, from: u32, data: &Path) -> Result<(), OpenError> {
        let damaged = |fault: String| OpenError::Damaged { path: data.to_owned(), fault };
        let spaces = self.keyspaces();
        let mut all = Stats::new();
        let mut flushed: HashMap<Vec<u8>, Seq> = HashMap::new();
        for guard in spaces.manifest.iter() {
            let (key, value) = guard.into_inner().map_err(|e| damaged(e.to_string()))?;
            let Some((partition, first)) = keys::partition_of_row(&key) else { continue };
            if first == Seq::ZERO {
                let head = ManifestHead::parse(&value).unwrap_or_default();
                flushed.insert(partition.to_vec(), head.flushed_up_to);
            } else if let Some(oldest) = SegmentEntry::from_bytes(&value).and_then(|s| s.meta.oldest_tombstone) {
                let stats = all.entry(partition.to_vec()).or_default();
                stats.cold_tombstone = stats.cold_tombstone.earlier(oldest);
            }
        }
        for guard in spaces.stats.iter() {
            let (partition, value) = guard.into_inner().map_err(|e| damaged(e.to_string()))?;
            let noted = hot_stats::parse(&value).map_err(|e| damaged(e.to_string()))?;
            let stats = all.entry(partition.to_vec()).or_default();
            // Below format 3 there are none, but of an upgrade that was cut off.
            let noted = if from < 3 { HotStats::default() } else { noted };
            *stats = HotStats { cold_tombstone: stats.cold_tombstone, oldest_tombstone: Seq::ZERO, ..noted };
        }
        for guard in spaces.rows.iter() {
            let (key, value) = guard.into_inner().map_err(|e| damaged(e.to_string()))?;
            let Some((partition, seq)) = keys::partition_of_row(&key) else { continue };
            if flushed.get(partition).is_some_and(|flushed| seq <= *flushed) {
                continue;
            }
            let (rows, is_tombstone) = match row_block::parse(seq, value.clone().into()) {
                Ok(RowValue::Block(block)) => (block.rows().map_or(1, |rows| rows.len()), false),
                Ok(RowValue::One(row)) => (1, row.deleted),
                Err(_) => (1, false),
            };
            let stats = all.entry(partition.to_vec()).or_default();
            if from < 3 {
                stats.oldest = stats.oldest.earlier(seq);
                stats.rows += rows as u64;
                stats.bytes += value.len() as u64;
            }
            if is_tombstone {
                stats.oldest_tombstone = stats.oldest_tombstone.earlier(seq);
            }
        }
        for (partition, stats) in all {
            spaces.stats.insert(partition, hot_stats::value(&stats)).map_err(|e| damaged(e.to_string()))?;
        }
        Ok(())
    }
}
