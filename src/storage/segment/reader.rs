//! Reads one segment's rows, as columns or as stored rows.
//!
//! Owns what is opened when: nothing before the first row is asked for, and then the footer, which stays in memory.
//! Never merges with hot rows and never looks into `deletions`: who asks says which rows are deleted.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use futures_util::TryStreamExt;
use futures_util::stream::{BoxStream, StreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicate, ArrowReaderMetadata, RowFilter, RowSelection};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};

use super::entry::{SegmentEntry, SegmentId};
use super::footer::Footer;
use super::input::{SegmentCache, SegmentInput};
use super::scan::{self, SegmentBatch, SegmentScan};
use crate::error::{Error, Result};
use crate::model::{Owner, RowPlace, Seq, StoredRow, TableMeta};
use crate::storage::cold_store::ColdStore;
use crate::storage::row_codec::encode_rows;

#[derive(Clone)]
pub struct SegmentReader {
    pub(super) input: SegmentInput,
    /// Today's definition: what rows are read as.
    pub(super) table: Arc<TableMeta>,
    owner: Owner,
}

impl SegmentReader {
    /// Opens nothing yet.
    pub fn new(
        store: &ColdStore,
        cache: &Arc<SegmentCache>,
        table: Arc<TableMeta>,
        owner: Owner,
        entry: Arc<SegmentEntry>,
    ) -> Self {
        let input = SegmentInput { objects: store.objects().clone(), cache: cache.clone(), table: table.id, entry };
        Self { input, table, owner }
    }

    pub fn entry(&self) -> &Arc<SegmentEntry> {
        &self.input.entry
    }

    /// Rows as columns of [`TableMeta::arrow_schema`].
    ///
    /// # Errors
    /// `SEGMENT_DAMAGED`, `COLD_STORAGE_UNAVAILABLE`, `INTERNAL`, and what a predicate says; here or as an item.
    pub async fn scan(&self, scan: SegmentScan) -> Result<BoxStream<'static, Result<SegmentBatch>>> {
        scan::run(self, scan).await
    }

    /// Rows as they are stored hot, tombstones included, each with its position in the file. All columns, whatever `scan`
    /// projects; a batch at a time.
    ///
    /// # Errors
    /// As [`SegmentReader::scan`].
    pub async fn rows(&self, mut scan: SegmentScan) -> Result<BoxStream<'static, Result<Vec<(u32, StoredRow)>>>> {
        (scan.projection, scan.with_created, scan.with_positions) = (None, true, true);
        let (table, id) = (self.table.clone(), self.entry().meta.id);
        let batches = self.scan(scan).await?;
        Ok(batches.and_then(move |batch| std::future::ready(stored_rows(&table, id, &batch))).boxed())
    }

    pub(super) async fn footer(&self) -> Result<Arc<Footer>> {
        self.input.footer(&self.owner).await
    }

    /// `_seq` of the first row of the page that holds the row at `position`.
    ///
    /// # Errors
    /// `SEGMENT_DAMAGED`, `COLD_STORAGE_UNAVAILABLE`.
    pub async fn page_before(&self, position: u32) -> Result<Seq> {
        let footer = self.footer().await?;
        let page = footer.seq_pages.starts.partition_point(|start| *start <= position).saturating_sub(1);
        let first = footer.seq_pages.mins.get(page).copied().and_then(Seq::new);
        Ok(first.unwrap_or(self.entry().meta.first_seq))
    }

    /// Position of the first row at or above `seq`: the number of rows where there is none.
    pub(super) async fn first_from(&self, footer: &Footer, seq: Seq) -> Result<u32> {
        let pages = &footer.seq_pages;
        let page = pages.maxes.partition_point(|max| *max < seq.get());
        let Some(start) = pages.starts.get(page) else { return Ok(self.entry().meta.rows) };
        if pages.mins[page] >= seq.get() {
            return Ok(*start);
        }
        let end = pages.starts.get(page + 1).copied().unwrap_or(self.entry().meta.rows);
        let mask = ProjectionMask::roots(footer.file().file_metadata().schema_descr(), [footer.seq_column()]);
        let mut position = *start;
        let mut batches = self.open(footer, Opening::of(mask, footer), std::slice::from_ref(&(*start..end)))?;
        while let Some(batch) = batches.try_next().await.map_err(|e| self.input.fault(e))? {
            let seqs: &Int64Array = batch.column(0).as_primitive::<Int64Type>();
            let below = seqs.values().partition_point(|other| *other < seq.get());
            position += u32::try_from(below).map_err(Error::internal)?;
            if below < seqs.len() {
                break;
            }
        }
        Ok(position)
    }

    /// Reads the rows in `ranges`, which are ascending and apart from each other.
    pub(super) fn open(
        &self,
        footer: &Footer,
        opening: Opening,
        ranges: &[Range<u32>],
    ) -> Result<ParquetRecordBatchStream<SegmentInput>> {
        let (groups, rows, chosen) = in_row_groups(&footer.row_groups(), ranges);
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.input.clone(), opening.metadata)
            .with_projection(opening.mask)
            .with_batch_size(opening.batch_rows)
            .with_row_groups(groups);
        if chosen.iter().map(ExactSizeIterator::len).sum::<usize>() < rows {
            builder = builder.with_row_selection(RowSelection::from_consecutive_ranges(chosen.into_iter(), rows));
        }
        if !opening.predicates.is_empty() {
            builder = builder.with_row_filter(RowFilter::new(opening.predicates));
        }
        if let Some(limit) = opening.limit {
            builder = builder.with_limit(limit);
        }
        builder.build().map_err(|e| self.input.fault(e))
    }
}

/// How [`SegmentReader::open`] reads.
pub(super) struct Opening {
    pub mask: ProjectionMask,
    /// One of the file's: what its columns are read as.
    pub metadata: ArrowReaderMetadata,
    pub batch_rows: usize,
    pub predicates: Vec<Box<dyn ArrowPredicate>>,
    pub limit: Option<usize>,
}

impl Opening {
    pub fn of(mask: ProjectionMask, footer: &Footer) -> Self {
        let metadata = footer.plain.clone();
        Self { mask, metadata, batch_rows: scan::BATCH_ROWS, predicates: Vec::new(), limit: None }
    }
}

/// The row groups that have rows of `ranges`, how many rows these have together, and the ranges counted within them.
fn in_row_groups(groups: &[Range<u32>], ranges: &[Range<u32>]) -> (Vec<usize>, usize, Vec<Range<usize>>) {
    let mut numbers = Vec::new();
    let mut chosen = Vec::with_capacity(ranges.len());
    let mut before = 0;
    let mut rest = ranges;
    for (number, group) in groups.iter().enumerate() {
        while rest.first().is_some_and(|range| range.end <= group.start) {
            rest = &rest[1..];
        }
        let here: Vec<Range<u32>> = rest
            .iter()
            .take_while(|range| range.start < group.end)
            .map(|range| range.start.max(group.start)..range.end.min(group.end))
            .filter(|range| !range.is_empty())
            .collect();
        if here.is_empty() {
            continue;
        }
        let within = |position: u32| before + (position - group.start) as usize;
        chosen.extend(here.iter().map(|range| within(range.start)..within(range.end)));
        numbers.push(number);
        before += group.len();
    }
    (numbers, before, chosen)
}

/// # Errors
/// `INTERNAL` where the batch has not all columns.
pub(super) fn stored_rows(table: &TableMeta, segment: SegmentId, read: &SegmentBatch) -> Result<Vec<(u32, StoredRow)>> {
    let (Some(created), Some(positions)) = (&read.created, &read.positions) else {
        return Err(Error::internal("stored rows need their insert's position and their own"));
    };
    let (own, segment) = (table.columns.len(), segment.0);
    let (seqs, deleted) = (read.batch.column(own).as_primitive::<Int64Type>(), read.batch.column(own + 1).as_boolean());
    let seq = |raw: i64| Seq::new(raw).ok_or_else(|| Error::internal(format!("{raw} is no position")));
    let mut rows = Vec::with_capacity(positions.len());
    for (i, row) in encode_rows(table, &read.batch)?.into_iter().enumerate() {
        let (seq, created, deleted) = (seq(seqs.value(i))?, seq(created.value(i))?, deleted.value(i));
        let place = RowPlace::Segment { segment, position: positions[i] };
        rows.push((positions[i], StoredRow { seq, created, deleted, row, place }));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_counted_within_the_row_groups_that_have_them() {
        let groups = [0..10, 10..20, 20..30, 30..35];
        let of = |ranges: &[(u32, u32)]| {
            let ranges: Vec<Range<u32>> = ranges.iter().map(|(start, end)| *start..*end).collect();
            let (numbers, rows, chosen) = in_row_groups(&groups, &ranges);
            (numbers, rows, chosen.into_iter().map(|range| (range.start, range.end)).collect::<Vec<_>>())
        };
        assert_eq!(of(&[(0, 35)]), (vec![0, 1, 2, 3], 35, vec![(0, 10), (10, 20), (20, 30), (30, 35)]));
        assert_eq!(of(&[(3, 5), (22, 23)]), (vec![0, 2], 20, vec![(3, 5), (12, 13)]));
        assert_eq!(of(&[(8, 12)]), (vec![0, 1], 20, vec![(8, 10), (10, 12)]));
        let across = vec![(9, 10), (10, 20), (20, 21), (34, 35)];
        assert_eq!(of(&[(9, 21), (34, 35)]), (vec![0, 1, 2, 3], 35, across));
        assert_eq!(of(&[(30, 31), (33, 34)]), (vec![3], 5, vec![(0, 1), (3, 4)]));
        assert_eq!(of(&[]), (vec![], 0, vec![]));
    }
}
