//! Finds the keys of what is to go, a bounded number at a time.
//!
//! Owns which keys a table or a partition has. Never removes one: [`CommitEntry::Erase`](super::CommitEntry::Erase)
//! does, so the committer's thread reads nothing for it.
//! Whoever erases sees to it that nothing is written there any more. Nothing is noted: after a crash the walk begins
//! anew and finds what is left. Its reads block on the disk.

use std::ops::Bound;
use std::sync::Arc;

use fjall::{Keyspace, UserKey};

use super::keys;
use super::segment::SegmentEntry;
use super::store::{Store, storage_error};
use crate::error::{Error, Result};
use crate::model::{PartitionKey, TableId};

/// What is to go.
#[derive(Debug, Clone)]
pub enum EraseScope {
    /// A dropped table.
    Table(TableId),
    /// One owner's rows of a table, and the feed entries that tell of them.
    Partition(PartitionKey),
}

/// Keys to remove, by keyspace.
#[derive(Clone, Default)]
pub struct ErasedKeys {
    pub(super) rows: Vec<UserKey>,
    pub(super) pk: Vec<UserKey>,
    pub(super) feed: Vec<UserKey>,
    pub(super) manifest: Vec<UserKey>,
    pub(super) deletions: Vec<UserKey>,
    pub(super) stats: Vec<UserKey>,
    pub(super) notes: Vec<UserKey>,
    /// Rows of a STREAM table, and feed entries that tell of them.
    pub(super) in_buckets: Vec<(Keyspace, UserKey)>,
}

impl std::fmt::Debug for ErasedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ErasedKeys({})", self.len())
    }
}

impl ErasedKeys {
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        let spaces = [&self.rows, &self.pk, &self.feed, &self.manifest, &self.deletions, &self.stats, &self.notes];
        spaces.into_iter().map(Vec::len).sum::<usize>() + self.in_buckets.len()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    // First: a row is not to be missing while its key is still there.
    Pk,
    Rows,
    Feed,
    // Before the manifest, which says whose they are.
    Deletions,
    Manifest,
    Stats,
    Notes,
    Buckets,
}

/// A walk over the keys of a scope.
pub struct Eraser {
    store: Arc<Store>,
    scope: EraseScope,
    prefix: Vec<u8>,
    space: Option<Space>,
    /// The last key found in the space. The next step begins behind it, not among the tombstones before it.
    last: Option<UserKey>,
    /// Buckets of STREAM rows, as there were when the walk began: who writes no more makes no further one.
    buckets: Vec<Keyspace>,
    in_bucket: InBucket,
}

/// Which keys of a bucket the walk is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InBucket {
    Rows,
    Feed,
    Notes,
}

impl Eraser {
    pub(super) fn new(store: Arc<Store>, scope: EraseScope) -> Self {
        let prefix = match &scope {
            EraseScope::Table(table) => keys::table_prefix(*table).to_vec(),
            EraseScope::Partition(key) => keys::partition_prefix(key),
        };
        let buckets = store.streams().current().values().cloned().collect();
        Self { store, scope, prefix, space: Some(Space::Pk), last: None, buckets, in_bucket: InBucket::Rows }
    }

    /// The next keys: at most `limit`, and as many feed entries again. None: that was all.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where a key is damaged.
    pub fn next_keys(&mut self, limit: usize) -> Result<ErasedKeys> {
        let mut found = ErasedKeys::default();
        while let Some(space) = self.space {
            if space == Space::Buckets {
                found.in_buckets = self.next_in_buckets(limit)?;
                if found.in_buckets.is_empty() {
                    self.space = None;
                }
                break;
            }
            let keys = self.walk(space, limit)?;
            if keys.is_empty() {
                self.space = self.after(space);
                self.last = None;
                continue;
            }
            match space {
                Space::Pk => found.pk = keys,
                Space::Rows => found.rows = keys,
                Space::Feed => found.feed = keys,
                Space::Deletions => found.deletions = keys,
                Space::Manifest => found.manifest = keys,
                Space::Stats => found.stats = keys,
                Space::Notes => found.notes = keys,
                Space::Buckets => {}
            }
            break;
        }
        Ok(found)
    }

    fn after(&self, space: Space) -> Option<Space> {
        match (space, &self.scope) {
            (Space::Pk, _) => Some(Space::Rows),
            (Space::Rows, _) => Some(Space::Feed),
            (Space::Feed, _) => Some(Space::Deletions),
            (Space::Deletions, _) => Some(Space::Manifest),
            (Space::Manifest, _) => Some(Space::Stats),
            (Space::Stats, _) => Some(Space::Notes),
            (Space::Notes, _) => Some(Space::Buckets),
            (Space::Buckets, _) => None,
        }
    }

    fn walk(&mut self, space: Space, limit: usize) -> Result<Vec<UserKey>> {
        if let (Space::Deletions, EraseScope::Partition(key)) = (space, &self.scope) {
            return self.deletions(key, limit);
        }
        if let (Space::Feed, EraseScope::Partition(key)) = (space, self.scope.clone()) {
            return self.own_feed(&self.store.keyspaces().feed.clone(), keys::table_prefix(key.table), &key, limit);
        }
        let keyspace = self.keyspace(space).clone();
        self.walk_in(&keyspace, &self.prefix.clone(), limit)
    }

    /// The next keys with this prefix.
    fn walk_in(&mut self, keyspace: &Keyspace, prefix: &[u8], limit: usize) -> Result<Vec<UserKey>> {
        let from = match &self.last {
            Some(last) => Bound::Excluded(last.to_vec()),
            None => Bound::Included(prefix.to_vec()),
        };
        let found = keyspace.range::<Vec<u8>, _>((from, keys::prefix_end(prefix))).take(limit);
        let keys = found.map(|guard| guard.key().map_err(storage_error)).collect::<Result<Vec<UserKey>>>()?;
        if let Some(last) = keys.last() {
            self.last = Some(last.clone());
        }
        Ok(keys)
    }

    /// Of a partition's segments: they are not keyed by their owner. Those that were found before are gone.
    fn deletions(&self, key: &PartitionKey, limit: usize) -> Result<Vec<UserKey>> {
        let spaces = self.store.keyspaces();
        // One by one: an erasure that was cut off may have left some without the head.
        let mut segments = Vec::new();
        for guard in spaces.manifest.prefix(keys::manifest_prefix(key)) {
            let (_, value) = guard.into_inner().map_err(storage_error)?;
            segments.extend(SegmentEntry::from_bytes(&value));
        }
        let segments = segments.iter();
        let marks = segments.flat_map(|s| spaces.deletions.prefix(keys::deletions_prefix(key.table, s.meta.id.0)));
        marks.take(limit).map(|guard| guard.key().map_err(storage_error)).collect()
    }

    /// The next keys in the first bucket that has any. Those that were found are gone by then.
    fn next_in_buckets(&mut self, limit: usize) -> Result<Vec<(Keyspace, UserKey)>> {
        while let Some(bucket) = self.buckets.last().cloned() {
            let keys = match (self.in_bucket, self.scope.clone()) {
                (InBucket::Rows, _) => self.walk_in(&bucket, &self.prefix.clone(), limit)?,
                (InBucket::Feed, EraseScope::Table(table)) => {
                    self.walk_in(&bucket, &keys::stream_feed_prefix(table), limit)?
                }
                (InBucket::Feed, EraseScope::Partition(key)) => {
                    self.own_feed(&bucket, keys::stream_feed_prefix(key.table), &key, limit)?
                }
                (InBucket::Notes, EraseScope::Table(table)) => {
                    self.walk_in(&bucket, &keys::stream_notes_prefix(table), limit)?
                }
                (InBucket::Notes, EraseScope::Partition(key)) => {
                    self.walk_in(&bucket, &keys::stream_note(&key), limit)?
                }
            };
            if !keys.is_empty() {
                return Ok(keys.into_iter().map(|key| (bucket.clone(), key)).collect());
            }
            self.last = None;
            self.in_bucket = match self.in_bucket {
                InBucket::Rows => InBucket::Feed,
                InBucket::Feed => InBucket::Notes,
                InBucket::Notes => {
                    self.buckets.pop();
                    InBucket::Rows
                }
            };
        }
        Ok(Vec::new())
    }

    fn keyspace(&self, space: Space) -> &Keyspace {
        let spaces = self.store.keyspaces();
        match space {
            Space::Pk => &spaces.pk,
            Space::Rows => &spaces.rows,
            Space::Feed => &spaces.feed,
            Space::Deletions => &spaces.deletions,
            Space::Manifest => &spaces.manifest,
            Space::Notes => &spaces.notes,
            Space::Stats | Space::Buckets => &spaces.stats,
        }
    }

    /// The feed entries of one owner, among those of all: also of rows that are cold, or were replaced. The table's newest
    /// one stays, whose it ever is: the table's next position is above it, also after a restart with a clock that
    /// stepped back (PT-1).
    fn own_feed(&mut self, feed: &Keyspace, prefix: [u8; 4], key: &PartitionKey, limit: usize) -> Result<Vec<UserKey>> {
        let prefix = prefix.to_vec();
        let newest = feed.prefix(&prefix).next_back().map(|guard| guard.key().map_err(storage_error)).transpose()?;
        let from = match &self.last {
            Some(last) => Bound::Excluded(last.to_vec()),
            None => Bound::Included(prefix.clone()),
        };
        let mut found = Vec::new();
        for guard in feed.range::<Vec<u8>, _>((from, keys::prefix_end(&prefix))) {
            let (entry, value) = guard.into_inner().map_err(storage_error)?;
            let (_, owner) = keys::parse_feed(&entry, &value).ok_or_else(|| Error::internal("a damaged feed entry"))?;
            self.last = Some(entry.clone());
            if owner == key.owner && newest.as_ref() != Some(&entry) {
                found.push(entry);
                if found.len() == limit {
                    break;
                }
            }
        }
        Ok(found)
    }
}
