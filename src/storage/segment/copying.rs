//! A segment's file, copied into another storage.
//!
//! Owns that what comes to its place there is byte for byte what the manifest's entry says, or nothing is.

use std::io::Write as _;

use futures_util::TryStreamExt as _;
use object_store::ObjectStoreExt as _;

use super::checksum::FileSums;
use super::entry::{SegmentEntry, SegmentMeta};
use crate::error::{Error, Result};
use crate::model::StorageId;
use crate::storage::cold_store::{ColdStore, object_path, unavailable};

/// Where a copy goes.
#[derive(Debug, Clone)]
pub struct CopyTarget {
    pub storage: StorageId,
    /// Relative to the storage's base.
    pub folder: String,
}

impl SegmentEntry {
    /// Copies the file from one store into another; answers with the entry that names the copy. When this returns, the
    /// copy is durable and visible; what was there by its name before, of a copy that was cut off, is gone. Asks `go_on`
    /// now and then. Blocks on the disk.
    ///
    /// # Errors
    /// `SEGMENT_DAMAGED`, `COLD_STORAGE_UNAVAILABLE`, and what `go_on` says.
    pub async fn copy(
        &self,
        from: &ColdStore,
        to: &ColdStore,
        target: CopyTarget,
        go_on: impl Fn() -> Result<()>,
    ) -> Result<SegmentEntry> {
        let path = &self.meta.path;
        let damaged = |fault: &str| Error::SegmentDamaged { path: path.clone(), fault: fault.to_owned() };
        let mut bytes = match from.objects().get(&object_path(path)?).await {
            Ok(found) => found.into_stream(),
            Err(object_store::Error::NotFound { .. }) => return Err(damaged("the file is missing")),
            Err(error) => return Err(unavailable(path, &error)),
        };
        let place = format!("{}/{}", target.folder, self.meta.file());
        let mut draft = to.draft(&place)?;
        let mut sums = FileSums::default();
        while let Some(part) = bytes.try_next().await.map_err(|error| unavailable(path, &error))? {
            go_on()?;
            sums.update(&part);
            draft.write_all(&part).map_err(|error| unavailable(&place, &error))?;
        }
        let (length, checksum, _) = sums.finish();
        if length != self.meta.bytes {
            return Err(damaged(&format!("it has {length} bytes instead of {}", self.meta.bytes)));
        }
        if checksum != self.meta.checksum {
            return Err(damaged(&format!("its checksum is {checksum} instead of {}", self.meta.checksum)));
        }
        to.publish(draft).await?;
        let meta = SegmentMeta { storage: Some(target.storage), path: place, ..self.meta.clone() };
        Ok(SegmentEntry { meta, filter: self.filter.clone(), blocks: self.blocks.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DataType, RowPlace, StoredRow, Value};
    use crate::storage::row_codec::{self, tests::table_with};
    use crate::storage::segment::testing::{Fixture, run, seq, small};

    #[test]
    fn a_copy_is_what_the_entry_says_or_is_not_there() {
        let fixture = Fixture::new(table_with(&[DataType::BigInt], &[0]));
        let row = |i: i64| {
            let row = row_codec::encode(&fixture.table, &[Value::Int(i)]);
            StoredRow { seq: seq(i + 1), created: seq(i + 1), deleted: false, row, place: RowPlace::Own }
        };
        let readers = fixture.write(fixture.spec(small(10)), &(0..10).map(row).collect::<Vec<_>>()).unwrap();
        let entry = readers[0].entry();
        let other = tempfile::tempdir().unwrap();
        let to = ColdStore::folder(other.path()).unwrap();
        let storage = StorageId::parse("other").unwrap();
        let target = || CopyTarget { storage: storage.clone(), folder: "x/y".to_owned() };
        // Twice: the second takes the place of the first, as after a crash.
        for _ in 0..2 {
            let copy = run(entry.copy(&fixture.store, &to, target(), || Ok(()))).unwrap();
            assert_eq!(copy.meta.path, "x/y/1-0000000000000001.parquet");
            assert_eq!((copy.meta.storage(&fixture.table), copy.meta.id), (&storage, entry.meta.id));
            let read = |store: &ColdStore, path: &str| run(store.content(path)).unwrap().unwrap();
            assert_eq!(read(&to, &copy.meta.path), read(&fixture.store, &entry.meta.path));
        }
        run(to.remove("x/y/1-0000000000000001.parquet")).unwrap();
        let refused = |fault: &str, go_on: fn() -> Result<()>| {
            let error = run(entry.copy(&fixture.store, &to, target(), go_on)).unwrap_err();
            assert!(error.to_string().contains(fault), "{error}");
            assert_eq!(run(to.content("x/y/1-0000000000000001.parquet")).unwrap(), None, "{fault}");
        };
        refused("given up", || Err(Error::Aborted));
        let path = fixture.folder.path().join(&entry.meta.path);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[10] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        refused("its checksum is", || Ok(()));
        std::fs::write(&path, &bytes[1..]).unwrap();
        refused("bytes instead of", || Ok(()));
        std::fs::remove_file(&path).unwrap();
        refused("the file is missing", || Ok(()));
    }
}
