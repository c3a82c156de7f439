//! What a data folder holds, for who looks at it while no server has it.
//!
//! Owns counting: keyspaces, the partitions of a table, what of a partition is hot and what is in its segments.
//! Never writes, and never judges: a fault is an error of the read that meets it.

use std::ops::Bound;
use std::sync::Arc;

use super::keys;
use super::manifest::PartitionManifest;
use super::row_scan::Order;
use super::segment::SegmentEntry;
use super::store::{FORMAT_RECORD, Store, storage_error};
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, Seq, TableId, TableMeta};
use crate::storage::records::RecordKind;

/// How much a keyspace holds.
#[derive(Debug)]
pub struct KeyspaceSize {
    pub name: String,
    pub entries: Result<u64>,
    /// Without what is in the journal only.
    pub bytes: u64,
}

/// What a partition's hot half holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HotRows {
    pub rows: u64,
    pub tombstones: u64,
}

impl Store {
    /// The format that the folder is in; 0 where it never got one.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where it is not readable.
    pub fn format(&self) -> Result<u32> {
        let key = keys::record(RecordKind::Store, FORMAT_RECORD);
        let Some(bytes) = self.keyspaces().records.get(key).map_err(storage_error)? else { return Ok(0) };
        bytes.as_ref().try_into().map(u32::from_be_bytes).map_err(Error::internal)
    }

    /// Counts every entry: reads the whole hot half.
    pub fn keyspace_sizes(&self) -> Vec<KeyspaceSize> {
        let size = |(name, keyspace): (String, fjall::Keyspace)| {
            let entries = keyspace.len().map(|entries| entries as u64).map_err(storage_error);
            KeyspaceSize { name, entries, bytes: keyspace.disk_space() }
        };
        self.read_view().all_keyspaces().into_iter().map(size).collect()
    }

    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn journal_bytes(&self) -> Result<u64> {
        self.db().journal_disk_space().map_err(storage_error)
    }

    /// Owners who have a row of the table, hot or cold, or had one: from the rows and manifests themselves.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where a key is damaged.
    pub fn partitions(&self, table: TableId) -> Result<Vec<Owner>> {
        let mut owners = Vec::new();
        let buckets = self.streams().current();
        for keyspace in [&self.keyspaces().rows, &self.keyspaces().manifest].into_iter().chain(buckets.values()) {
            let end = keys::prefix_end(&keys::table_prefix(table));
            let mut from = Bound::Included(keys::table_prefix(table).to_vec());
            // From owner to owner, past what lies between.
            while let Some(entry) = keyspace.range((from, end.clone())).next() {
                let key = entry.key().map_err(storage_error)?;
                let owner = keys::owner_of(&key).ok_or_else(|| Error::internal("a damaged key of an owner"))?;
                let prefix = keys::partition_prefix(&PartitionKey { table, owner: owner.clone() });
                owners.push(owner);
                from = match keys::prefix_end(&prefix) {
                    Bound::Excluded(next) => Bound::Included(next),
                    _ => break,
                };
            }
        }
        owners.sort();
        owners.dedup();
        Ok(owners)
    }

    /// Counts by reading each of them.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where one is damaged.
    pub fn hot_rows(&self, key: &PartitionKey, manifest: Option<&PartitionManifest>) -> Result<HotRows> {
        let flushed = manifest.map_or(Seq::ZERO, |manifest| manifest.flushed_up_to);
        let mut found = HotRows::default();
        for row in self.read_view().hot_scan(key, flushed, flushed.after()..=Seq::MAX, Order::Ascending) {
            match row?.deleted {
                true => found.tombstones += 1,
                false => found.rows += 1,
            }
        }
        Ok(found)
    }

    /// The same of one owner's rows of a STREAM table: those that have not expired by what is known without a clock.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where one is damaged.
    pub fn stream_rows(&self, table: &TableMeta, owner: &Owner) -> Result<HotRows> {
        let mut found = HotRows::default();
        for row in self.read_view().stream_scan(table, owner, Seq::ZERO..=Seq::MAX)? {
            match row?.deleted {
                true => found.tombstones += 1,
                false => found.rows += 1,
            }
        }
        Ok(found)
    }

    /// How many of a segment's rows were replaced or deleted since.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`; `INTERNAL` where one is named that the segment has not.
    pub fn deleted_rows(&self, table: TableId, segment: &Arc<SegmentEntry>) -> Result<u64> {
        let deleted = self.read_view().deleted(table, segment.meta.id)?;
        match deleted.last() {
            Some(last) if *last >= segment.meta.rows => {
                Err(Error::internal(format!("row {last} of {} is deleted, which has fewer", segment.meta.path)))
            }
            _ => Ok(deleted.len() as u64),
        }
    }
}
