//! The cold half: which segments partitions have, and how they are opened.
//!
//! Owns the stores of files, and what of manifests, footers and blocks is kept in memory, within bounds.
//! Never decides what is flushed, and never changes a manifest: a commit does.

use std::sync::{Arc, OnceLock};

use moka::sync::Cache;

use super::cold_store::ColdStore;
use super::cold_stores::ColdStores;
use super::manifest::{ManifestHead, PartitionManifest};
use super::segment::{FoundRow, SegmentCache, SegmentEntry, SegmentReader};
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, PkBytes, StorageId, StoredRow, TableMeta, TableName};

/// A partition and the head of its manifest. Generations begin anew when a mailbox is erased, but positions never come
/// again: so what is kept under it is never outdated.
type ManifestKey = (PartitionKey, ManifestHead);

pub struct Cold {
    /// Told when the database opens, before anything is read.
    stores: OnceLock<Arc<ColdStores>>,
    segments: Arc<SegmentCache>,
    manifests: Cache<ManifestKey, Arc<PartitionManifest>>,
}

impl Cold {
    /// `cache_bytes` for manifests, footers and blocks together.
    pub(super) fn new(cache_bytes: u64) -> Self {
        let weight = |key: &ManifestKey, manifest: &Arc<PartitionManifest>| {
            u32::try_from(64 + key.0.owner.as_str().len() + manifest.size()).unwrap_or(u32::MAX)
        };
        Self {
            stores: OnceLock::new(),
            segments: SegmentCache::new(cache_bytes / 4, cache_bytes / 2),
            manifests: Cache::builder().weigher(weight).max_capacity(cache_bytes / 4).build(),
        }
    }

    /// These are the storages. The first word counts.
    pub fn open(&self, stores: Arc<ColdStores>) {
        self.stores.get_or_init(|| stores);
    }

    fn stores(&self) -> Result<&Arc<ColdStores>> {
        self.stores.get().ok_or_else(|| Error::internal("cold rows before there are storages"))
    }

    /// # Errors
    /// `NOT_FOUND`, `COLD_STORAGE_UNAVAILABLE`.
    pub fn store(&self, storage: &StorageId) -> Result<Arc<ColdStore>> {
        self.stores()?.get(storage)
    }

    pub fn segments(&self) -> &Arc<SegmentCache> {
        &self.segments
    }

    /// Where a partition's files lie, relative to their store's base.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn folder(&self, storage: &StorageId, table: &TableName, owner: &Owner) -> Result<String> {
        self.stores()?.folder_of(storage, table, owner)
    }

    /// Opens no file yet.
    ///
    /// # Errors
    /// As [`Cold::store`].
    pub fn reader(&self, table: &Arc<TableMeta>, owner: &Owner, segment: &Arc<SegmentEntry>) -> Result<SegmentReader> {
        let store = self.store(segment.meta.storage(table))?;
        Ok(SegmentReader::new(&store, &self.segments, table.clone(), owner.clone(), segment.clone()))
    }

    /// The manifest with that head, from memory where it was loaded before.
    pub(super) fn manifest(
        &self,
        key: &PartitionKey,
        head: ManifestHead,
        load: impl FnOnce() -> Result<PartitionManifest>,
    ) -> Result<Arc<PartitionManifest>> {
        let cached = (key.clone(), head);
        if let Some(manifest) = self.manifests.get(&cached) {
            return Ok(manifest);
        }
        let manifest = Arc::new(load()?);
        self.manifests.insert(cached, manifest.clone());
        Ok(manifest)
    }
}

/// Keys to be looked up in segments, the latest first: what is left when memory could not tell.
#[derive(Clone)]
pub struct ColdLookup {
    keys: Vec<PkBytes>,
    segments: Vec<(SegmentReader, Arc<[u32]>)>,
}

impl ColdLookup {
    pub(super) fn new(keys: Vec<PkBytes>) -> Self {
        Self { keys, segments: Vec::new() }
    }

    /// Asks this segment as well, less the rows at the positions `deleted`.
    pub(super) fn ask(&mut self, reader: SegmentReader, deleted: Arc<[u32]>) {
        self.segments.push((reader, deleted));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The live rows with these keys, each key at most once.
    ///
    /// # Errors
    /// `SEGMENT_DAMAGED`, `COLD_STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub async fn rows(mut self) -> Result<Vec<FoundRow>> {
        let mut found = Vec::new();
        for (reader, deleted) in &self.segments {
            let rows = reader.find(&self.keys, deleted).await?;
            self.keys.retain(|key| rows.iter().all(|row| row.key != *key));
            found.extend(rows);
            if self.keys.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// The live row with the one key that is looked up.
    ///
    /// # Errors
    /// As [`ColdLookup::rows`].
    pub async fn row(self) -> Result<Option<StoredRow>> {
        Ok(self.rows().await?.pop().map(|found| found.row))
    }
}
