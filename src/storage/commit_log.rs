//! The committer's log: what makes changes durable.
//!
//! Owns the order *journal, fdatasync, visible*, the commit counter and its mark.
//! Never called by two threads: the Committer has the only one (fjall has one journal under one lock).
//! Invariants: PT-2, LQ-2; a failed append poisons the store and is never retried.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fjall::{Keyspace, OwnedWriteBatch as WriteBatch, PersistMode};

use super::erase::ErasedKeys;
use super::flushed::{self, FlushedKeys};
use super::hot_stats;
use super::journal_sync::{JournalSync, Progress};
use super::keys;
use super::manifest::{self, PartitionManifest};
use super::notes;
use super::records::{self, RecordKind, RecordWrite};
use super::row_block;
use super::segment::{SegmentEntry, SegmentId};
use super::store::{COMMITS_RECORD, Keyspaces, Recovered, Store, storage_error};
use super::stream_buckets::StreamBuckets;
use super::stream_trim;
use super::topic_log::{TopicChange, TopicHeads};
use crate::error::Result;
use crate::model::{Change, CommittedChanges, Durability, HotStats, PartitionKey, QuotaNote, RowPlace, Seq, TableId};

/// One thing to make durable.
#[derive(Debug, Clone)]
pub enum CommitEntry {
    /// The changes of one statement, positions given.
    Changes(CommittedChanges),
    Records(Vec<RecordWrite>),
    /// Removes what an [`Eraser`](super::Eraser) found.
    Erase(Box<ErasedKeys>),
    /// Changes what of a partition is cold.
    Cold(Box<ColdCommit>),
    /// Removes hot copies of what is cold.
    Forget(Box<FlushedKeys>),
    /// Changes topics: in the order given.
    Topics(Vec<TopicChange>),
}

/// A change of a partition's manifest, and what goes with it: all of it or nothing (SG-3).
#[derive(Debug, Clone)]
pub struct ColdCommit {
    pub key: PartitionKey,
    /// The manifest as it is from now on.
    pub manifest: Arc<PartitionManifest>,
    /// Segments of it that are new. Their files are in their places (SG-2).
    pub added: Vec<Arc<SegmentEntry>>,
    /// Segments that are not in it any more.
    pub removed: Vec<Arc<SegmentEntry>>,
    /// Segments of it whose files lie elsewhere from now on.
    pub moved: Vec<Arc<SegmentEntry>>,
    /// Rows of new segments that were replaced since they were read: segment and position.
    pub deleted: Vec<(SegmentId, u32)>,
    /// Hot tombstones that have expired.
    pub expired: Vec<Seq>,
    /// The last position whose tombstone goes, hot or cold.
    pub expired_up_to: Option<Seq>,
    /// Does it reach further than before? Then hot copies are to be forgotten.
    pub flushes: bool,
    /// What is hot from now on.
    pub stats: HotStats,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitReceipt {
    /// Number of this commit, counted from the store's creation: contiguous.
    pub commit: u64,
}

/// Makes entries durable, all of them or none.
pub trait CommitLog: Send {
    /// When this returns, the entries are durable at `durability` and visible to new read views, in their order.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`: nothing may be appended any more; the process has to stop and recover.
    fn append(&mut self, entries: &[CommitEntry], durability: Durability) -> Result<CommitReceipt>;
}

/// The log in fjall's journal.
pub struct FjallLog {
    store: Arc<Store>,
    commits: u64,
    progress: Arc<Progress>,
    marked: u64,
    topics: TopicHeads,
}

/// The mark trails the commits by at most this many; each write is one pwrite.
const MARK_EVERY: u64 = 64;

impl FjallLog {
    pub fn new(store: Arc<Store>, recovered: Recovered) -> Self {
        // After a loss the count goes on above the mark, so that the same loss is not told twice.
        let commits = recovered.commits + recovered.lost_commits;
        let progress = Arc::new(Progress::new(commits, store.mark_path()));
        Self { store, commits, progress, marked: commits, topics: TopicHeads::default() }
    }

    /// What makes its buffered appends durable.
    pub fn journal_sync(&self) -> JournalSync {
        JournalSync::new(self.store.journal_folder().to_owned(), self.progress.clone())
    }

    /// `trims`: up to where rows of STREAM tables gave way by earlier entries of this batch, by table.
    fn put_changes(
        &self,
        batch: &mut WriteBatch,
        committed: &CommittedChanges,
        trims: &mut HashMap<TableId, Seq>,
    ) -> Result<()> {
        let key = PartitionKey { table: committed.table.id, owner: committed.owner.clone() };
        let range = committed.range;
        let (spaces, streams) = (self.store.keyspaces(), self.store.streams());
        let bucket = committed.table.ttl.as_ref().map(|ttl| streams.bucket(ttl, range.last)).transpose()?;
        let home = match &bucket {
            None => RowsHome { rows: &spaces.rows, indexed: Some(spaces), streams },
            Some(bucket) => RowsHome { rows: bucket, indexed: None, streams },
        };
        let mut rest = &committed.changes[..];
        while let Some((seq, change)) = rest.first() {
            let block = row_block::block_len(rest);
            if block > 1 {
                let (rows, behind) = rest.split_at(block);
                batch.insert(home.rows, keys::row(&key, *seq), row_block::block_value(rows));
                for (row, change) in rows.iter().filter(|_| home.indexed.is_some()) {
                    let value = row_block::pk_value(*row, RowPlace::Block(*seq));
                    batch.insert(&spaces.pk, keys::pk(&key, &change.pk), value);
                }
                rest = behind;
            } else {
                home.put_change(batch, &key, (*seq, change))?;
                rest = &rest[1..];
            }
        }
        if let Some(stats) = &committed.stats {
            let stats = stats.begun(committed.range.first);
            batch.insert(&spaces.stats, keys::partition_prefix(&key), hot_stats::value(&stats));
        }
        notes::put(batch, &spaces.notes, &key, (committed.range, &committed.notes));
        // One entry for all rows of the statement.
        let entry = keys::feed_value(range.last, &committed.owner);
        match &bucket {
            None => batch.insert(&spaces.feed, keys::feed(committed.table.id, range.first), entry),
            Some(bucket) => batch.insert(bucket, keys::stream_feed(committed.table.id, range.first), entry),
        }
        if let (Some(bucket), Some(note)) = (&bucket, &committed.quota) {
            batch.insert(bucket, keys::stream_note(&key), stream_trim::value(note));
            let table = committed.table.id;
            let before = match trims.get(&table) {
                Some(before) => *before,
                None => stream_trim::feed_note(bucket, table)?,
            };
            if note.trimmed > before {
                trims.insert(table, note.trimmed);
                let of_feed = QuotaNote { trimmed: note.trimmed, slices: Vec::new() };
                batch.insert(bucket, keys::stream_feed_note(table), stream_trim::value(&of_feed));
            }
        }
        Ok(())
    }

    fn put_records(&self, batch: &mut WriteBatch, writes: &[RecordWrite]) {
        let records = &self.store.keyspaces().records;
        for write in writes {
            let key = keys::record(write.kind, &write.key);
            match &write.value {
                Some(value) => batch.insert(records, key, value.as_slice()),
                None => batch.remove(records, key),
            }
        }
    }

    /// `feeds`: up to where tombstones have expired by earlier entries of this batch, by table.
    fn put_cold(&self, batch: &mut WriteBatch, cold: &ColdCommit, feeds: &mut HashMap<TableId, Seq>) -> Result<()> {
        let (spaces, key) = (self.store.keyspaces(), &cold.key);
        let (head, value) = cold.manifest.head_entry(key);
        batch.insert(&spaces.manifest, head, value);
        for segment in &cold.removed {
            batch.remove(&spaces.manifest, keys::manifest(key, segment.meta.first_seq));
            for mark in spaces.deletions.prefix(keys::deletions_prefix(key.table, segment.meta.id.0)) {
                remove_read(batch, &spaces.deletions, &mark.key().map_err(storage_error)?);
            }
        }
        // Behind the removals: a merged segment begins where the first of those that it replaces began.
        for segment in cold.added.iter().chain(&cold.moved) {
            let (entry, value) = manifest::segment_entry(key, segment)?;
            batch.insert(&spaces.manifest, entry, value);
        }
        for (segment, position) in &cold.deleted {
            batch.insert(&spaces.deletions, keys::deletion(key.table, segment.0, *position), []);
        }
        if cold.stats == HotStats::default() {
            batch.remove(&spaces.stats, keys::partition_prefix(key));
        } else {
            batch.insert(&spaces.stats, keys::partition_prefix(key), hot_stats::value(&cold.stats));
        }
        if cold.flushes {
            let record = keys::record(RecordKind::Flushed, &flushed::record_name(key));
            batch.insert(&spaces.records, record, cold.manifest.flushed_up_to.get().to_be_bytes());
        }
        for seq in &cold.expired {
            batch.remove(&spaces.rows, keys::row(key, *seq));
        }
        // With the tombstones: whoever does not find one is told that it may be missing. The partition's own word is in the
        // head above.
        if let Some(up_to) = cold.expired_up_to {
            let record = keys::record(RecordKind::Expired, &key.table.to_string());
            let before = match feeds.get(&key.table) {
                Some(before) => *before,
                None => {
                    let stored = spaces.records.get(&record).map_err(storage_error)?;
                    stored.map_or(Ok(Seq::ZERO), |stored| records::parse_seq(&stored))?
                }
            };
            let up_to = up_to.max(before);
            feeds.insert(key.table, up_to);
            batch.insert(&spaces.records, record, up_to.get().to_be_bytes());
        }
        Ok(())
    }

    /// A key index entry goes only if it still tells of what is flushed: its key may have been written again since it was
    /// found, before this batch or within it.
    fn put_forget(&self, batch: &mut WriteBatch, flushed: &FlushedKeys, entries: &[CommitEntry]) -> Result<()> {
        let (spaces, key) = (self.store.keyspaces(), &flushed.key);
        let changes = entries.iter().filter_map(|entry| match entry {
            CommitEntry::Changes(committed) if committed.table.id == key.table && committed.owner == key.owner => {
                Some(&committed.changes)
            }
            _ => None,
        });
        let written: HashSet<Vec<u8>> =
            changes.flat_map(|changes| changes.iter().map(|(_, change)| keys::pk(key, &change.pk))).collect();
        if let Some((first, last)) = &flushed.pk {
            for guard in spaces.pk.range(first.clone()..=last.clone()) {
                let (pk, entry) = guard.into_inner().map_err(storage_error)?;
                if row_block::parse_pk_value(&entry)?.0 <= flushed.up_to && !written.contains(&pk[..]) {
                    remove_read(batch, &spaces.pk, &pk);
                }
            }
        }
        for row in &flushed.rows {
            remove_read(batch, &spaces.rows, row);
        }
        if flushed.is_last {
            let record = keys::record(RecordKind::Flushed, &flushed::record_name(key));
            batch.remove(&spaces.records, record);
        }
        Ok(())
    }

    fn put_erase(&self, batch: &mut WriteBatch, erased: &ErasedKeys) {
        for (bucket, key) in &erased.in_buckets {
            remove_read(batch, bucket, key);
        }
        let spaces = self.store.keyspaces();
        let spaces = [
            (&spaces.rows, &erased.rows),
            (&spaces.pk, &erased.pk),
            (&spaces.feed, &erased.feed),
            (&spaces.manifest, &erased.manifest),
            (&spaces.deletions, &erased.deletions),
            (&spaces.stats, &erased.stats),
            (&spaces.notes, &erased.notes),
        ];
        for (keyspace, keys) in spaces {
            for key in keys {
                remove_read(batch, keyspace, key);
            }
        }
    }
}

/// Removes a key that was read from the store: as a copy, for what was read is a part of its block, and the store would hold the
/// whole block until it has written the removal out.
pub(super) fn remove_read(batch: &mut WriteBatch, keyspace: &Keyspace, key: &[u8]) {
    batch.remove(keyspace, key);
}

/// Where a statement's rows go.
struct RowsHome<'a> {
    rows: &'a Keyspace,
    /// With their keys beside them; `None`: a bucket.
    indexed: Option<&'a Keyspaces>,
    streams: &'a StreamBuckets,
}

impl RowsHome<'_> {
    fn put_change(&self, batch: &mut WriteBatch, key: &PartitionKey, (seq, change): (Seq, &Change)) -> Result<()> {
        let Change { pk, row, replaces, deletes } = change;
        batch.insert(self.rows, keys::row(key, seq), row_block::row_value(seq, change.created(seq), *deletes, row));
        match replaces.as_ref().map(|old| (old.seq, old.place)) {
            None => {}
            Some((old, RowPlace::Own)) => {
                if let Some(rows) = self.home_of(&keys::row(key, old))? {
                    batch.remove(&rows, keys::row(key, old));
                }
            }
            // A block is written once: a mark behind it says which of its rows are gone.
            Some((old, RowPlace::Block(first))) => {
                if let Some(rows) = self.home_of(&keys::row(key, first))? {
                    batch.insert(&rows, keys::gone(key, old), row_block::gone_value(first));
                }
            }
            Some((_, RowPlace::Segment { segment, position })) => {
                if let Some(spaces) = self.indexed {
                    batch.insert(&spaces.deletions, keys::deletion(key.table, segment, position), []);
                }
            }
        }
        match self.indexed {
            None => {}
            Some(spaces) if *deletes => batch.remove(&spaces.pk, keys::pk(key, pk)),
            Some(spaces) => batch.insert(&spaces.pk, keys::pk(key, pk), row_block::pk_value(seq, RowPlace::Own)),
        }
        Ok(())
    }

    /// Where an older row is: of a STREAM table in whichever bucket has it, unless it went with its bucket meanwhile.
    fn home_of(&self, row: &[u8]) -> Result<Option<Keyspace>> {
        match self.indexed {
            Some(_) => Ok(Some(self.rows.clone())),
            None => self.streams.holding(row),
        }
    }
}

impl CommitLog for FjallLog {
    fn append(&mut self, entries: &[CommitEntry], durability: Durability) -> Result<CommitReceipt> {
        let mode = match durability {
            Durability::Sync => PersistMode::SyncData,
            Durability::Buffered => PersistMode::Buffer,
        };
        let mut batch = self.store.db().batch().durability(Some(mode));
        let (mut feeds, mut trims) = (HashMap::new(), HashMap::new());
        for entry in entries {
            match entry {
                CommitEntry::Changes(committed) => self.put_changes(&mut batch, committed, &mut trims)?,
                CommitEntry::Records(writes) => self.put_records(&mut batch, writes),
                CommitEntry::Erase(erased) => self.put_erase(&mut batch, erased),
                CommitEntry::Cold(cold) => self.put_cold(&mut batch, cold, &mut feeds)?,
                CommitEntry::Forget(flushed) => self.put_forget(&mut batch, flushed, entries)?,
                CommitEntry::Topics(changes) => {
                    let keyspace = &self.store.keyspaces().topics;
                    changes.iter().try_for_each(|change| self.topics.put(&mut batch, keyspace, change))?;
                }
            }
        }
        self.topics.put_heads(&mut batch, &self.store.keyspaces().topics);
        let commit = self.commits + 1;
        batch.insert(
            &self.store.keyspaces().records,
            keys::record(RecordKind::Store, COMMITS_RECORD),
            commit.to_be_bytes(),
        );
        // 1. the journal has the batch; 2. it is on disk (sync); 3. new read views see it. A crash before the end of 1
        // leaves a torn batch, which recovery drops whole; after it, the finished state. PT-2, LQ-2.
        batch.commit().map_err(storage_error)?;
        self.commits = commit;
        self.progress.append(commit);
        if durability == Durability::Sync {
            self.progress.sync(commit);
            if commit - self.marked >= MARK_EVERY && self.progress.write_mark() {
                self.marked = commit;
            }
        }
        Ok(CommitReceipt { commit })
    }
}

#[cfg(test)]
mod tests;
