//! One moment of the store: what a statement reads.
//!
//! Owns how rows are found, hot and cold: by key, by partition in `_seq` order, by table in `_seq` order.
//! Never writes. Its reads block on the disk when blocks are cold: long ones belong on the engine's runtime. Segments
//! are read as they are asked for, by futures.

use std::collections::{HashSet, VecDeque};
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use fjall::{Keyspace, Readable, Snapshot};

use super::cold::{Cold, ColdLookup};
use super::feed_scan::{FeedScan, FeedSource};
use super::homes::Homes;
use super::keys::{self, RowKey};
use super::manifest::{ManifestHead, PartitionManifest};
use super::partition_rows::{PartitionRows, RowsPart};
use super::records::{self, RecordKind};
use super::row_block::{self, RowValue};
use super::row_scan::{Order, RowScan, ordered};
use super::segment::{SegmentEntry, SegmentId, SegmentReader, SegmentScan};
use super::store::{Keyspaces, storage_error};
use super::stream_buckets::BucketView;
use super::views::Moment;
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, PkBytes, RowPlace, Seq, StoredRow, TableId, TableMeta, UserId};

/// A consistent snapshot of all rows. Cheap to make and to clone; while it lives, what it sees is kept on disk.
#[derive(Clone)]
pub struct ReadView {
    snapshot: Snapshot,
    /// While it is held, files that it may name stay.
    _moment: Arc<Moment>,
    keyspaces: Arc<Keyspaces>,
    streams: BucketView,
    cold: Arc<Cold>,
    hidden: Arc<HashSet<UserId>>,
    homes: Arc<Homes>,
}

/// Where a key's live row is.
pub enum Found {
    Row(StoredRow),
    Absent,
    /// In a segment, if it is there: to be read.
    Cold(ColdLookup),
}

impl std::fmt::Debug for ReadView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadView").field("seqno", &self.snapshot.seqno()).finish()
    }
}

impl ReadView {
    /// The feed leaves out the rows of `hidden` owners.
    pub(super) fn new(
        (snapshot, moment): (Snapshot, Arc<Moment>),
        (keyspaces, streams): (Arc<Keyspaces>, BucketView),
        cold: Arc<Cold>,
        (hidden, homes): (Arc<HashSet<UserId>>, Arc<Homes>),
    ) -> Self {
        Self { snapshot, _moment: moment, keyspaces, streams, cold, hidden, homes }
    }

    /// Which users had a storage of their own when it was opened.
    pub fn homes(&self) -> &Arc<Homes> {
        &self.homes
    }

    /// The live row with this key, as far as it is known without opening a file.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn find(&self, table: &Arc<TableMeta>, owner: &Owner, pk: &PkBytes) -> Result<Found> {
        let key = PartitionKey { table: table.id, owner: owner.clone() };
        let manifest = self.manifest(&key)?;
        let flushed = manifest.as_ref().map_or(Seq::ZERO, |manifest| manifest.flushed_up_to);
        match self.key_entry(&key, pk)? {
            Some((seq, place)) if seq > flushed => {
                let missing = || Error::internal(format!("key index of {key} names a row at {seq} that is missing"));
                self.hot_row(&key, seq, place)?.map(Found::Row).ok_or_else(missing)
            }
            _ => match manifest {
                Some(manifest) => self.cold_lookup(table, owner, &manifest, vec![pk.clone()]),
                None => Ok(Found::Absent),
            },
        }
    }

    /// Looks keys up in the segments that may hold one of them.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn cold_lookup(
        &self,
        table: &Arc<TableMeta>,
        owner: &Owner,
        manifest: &PartitionManifest,
        pks: Vec<PkBytes>,
    ) -> Result<Found> {
        let may_hold = |segment: &&Arc<SegmentEntry>| pks.iter().any(|pk| segment.may_hold(pk));
        let segments: Vec<_> = manifest.segments().iter().rev().filter(may_hold).cloned().collect();
        let mut lookup = ColdLookup::new(pks);
        for segment in &segments {
            lookup.ask(self.segment(table, owner, segment)?, self.deleted(table.id, segment.meta.id)?);
        }
        Ok(if lookup.is_empty() { Found::Absent } else { Found::Cold(lookup) })
    }

    /// A segment that this view's manifest names. Opens nothing yet.
    pub(super) fn segment(
        &self,
        table: &Arc<TableMeta>,
        owner: &Owner,
        entry: &Arc<SegmentEntry>,
    ) -> Result<SegmentReader> {
        self.cold.reader(table, owner, entry)
    }

    /// Where the key index says that the row with this key is: up to the partition's `flushed_up_to` it tells of a row
    /// that is in a segment by now.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn key_entry(&self, key: &PartitionKey, pk: &PkBytes) -> Result<Option<(Seq, RowPlace)>> {
        let entry = self.snapshot.get(&self.keyspaces.pk, keys::pk(key, pk)).map_err(storage_error)?;
        entry.map(|entry| row_block::parse_pk_value(&entry)).transpose()
    }

    /// The hot row at a position that [`ReadView::key_entry`] gave.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn hot_row(&self, key: &PartitionKey, seq: Seq, place: RowPlace) -> Result<Option<StoredRow>> {
        let at = match place {
            RowPlace::Block(first) => first,
            RowPlace::Own | RowPlace::Segment { .. } => seq,
        };
        let value = self.snapshot.get(&self.keyspaces.rows, keys::row(key, at)).map_err(storage_error)?;
        let row = value.map(|value| row_block::parse(at, value.into())).transpose()?;
        row.map(|value| row_block::pick(value, seq)).transpose().map(Option::flatten)
    }

    /// All records of a kind, by name.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn records(&self, kind: RecordKind) -> Result<Vec<(String, Vec<u8>)>> {
        let record = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(storage_error)?;
            Ok((String::from_utf8(key[1..].to_vec()).map_err(Error::internal)?, value.to_vec()))
        };
        self.snapshot.prefix(&self.keyspaces.records, [kind as u8]).map(record).collect()
    }

    pub(super) fn keyspaces(&self) -> &Keyspaces {
        &self.keyspaces
    }

    pub(super) fn streams(&self) -> &BucketView {
        &self.streams
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Everything in a keyspace, in the order of its keys.
    pub(super) fn entries(&self, keyspace: &Keyspace) -> impl Iterator<Item = fjall::Guard> + use<> {
        self.snapshot.iter(keyspace)
    }

    /// The same of the keys that begin with `prefix`.
    pub(super) fn entries_below(
        &self,
        keyspace: &Keyspace,
        prefix: &[u8],
    ) -> impl Iterator<Item = fjall::Guard> + use<> {
        self.snapshot.prefix(keyspace, prefix)
    }

    /// The same of a range of keys.
    pub(super) fn entries_of(
        &self,
        keyspace: &Keyspace,
        range: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> impl Iterator<Item = fjall::Guard> + use<> {
        self.snapshot.range::<Vec<u8>, _>(keyspace, range)
    }

    pub(super) fn value(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<fjall::UserValue>> {
        self.snapshot.get(keyspace, key).map_err(storage_error)
    }

    /// What of the partition is cold; `None` where nothing was ever flushed.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where an entry is damaged.
    pub fn manifest(&self, key: &PartitionKey) -> Result<Option<Arc<PartitionManifest>>> {
        let Some(head) = self.manifest_head(key)? else { return Ok(None) };
        let load = || {
            let entries = self.snapshot.prefix(&self.keyspaces.manifest, keys::manifest_prefix(key));
            PartitionManifest::from_entries(entries.map(|guard| guard.into_inner().map_err(storage_error)))
        };
        self.cold.manifest(key, head, load).map(Some)
    }

    fn manifest_head(&self, key: &PartitionKey) -> Result<Option<ManifestHead>> {
        let head =
            self.snapshot.get(&self.keyspaces.manifest, keys::manifest(key, Seq::ZERO)).map_err(storage_error)?;
        let parse = |head: fjall::UserValue| {
            ManifestHead::parse(&head).ok_or_else(|| Error::internal("a damaged manifest entry"))
        };
        head.map(parse).transpose()
    }

    /// Up to where the partition's rows are cold.
    pub(super) fn flushed_up_to(&self, key: &PartitionKey) -> Result<Seq> {
        Ok(self.manifest_head(key)?.unwrap_or_default().flushed_up_to)
    }

    /// Above this position no change of a partition is missing; below it, tombstones have expired.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn replayable_from(&self, key: &PartitionKey) -> Result<Seq> {
        Ok(self.manifest_head(key)?.unwrap_or_default().replayable_from)
    }

    /// The same of a table, over all owners.
    ///
    /// # Errors
    /// As [`ReadView::replayable_from`].
    pub fn feed_replayable_from(&self, table: TableId) -> Result<Seq> {
        let record = keys::record(RecordKind::Expired, &table.to_string());
        let stored = self.snapshot.get(&self.keyspaces.records, record).map_err(storage_error)?;
        stored.map_or(Ok(Seq::ZERO), |value| records::parse_seq(&value))
    }

    /// Positions of a segment's rows that were replaced or deleted, ascending.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn deleted(&self, table: TableId, segment: SegmentId) -> Result<Arc<[u32]>> {
        let marks = self.snapshot.prefix(&self.keyspaces.deletions, keys::deletions_prefix(table, segment.0));
        let position = |guard: fjall::Guard| {
            let key = guard.key().map_err(storage_error)?;
            keys::position_of_deletion(&key).ok_or_else(|| Error::internal("a damaged deletion"))
        };
        marks.map(position).collect()
    }

    /// How many they are.
    ///
    /// # Errors
    /// As [`ReadView::deleted`].
    pub fn deleted_count(&self, table: TableId, segment: SegmentId) -> Result<u32> {
        Ok(u32::try_from(self.deleted(table, segment)?.len()).unwrap_or(u32::MAX))
    }

    /// The stored rows of a partition with `_seq` in `range`, tombstones included.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`; later ones come with the rows.
    pub fn rows(
        &self,
        table: &Arc<TableMeta>,
        owner: &Owner,
        range: RangeInclusive<Seq>,
        order: Order,
    ) -> Result<PartitionRows> {
        if table.is_stream() {
            return self.stream_rows(table, owner, range, order);
        }
        let key = PartitionKey { table: table.id, owner: owner.clone() };
        let mut parts = VecDeque::new();
        let mut flushed = Seq::ZERO;
        if let Some(manifest) = self.manifest(&key)? {
            flushed = manifest.flushed_up_to;
            for segment in manifest.in_range(&range) {
                let deleted = self.deleted(table.id, segment.meta.id)?;
                let scan = SegmentScan { range: range.clone(), deleted, order, ..SegmentScan::default() };
                parts.push_back(RowsPart::Cold(self.segment(table, owner, segment)?, scan));
            }
        }
        // Below, hot keys may still be there: copies, on their way out.
        let above = (*range.start()).max(flushed.after());
        if above <= *range.end() {
            parts.push_back(RowsPart::Hot(self.hot_scan(&key, flushed, above..=*range.end(), order)));
        }
        if order == Order::Descending {
            parts.make_contiguous().reverse();
        }
        Ok(PartitionRows::new(parts))
    }

    /// The hot rows with `_seq` in `range`, which lies above `flushed`, the partition's `flushed_up_to`.
    ///
    /// Keys up to there are not passed by: they may be a whole history that is gone and whose LSM tombstones are not.
    pub fn hot_scan(&self, key: &PartitionKey, flushed: Seq, range: RangeInclusive<Seq>, order: Order) -> RowScan {
        let from = self.block_begin(&self.keyspaces.rows, key, flushed, *range.start());
        self.scan_from(&self.keyspaces.rows, key, from, (range, order))
    }

    /// Like [`ReadView::hot_scan`] of the keyspace `rows`, where a block that holds the range's start begins at `from`, or
    /// none does.
    pub(super) fn scan_from(
        &self,
        rows: &Keyspace,
        key: &PartitionKey,
        from: Seq,
        (range, order): (RangeInclusive<Seq>, Order),
    ) -> RowScan {
        let entries = self.snapshot.range(rows, keys::row(key, from)..=keys::gone(key, *range.end()));
        RowScan::new(key.clone(), range, order, entries)
    }

    /// Where the block begins that holds `start`, if one does; else anything from there to `start`. A block lies on one side
    /// of `flushed`.
    pub(super) fn block_begin(&self, rows: &Keyspace, key: &PartitionKey, flushed: Seq, start: Seq) -> Seq {
        let first = flushed.after();
        if start <= first {
            return start;
        }
        let mut before = self.snapshot.range(rows, keys::row(key, first)..=keys::row(key, start));
        // An error shows again when the scan meets it.
        let Some((entry, value)) = before.next_back().and_then(|guard| guard.into_inner().ok()) else { return start };
        match keys::parse_row_key(key, &entry) {
            Some(RowKey::At(seq)) => seq,
            Some(RowKey::Gone(_)) => row_block::parse_gone(&value).unwrap_or(start),
            None => start,
        }
    }

    /// The stored rows of all owners of a table with `_seq` in `range`, tombstones included, in `_seq` order. Those of
    /// dropped users are left out.
    pub fn feed(&self, table: &Arc<TableMeta>, range: RangeInclusive<Seq>, order: Order) -> FeedScan {
        let (range, sources) = match &table.ttl {
            Some(ttl) => {
                let there = (*range.start()).max(self.expired_up_to(ttl).after())..=*range.end();
                (there.clone(), self.stream_feed(table, &there, order))
            }
            None => {
                // An entry is keyed by its first position and may reach into the range from before it.
                let from = self.feed_entry_before(&self.keyspaces.feed, keys::feed, table.id, *range.start());
                let entries = keys::feed(table.id, from)..=keys::feed(table.id, *range.end());
                let entries = ordered(self.snapshot.range(&self.keyspaces.feed, entries), order);
                (range, [FeedSource { rows: self.keyspaces.rows.clone(), entries }].into())
            }
        };
        FeedScan::new(self.clone(), table.clone(), range, order, sources)
    }

    pub(super) fn hides(&self, owner: &Owner) -> bool {
        matches!(owner, Owner::User(user) if self.hidden.contains(user))
    }

    pub(super) fn feed_entry_before(
        &self,
        entries: &Keyspace,
        key: fn(TableId, Seq) -> [u8; 12],
        table: TableId,
        start: Seq,
    ) -> Seq {
        let before = self
            .snapshot
            .range(entries, key(table, Seq::ZERO)..=key(table, start))
            .next_back()
            .and_then(|guard| guard.into_inner().ok())
            .and_then(|(key, value)| keys::parse_feed(&key, &value));
        before.filter(|(range, _)| range.last >= start).map_or(start, |(range, _)| range.first)
    }

    /// Position of the last change in a partition: [`Seq::ZERO`] where there is none.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn head(&self, key: &PartitionKey) -> Result<Seq> {
        // What is flushed may still be found hot, and may not: either way this is its last position. The last change may
        // have been a delete whose tombstone has expired.
        let ManifestHead { flushed_up_to, replayable_from, .. } = self.manifest_head(key)?.unwrap_or_default();
        Ok(self.last_above(&self.keyspaces.rows, key, flushed_up_to)?.max(replayable_from))
    }

    /// The last hot position above `flushed`, or `flushed` itself.
    pub(super) fn last_above(&self, rows: &Keyspace, key: &PartitionKey, flushed: Seq) -> Result<Seq> {
        let range = keys::row(key, flushed.after())..=keys::gone(key, Seq::MAX);
        let Some(last) = self.snapshot.range(rows, range).next_back() else { return Ok(flushed) };
        let (entry, value) = last.into_inner().map_err(storage_error)?;
        let (first, value) = match keys::parse_row_key(key, &entry) {
            Some(RowKey::At(seq)) => (seq, value),
            Some(RowKey::Gone(gone)) => {
                let first = row_block::parse_gone(&value)?;
                let block = self.snapshot.get(rows, keys::row(key, first)).map_err(storage_error)?;
                // An erasure under way takes blocks before their marks.
                let Some(block) = block else { return Ok(gone) };
                (first, block)
            }
            None => return Err(Error::internal("a rows key without a position")),
        };
        match row_block::parse(first, value.into())? {
            RowValue::One(row) => Ok(row.seq),
            RowValue::Block(block) => block.last(),
        }
    }

    /// Position of the last change in a table, over all owners.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn feed_head(&self, table: TableId) -> Result<Seq> {
        self.last_feed_entry(&self.keyspaces.feed, keys::feed, table)
    }
}
