//! Rows of STREAM tables that gave way to newer ones of their owner: where that is noted, and how they go.
//!
//! Owns the notes, which lie in the buckets beside the rows, so that they go with them. A note is put in the commit of the
//! statement that made the rows give way, and no reader takes them from then on; their keys are removed behind. What a crash
//! leaves of them goes with its bucket.

use fjall::{Keyspace, Readable};

use super::erase::ErasedKeys;
use super::keys::{self, RowKey};
use super::read_view::ReadView;
use super::row_block::{self, RowValue};
use super::store::{Store, storage_error};
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, QuotaNote, QuotaSlice, Seq, StreamTtl, TableId, TableMeta};

/// *seq* trimmed ∥ for each slice *seq* of its last change ∥ rows (`u64be`) ∥ bytes (`u64be`).
pub(super) fn value(note: &QuotaNote) -> Vec<u8> {
    let mut value = note.trimmed.get().to_be_bytes().to_vec();
    for QuotaSlice { last, rows, bytes } in &note.slices {
        value.extend_from_slice(&last.get().to_be_bytes());
        value.extend_from_slice(&rows.to_be_bytes());
        value.extend_from_slice(&bytes.to_be_bytes());
    }
    value
}

fn parse(value: &[u8]) -> Result<QuotaNote> {
    let parsed = || {
        let (trimmed, slices) = value.split_first_chunk::<8>()?;
        let seq = |bytes: [u8; 8]| Seq::new(i64::from_be_bytes(bytes));
        let (slices, rest) = slices.as_chunks::<24>();
        let slice = |bytes: &[u8; 24]| {
            let (words, _) = bytes.as_chunks::<8>();
            let (rows, bytes) = (u64::from_be_bytes(words[1]), u64::from_be_bytes(words[2]));
            Some(QuotaSlice { last: seq(words[0])?, rows, bytes })
        };
        let note = QuotaNote { trimmed: seq(*trimmed)?, slices: slices.iter().map(slice).collect::<Option<_>>()? };
        rest.is_empty().then_some(note)
    };
    parsed().ok_or_else(|| Error::internal("a damaged note of what gave way in a STREAM table"))
}

/// The beginning of a note alone.
fn trimmed(value: &[u8]) -> Result<Seq> {
    let seq = value.first_chunk().and_then(|bytes| Seq::new(i64::from_be_bytes(*bytes)));
    seq.ok_or_else(|| Error::internal("a damaged note of what gave way in a STREAM table"))
}

/// What a bucket notes of the feed over all owners.
pub(super) fn feed_note(bucket: &Keyspace, table: TableId) -> Result<Seq> {
    let value = bucket.get(keys::stream_feed_note(table)).map_err(storage_error)?;
    value.map_or(Ok(Seq::ZERO), |value| trimmed(&value))
}

impl ReadView {
    /// The newest note of one owner's rows.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where it is damaged.
    pub fn quota_note(&self, ttl: &StreamTtl, key: &PartitionKey) -> Result<QuotaNote> {
        let entry = keys::stream_note(key);
        let mut newest = QuotaNote::default();
        for bucket in self.buckets_there(ttl) {
            let Some(value) = self.snapshot().get(&bucket, &entry).map_err(storage_error)? else { continue };
            let note = parse(&value)?;
            if note.counted_up_to() >= newest.counted_up_to() {
                newest = QuotaNote { trimmed: note.trimmed.max(newest.trimmed), ..note };
            }
        }
        Ok(newest)
    }

    /// Up to where one owner's rows have given way.
    pub(super) fn trimmed(&self, ttl: &StreamTtl, key: &PartitionKey) -> Result<Seq> {
        self.trimmed_by(ttl, &keys::stream_note(key))
    }

    /// Up to where rows of any owner have given way.
    pub(super) fn feed_trimmed(&self, ttl: &StreamTtl, table: &TableMeta) -> Result<Seq> {
        self.trimmed_by(ttl, &keys::stream_feed_note(table.id))
    }

    fn trimmed_by(&self, ttl: &StreamTtl, entry: &[u8]) -> Result<Seq> {
        let mut greatest = Seq::ZERO;
        for bucket in self.buckets_there(ttl) {
            if let Some(value) = self.snapshot().get(&bucket, entry).map_err(storage_error)? {
                greatest = greatest.max(trimmed(&value)?);
            }
        }
        Ok(greatest)
    }

    /// Positions and sizes of one owner's rows above a position.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where one is damaged.
    pub fn stream_sizes(
        &self,
        table: &TableMeta,
        owner: &Owner,
        above: Seq,
    ) -> Result<impl Iterator<Item = Result<(Seq, u64)>> + use<>> {
        let rows = self.stream_scan(table, owner, above.after()..=Seq::MAX)?;
        Ok(rows.map(|row| row.map(|row| (row.seq, row.row.0.len() as u64))))
    }
}

impl Store {
    /// The next keys of rows above `above` up to `up_to`, which gave way, with the feed's entries that tell of them; and up to
    /// which position they are. `None`: that was all. Blocks on the disk.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where a key is damaged.
    pub fn trimmed_keys(
        &self,
        key: &PartitionKey,
        (above, up_to): (Seq, Seq),
        limit: usize,
    ) -> Result<Option<(ErasedKeys, Seq)>> {
        let mut found = ErasedKeys::default();
        let mut reached = above;
        for bucket in self.streams().current().values() {
            // A block, or a statement, of which later rows are there stays, with the marks of the block.
            let mut kept = None;
            for guard in bucket.range(keys::row(key, above.after())..=keys::gone(key, up_to)) {
                let (row, value) = guard.into_inner().map_err(storage_error)?;
                let goes = match keys::parse_row_key(key, &row) {
                    Some(RowKey::At(seq)) if found.len() >= limit && seq > reached => {
                        return Ok(Some((found, reached)));
                    }
                    Some(RowKey::At(seq)) => {
                        reached = reached.max(seq);
                        let entry = keys::stream_feed(key.table, seq);
                        let told = bucket.get(entry).map_err(storage_error)?;
                        let told = told.and_then(|value| keys::parse_feed(&entry, &value));
                        if told.is_some_and(|(range, _)| range.last <= up_to) {
                            found.in_buckets.push((bucket.clone(), entry.into()));
                        }
                        let goes = match row_block::parse(seq, value.into())? {
                            RowValue::One(_) => true,
                            RowValue::Block(block) => block.last()? <= up_to,
                        };
                        kept = (!goes).then_some(seq);
                        goes
                    }
                    Some(RowKey::Gone(seq)) => {
                        reached = reached.max(seq);
                        kept != Some(row_block::parse_gone(&value)?)
                    }
                    None => return Err(Error::internal("a rows key without a position")),
                };
                if goes {
                    found.in_buckets.push((bucket.clone(), row));
                }
            }
        }
        Ok((!found.is_empty()).then_some((found, reached)))
    }
}
