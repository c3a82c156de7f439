//! Notes of partitions: how they are stored, and read back.
//!
//! A note stands behind the two positions of its commit: whoever wrote it could not know them.

use bytes::Bytes;
use fjall::{Keyspace, OwnedWriteBatch as WriteBatch, Readable};

use super::keys;
use super::read_view::ReadView;
use super::store::storage_error;
use crate::error::{Error, Result};
use crate::model::{NoteWrite, PartitionKey, Seq, SeqRange, StoredNote};

pub(super) fn put(
    batch: &mut WriteBatch,
    notes: &Keyspace,
    key: &PartitionKey,
    (range, writes): (SeqRange, &[NoteWrite]),
) {
    for write in writes {
        let name = keys::note(key, &write.name);
        match &write.value {
            None => batch.remove(notes, name),
            Some(value) => {
                let positions = [range.first.get().to_be_bytes(), range.last.get().to_be_bytes()];
                batch.insert(notes, name, [&positions.concat(), value.as_slice()].concat());
            }
        }
    }
}

fn read(stored: Bytes) -> Result<StoredNote> {
    let seq = |at: usize| {
        let bytes = stored.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.and_then(|bytes| Seq::new(i64::from_be_bytes(bytes))).ok_or_else(|| Error::internal("a damaged note"))
    };
    Ok(StoredNote { commit: (seq(0)?, seq(8)?), value: stored.slice(16..) })
}

impl ReadView {
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn note(&self, key: &PartitionKey, name: &[u8]) -> Result<Option<StoredNote>> {
        let stored = self.snapshot().get(&self.keyspaces().notes, keys::note(key, name)).map_err(storage_error)?;
        stored.map(|stored| read(stored.into())).transpose()
    }

    /// At most `limit` notes whose names begin with `prefix` and are not below `from`: with their names, in their order.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn notes(
        &self,
        key: &PartitionKey,
        (prefix, from): (&[u8], &[u8]),
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, StoredNote)>> {
        let partition = keys::partition_prefix(key).len();
        let range = (std::ops::Bound::Included(keys::note(key, from)), keys::prefix_end(&keys::note(key, prefix)));
        let found = self.snapshot().range::<Vec<u8>, _>(&self.keyspaces().notes, range).take(limit);
        found
            .map(|guard| {
                let (name, stored) = guard.into_inner().map_err(storage_error)?;
                Ok((name[partition..].to_vec(), read(stored.into())?))
            })
            .collect()
    }
}
