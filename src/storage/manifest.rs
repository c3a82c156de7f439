//! A partition's cold half: which segments it has, and up to which position its rows are in them.
//!
//! Owns the order of segments (disjoint ranges, ascending), which of them a read has to ask, the form of the `manifest`
//! keyspace's entries, and the copy of it all that lies beside the files for people and other tools.
//! Never decides what is flushed; never reads the copy back: the keyspace is the truth.
//! Invariants: SG-2 (an entry's file is there), held by whoever publishes the file before committing the entry.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::Serialize;

use super::cold_store::ColdStore;
use super::keys;
use super::segment::{SegmentEntry, SegmentId, SegmentMeta};
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, PkBytes, Seq, TableId, TableMeta};

/// The name of the copy beside the segments.
pub const MANIFEST_FILE: &str = "manifest.json";

#[derive(Debug, Clone, Default)]
pub struct PartitionManifest {
    /// All rows up to here are in segments, or gone.
    pub flushed_up_to: Seq,
    /// Raised by each change: two manifests of a partition with the same number are the same.
    pub generation: u64,
    /// Tombstones up to here may have expired, hot or cold: whoever knows the partition up to an older position may have
    /// missed a delete.
    pub replayable_from: Seq,
    segments: Vec<Arc<SegmentEntry>>,
}

impl PartitionManifest {
    /// # Errors
    /// `INTERNAL` where the segments' ranges are not disjoint and ascending, or pass `flushed_up_to`.
    pub fn new(flushed_up_to: Seq, segments: Vec<Arc<SegmentEntry>>) -> Result<Self> {
        let mut last = Seq::ZERO;
        for segment in &segments {
            let meta = &segment.meta;
            if meta.first_seq <= last || meta.last_seq < meta.first_seq {
                let (id, first, end) = (meta.id.0, meta.first_seq, meta.last_seq);
                return Err(Error::internal(format!("segment {id} ({first} to {end}) does not lie behind {last}")));
            }
            last = meta.last_seq;
        }
        if last > flushed_up_to {
            return Err(Error::internal(format!(
                "a segment reaches to {last}, and rows are flushed up to {flushed_up_to}"
            )));
        }
        Ok(Self { flushed_up_to, generation: 0, replayable_from: Seq::ZERO, segments })
    }

    /// The manifest behind a change: `added` in the place of the segments `removed`.
    ///
    /// # Errors
    /// As [`PartitionManifest::new`].
    pub fn changed(&self, flushed_up_to: Seq, added: &[Arc<SegmentEntry>], removed: &[SegmentId]) -> Result<Self> {
        let kept = self.segments.iter().filter(|segment| !removed.contains(&segment.meta.id)).cloned();
        let mut segments: Vec<Arc<SegmentEntry>> = kept.chain(added.iter().cloned()).collect();
        segments.sort_by_key(|segment| segment.meta.first_seq);
        let changed = Self::new(flushed_up_to.max(self.flushed_up_to), segments)?;
        Ok(Self { generation: self.generation + 1, replayable_from: self.replayable_from, ..changed })
    }

    /// The manifest behind the expiry of tombstones up to a position, of which no reader knows yet.
    pub fn expired_up_to(self, seq: Seq) -> Self {
        Self { replayable_from: self.replayable_from.max(seq), ..self }
    }

    /// The oldest of the segments' tombstones; [`Seq::ZERO`]: there is none.
    pub fn oldest_tombstone(&self) -> Seq {
        self.segments.iter().filter_map(|segment| segment.meta.oldest_tombstone).min().unwrap_or_default()
    }

    /// Is nothing of the partition cold, and was it never?
    pub fn is_empty(&self) -> bool {
        self.flushed_up_to == Seq::ZERO && self.segments.is_empty()
    }

    /// The greatest primary key of all segments' rows.
    pub fn greatest_key(&self) -> Option<&PkBytes> {
        self.segments.iter().map(|segment| &segment.meta.key_max).max()
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        64 + self.segments.iter().map(|segment| segment.size()).sum::<usize>()
    }

    /// Ascending.
    pub fn segments(&self) -> &[Arc<SegmentEntry>] {
        &self.segments
    }

    /// Segments that may have rows in this range of positions, ascending.
    pub fn in_range(&self, range: &RangeInclusive<Seq>) -> &[Arc<SegmentEntry>] {
        let from = self.segments.partition_point(|segment| segment.meta.last_seq < *range.start());
        let to = self.segments.partition_point(|segment| segment.meta.first_seq <= *range.end());
        self.segments.get(from..to).unwrap_or_default()
    }

    /// Segments that may have a row with this key, the latest first: no file is opened for it.
    pub fn may_hold<'m>(&'m self, key: &'m PkBytes) -> impl Iterator<Item = &'m Arc<SegmentEntry>> {
        self.segments.iter().rev().filter(|segment| segment.may_hold(key))
    }

    /// The entries of the `manifest` keyspace that say this: keys and values.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn entries(&self, key: &PartitionKey) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut entries = vec![self.head_entry(key)];
        for segment in &self.segments {
            entries.push(segment_entry(key, segment)?);
        }
        Ok(entries)
    }

    /// Key and value of the first entry.
    pub(super) fn head_entry(&self, key: &PartitionKey) -> (Vec<u8>, Vec<u8>) {
        let head = ManifestHead {
            flushed_up_to: self.flushed_up_to,
            generation: self.generation,
            replayable_from: self.replayable_from,
        };
        (keys::manifest(key, Seq::ZERO), head.value().to_vec())
    }

    /// What the entries of one partition say, in the order of their keys.
    ///
    /// # Errors
    /// `INTERNAL` where an entry is damaged.
    pub fn from_entries<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        entries: impl IntoIterator<Item = Result<(K, V)>>,
    ) -> Result<Self> {
        let mut head = ManifestHead::default();
        let mut segments = Vec::new();
        for entry in entries {
            let (key, value) = entry?;
            let (key, value) = (key.as_ref(), value.as_ref());
            let damaged = || Error::internal("a damaged manifest entry");
            let first = keys::seq_at_end(key).ok_or_else(damaged)?;
            if first == Seq::ZERO {
                head = ManifestHead::parse(value).ok_or_else(damaged)?;
                continue;
            }
            let segment = SegmentEntry::from_bytes(value).ok_or_else(damaged)?;
            if segment.meta.first_seq != first {
                return Err(damaged());
            }
            segments.push(Arc::new(segment));
        }
        let ManifestHead { flushed_up_to, generation, replayable_from } = head;
        Ok(Self { generation, replayable_from, ..Self::new(flushed_up_to, segments)? })
    }

    /// What people and other tools are shown. `deleted` counts the rows of a segment that were replaced or deleted.
    ///
    /// # Errors
    /// Those of `deleted`.
    pub fn shown(
        &self,
        table: &TableMeta,
        owner: &Owner,
        mut deleted: impl FnMut(SegmentId) -> Result<u32>,
    ) -> Result<ShownManifest> {
        let mut segments = Vec::with_capacity(self.segments.len());
        for SegmentEntry { meta, .. } in self.segments.iter().map(Arc::as_ref) {
            let (deleted_rows, storage) = (deleted(meta.id)?, Some(meta.storage(table).clone()));
            segments.push(SegmentMeta { deleted_rows, storage, ..meta.clone() });
        }
        Ok(ShownManifest {
            table_id: table.id,
            table: table.name.to_string(),
            user_id: match owner {
                Owner::Shared => None,
                Owner::User(user) => Some(user.to_string()),
            },
            flushed_up_to: self.flushed_up_to,
            replayable_from: self.replayable_from,
            segments,
        })
    }
}

/// A manifest as JSON says it, in `manifest.json` and in `system.manifest`.
#[derive(Debug, Serialize)]
pub struct ShownManifest {
    table_id: TableId,
    table: String,
    /// Absent for the rows of a SHARED table.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    flushed_up_to: Seq,
    replayable_from: Seq,
    segments: Vec<SegmentMeta>,
}

impl ShownManifest {
    /// Writes it into the partition's folder, in place of the one before.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`: the copy is old then, which concerns nobody but its reader.
    pub async fn write(&self, store: &ColdStore, folder: &str) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(Error::internal)?;
        text.push(b'\n');
        store.replace_copy(&format!("{folder}/{MANIFEST_FILE}"), &text).await
    }
}

/// The value of a partition's first entry, whose key is [`keys::manifest`] with position 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct ManifestHead {
    pub flushed_up_to: Seq,
    pub generation: u64,
    pub replayable_from: Seq,
}

impl ManifestHead {
    fn value(&self) -> [u8; 24] {
        let mut value = [0; 24];
        value[..8].copy_from_slice(&self.flushed_up_to.get().to_be_bytes());
        value[8..16].copy_from_slice(&self.generation.to_be_bytes());
        value[16..].copy_from_slice(&self.replayable_from.get().to_be_bytes());
        value
    }

    /// Those of format 3 have two numbers: no tombstone had expired.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let (words, rest) = value.as_chunks::<8>();
        let (flushed, generation, replayable) = match words {
            [flushed, generation] => (flushed, generation, &[0; 8]),
            [flushed, generation, replayable] => (flushed, generation, replayable),
            _ => return None,
        };
        let seq = |bytes: &[u8; 8]| Seq::new(i64::from_be_bytes(*bytes));
        rest.is_empty().then_some(Self {
            flushed_up_to: seq(flushed)?,
            generation: u64::from_be_bytes(*generation),
            replayable_from: seq(replayable)?,
        })
    }
}

/// Key and value of a segment's entry.
///
/// # Errors
/// `INTERNAL`.
pub(crate) fn segment_entry(key: &PartitionKey, segment: &SegmentEntry) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok((keys::manifest(key, segment.meta.first_seq), segment.to_bytes().map_err(Error::internal)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use crate::model::{DataType, RowPlace, StoredRow, Value};
    use crate::storage::row_codec::{self, tests::table_with};
    use crate::storage::segment::testing::{Fixture, alice, run, seq, small};

    /// Three segments of ten rows: ids 0 to 29 at positions 1 to 30.
    fn fixture() -> (Fixture, PartitionManifest) {
        let fixture = Fixture::new(table_with(&[DataType::BigInt, DataType::Text], &[0]));
        let row = |i: i64| {
            let values = [Value::Int(i), Value::Text(format!("row {i}"))];
            let row = row_codec::encode(&fixture.table, &values);
            StoredRow { seq: seq(i + 1), created: seq(i + 1), deleted: false, row, place: RowPlace::Own }
        };
        let rows: Vec<StoredRow> = (0..30).map(row).collect();
        let readers = fixture.write(fixture.spec(small(10)), &rows).unwrap();
        let segments = readers.iter().map(|reader| reader.entry().clone()).collect();
        let manifest = PartitionManifest::new(seq(40), segments).unwrap();
        (fixture, manifest)
    }

    fn ids<'m>(segments: impl IntoIterator<Item = &'m Arc<SegmentEntry>>) -> Vec<u64> {
        segments.into_iter().map(|segment| segment.meta.id.0).collect()
    }

    #[test]
    fn only_what_may_have_the_rows_is_asked() {
        let (fixture, manifest) = fixture();
        let cases = [
            (0, 0, vec![]),
            (1, 30, vec![1, 2, 3]),
            (10, 11, vec![1, 2]),
            (11, 20, vec![2]),
            (31, 99, vec![]),
            (25, 5, vec![]),
        ];
        for (from, to, expected) in cases {
            assert_eq!(ids(manifest.in_range(&(seq(from)..=seq(to)))), expected, "{from} to {to}");
        }
        let key = |i: i64| keys::encode_pk(&fixture.table, &[Value::Int(i), Value::Null], 1).unwrap();
        assert_eq!(ids(manifest.may_hold(&key(15))), [2]);
        assert_eq!(ids(manifest.may_hold(&key(30))), Vec::<u64>::new(), "above all keys");
    }

    #[test]
    fn comes_back_from_its_entries() {
        let (fixture, manifest) = fixture();
        let key = PartitionKey { table: fixture.table.id, owner: alice() };
        let entries = manifest.entries(&key).unwrap();
        assert!(entries.is_sorted(), "the keyspace gives them in this order");
        assert!(entries.iter().all(|(entry, _)| entry.starts_with(&keys::manifest_prefix(&key))));
        let back = PartitionManifest::from_entries(entries.iter().cloned().map(Ok)).unwrap();
        assert_eq!(back.flushed_up_to, manifest.flushed_up_to);
        for (segment, other) in back.segments().iter().zip(manifest.segments()) {
            assert_eq!(segment.meta, other.meta);
            assert_eq!(segment.filter.to_bytes(), other.filter.to_bytes());
            assert_eq!(segment.blocks, other.blocks);
        }
        let none: Vec<Result<(Vec<u8>, Vec<u8>)>> = Vec::new();
        assert_eq!(PartitionManifest::from_entries(none).unwrap().flushed_up_to, Seq::ZERO);
    }

    #[test]
    fn a_head_says_what_has_expired_and_one_of_format_3_says_nothing() {
        let head = ManifestHead { flushed_up_to: seq(7), generation: 3, replayable_from: seq(5) };
        assert_eq!(ManifestHead::parse(&head.value()), Some(head));
        let older = ManifestHead { replayable_from: Seq::ZERO, ..head };
        assert_eq!(ManifestHead::parse(&head.value()[..16]), Some(older));
        for damaged in [&head.value()[..23], &head.value()[..8], &[0xFF; 24], &[0; 32], &[]] {
            assert_eq!(ManifestHead::parse(damaged), None);
        }
        let manifest = PartitionManifest::default().expired_up_to(seq(5)).expired_up_to(seq(4));
        assert_eq!(manifest.replayable_from, seq(5));
        assert_eq!(manifest.changed(seq(9), &[], &[]).unwrap().replayable_from, seq(5), "no change takes it back");
    }

    #[test]
    fn damaged_entries_are_told() {
        let (fixture, manifest) = fixture();
        let key = PartitionKey { table: fixture.table.id, owner: alice() };
        let entries = manifest.entries(&key).unwrap();
        let refused = |entries: Vec<(Vec<u8>, Vec<u8>)>| {
            let error = PartitionManifest::from_entries(entries.into_iter().map(Ok)).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Internal);
        };
        let mut cut = entries.clone();
        let length = cut[1].1.len();
        cut[1].1.truncate(length - 1);
        refused(cut);
        let mut head = entries.clone();
        head[0].1.pop();
        refused(head);
        let mut moved = entries.clone();
        moved[1].0 = keys::manifest(&key, seq(2));
        refused(moved);
        let mut twice = entries.clone();
        twice.insert(1, entries[1].clone());
        refused(twice);
        let mut low = entries;
        low[0].1 = ManifestHead { flushed_up_to: seq(29), ..ManifestHead::default() }.value().to_vec();
        refused(low);
    }

    #[test]
    fn the_copy_is_for_people() {
        let (fixture, manifest) = fixture();
        let first = PartitionManifest::new(seq(40), manifest.segments()[..1].to_vec()).unwrap();
        for manifest in [&manifest, &first] {
            let shown = manifest.shown(&fixture.table, &alice(), |id| Ok(id.0 as u32 * 3)).unwrap();
            run(shown.write(&fixture.store, "t/t/alice")).unwrap();
        }
        let copy = run(fixture.store.content("t/t/alice/manifest.json")).unwrap().unwrap();
        let copy: serde_json::Value = serde_json::from_slice(&copy).unwrap();
        assert_eq!(copy["table"], "t.t");
        assert_eq!(copy["user_id"], "alice");
        assert_eq!(copy["flushed_up_to"], 40);
        assert_eq!(copy["segments"].as_array().unwrap().len(), 1);
        assert_eq!(copy["segments"][0]["path"], "t/t/alice/1-0000000000000001.parquet");
        assert_eq!(copy["segments"][0]["stats"]["1"]["max"], "9");
        assert_eq!(copy["segments"][0]["storage"], "local");
        assert_eq!(copy["segments"][0]["deleted_rows"], 3);
        let shown = first.shown(&fixture.table, &Owner::Shared, |_| Ok(0)).unwrap();
        run(shown.write(&fixture.store, "t/t")).unwrap();
        let shared = run(fixture.store.content("t/t/manifest.json")).unwrap().unwrap();
        assert!(!String::from_utf8(shared.to_vec()).unwrap().contains("user_id"));
    }
}
