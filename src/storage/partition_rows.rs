//! The stored rows of one partition, hot and cold, in `_seq` order or against it.
//!
//! Owns the seam: segments hold what is flushed, the LSM tree what lies above, and neither has a row of the other's.
//! Never reads before it is asked, and of a segment only what the range needs.
//! Invariants: SG-1 (each row once), S7 (`_seq` order without a sort: segments are disjoint and ascending).

use std::collections::VecDeque;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;

use super::row_scan::RowScan;
use super::segment::{SegmentReader, SegmentScan};
use crate::error::Result;
use crate::model::StoredRow;

/// Hot rows that are handed on at once.
const HOT_ROWS: usize = 256;

/// One stretch of a scan.
pub enum RowsPart {
    Cold(SegmentReader, SegmentScan),
    Hot(RowScan),
}

/// A segment's rows, some at a time, each with its position in the file.
type SegmentRows = BoxStream<'static, Result<Vec<(u32, StoredRow)>>>;

/// Rows of one partition. See [`super::ReadView::rows`].
pub struct PartitionRows {
    /// In the scan's order.
    parts: VecDeque<RowsPart>,
    open: Option<SegmentRows>,
}

impl PartitionRows {
    pub(super) fn new(parts: VecDeque<RowsPart>) -> Self {
        Self { parts, open: None }
    }

    /// Its stretches, for whoever reads cold ones as columns.
    pub fn into_parts(self) -> VecDeque<RowsPart> {
        self.parts
    }

    /// The next rows, tombstones included; `None` at the end. `enough`: whoever asks needs no more; of a segment, more may
    /// come.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `SEGMENT_DAMAGED`, `COLD_STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub async fn next(&mut self, enough: usize) -> Result<Option<Vec<StoredRow>>> {
        loop {
            if let Some(open) = &mut self.open {
                match open.try_next().await? {
                    Some(rows) if rows.is_empty() => continue,
                    Some(rows) => return Ok(Some(rows.into_iter().map(|(_, row)| row).collect())),
                    None => self.open = None,
                }
            }
            match self.parts.front_mut() {
                None => return Ok(None),
                Some(RowsPart::Hot(scan)) => {
                    let rows = scan.by_ref().take(enough.clamp(1, HOT_ROWS)).collect::<Result<Vec<StoredRow>>>()?;
                    if !rows.is_empty() {
                        return Ok(Some(rows));
                    }
                    self.parts.pop_front();
                }
                Some(RowsPart::Cold(..)) => {
                    if let Some(RowsPart::Cold(reader, scan)) = self.parts.pop_front() {
                        self.open = Some(reader.rows(scan).await?);
                    }
                }
            }
        }
    }
}
