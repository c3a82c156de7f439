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
