//! Checks a whole segment: every byte, and every row.
//!
//! Owns what "sound" means. Reads at scan speed and holds a few megabytes.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures_util::TryStreamExt;
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;

use super::checksum::{BLOCK, FileSums, RowSums};
use super::reader::{Opening, SegmentReader};
use crate::error::Result;
use crate::storage::cold_store::{object_path, unavailable};

/// Blocks that are read at once.
const STEP: u64 = 64;

impl SegmentReader {
    /// # Errors
    /// `SEGMENT_DAMAGED`: the first thing that is wrong; `COLD_STORAGE_UNAVAILABLE`.
    pub async fn verify(&self) -> Result<()> {
        let meta = &self.entry().meta;
        match self.input.objects.head(&object_path(&meta.path)?).await {
            Ok(found) if found.size != meta.bytes => {
                return Err(self.input.damaged(format!("it has {} bytes instead of {}", found.size, meta.bytes)));
            }
            Ok(_) => {}
            Err(object_store::Error::NotFound { .. }) => return Err(self.input.damaged("the file is missing")),
            Err(e) => return Err(unavailable(&meta.path, &e)),
        }
        let mut sums = FileSums::default();
        let blocks = meta.bytes.div_ceil(BLOCK);
        let mut at = 0;
        while at < blocks {
            // Not through the cache: what is on the disk now is the question.
            let end = (at + STEP).min(blocks);
            self.input.read_blocks(std::slice::from_ref(&(at..end))).await?.iter().for_each(|bytes| sums.update(bytes));
            at = end;
        }
        let (_, checksum, _) = sums.finish();
        if checksum != meta.checksum {
            return Err(self.input.damaged(format!("its checksum is {checksum} instead of {}", meta.checksum)));
        }
        self.verify_rows().await
    }

    async fn verify_rows(&self) -> Result<()> {
        let footer = self.footer().await?;
        let mut rows = RowSums::new(footer.columns());
        let mut last = None;
        let all = 0..self.entry().meta.rows;
        let mut batches =
            self.open(&footer, Opening::of(ProjectionMask::all(), &footer), std::slice::from_ref(&all))?;
        while let Some(batch) = batches.try_next().await.map_err(|e| self.input.fault(e))? {
            if !rows.update(&batch) {
                return Err(self.input.damaged("it has a column of a type that no table has"));
            }
            for seq in batch.column(footer.seq_column()).as_primitive::<Int64Type>().values() {
                if last.is_some_and(|last| *seq <= last) {
                    return Err(self.input.damaged(format!("row {seq} is not above the one before it")));
                }
                last = Some(*seq);
            }
        }
        let found = rows.finish();
        if found != footer.label.checksum {
            let said = footer.label.checksum;
            return Err(self.input.damaged(format!("the checksum of its rows is {found} instead of {said}")));
        }
        Ok(())
    }
}
