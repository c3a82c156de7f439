//! A scan of one segment: a range of positions less the deleted rows, in either order, up to a limit.
//!
//! Owns which stretch of the file is read next. Parquet is read forwards only, so a descending scan reads short stretches
//! from the end and turns each around; and a scan with a limit does not decode what nobody asks for.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{Int64Type, Schema};
use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::ParquetRecordBatchStream;

use super::footer::Footer;
use super::input::SegmentInput;
use super::page_pruning::{self, PageFilter};
use super::projection::{Projection, RowPredicate};
use super::properties::PAGE_ROWS;
use super::reader::{Opening, SegmentReader};
use crate::error::{Error, Result};
use crate::model::Seq;
use crate::storage::Order;

/// What DataFusion's batches have, too.
pub(super) const BATCH_ROWS: usize = 8_192;

/// The first stretch of a scan that may end early or goes backwards: a few pages.
const FIRST_STRETCH: u32 = 4 * PAGE_ROWS as u32;
/// The longest one of a descending scan: what it holds in memory to turn around.
const LONGEST_BACKWARDS: u32 = 16 * PAGE_ROWS as u32;

/// The longest one of a scan whose predicates sharpen: they are asked of its pages when it begins.
const LONGEST_SHARPENING: u32 = 64 * PAGE_ROWS as u32;

#[derive(Debug, Clone)]
pub struct SegmentScan {
    /// Positions in `TableMeta::arrow_schema`, in output order; `None` is all of them.
    pub projection: Option<Vec<usize>>,
    pub range: RangeInclusive<Seq>,
    /// Positions in the file of rows that are deleted, ascending.
    pub deleted: Arc<[u32]>,
    /// All of them must be true.
    pub predicates: Vec<RowPredicate>,
    /// Pages that they leave out are not read.
    pub pages: Vec<PageFilter>,
    /// Predicates ask for more the more was read: so little is read at first.
    pub sharpens: bool,
    pub limit: Option<usize>,
    pub order: Order,
    pub batch_rows: usize,
    pub with_created: bool,
    pub with_positions: bool,
    /// Columns of texts, by their positions in the projection and their ids, that come as `Dictionary(Int32, Utf8)` where the file
    /// has them as such, and as texts where it has not. No predicate may ask for them.
    pub dictionaries: Vec<(usize, u32)>,
}

/// All rows.
impl Default for SegmentScan {
    fn default() -> Self {
        Self {
            projection: None,
            range: Seq::ZERO..=Seq::MAX,
            deleted: Arc::default(),
            predicates: Vec::new(),
            pages: Vec::new(),
            sharpens: false,
            limit: None,
            order: Order::Ascending,
            batch_rows: BATCH_ROWS,
            with_created: false,
            with_positions: false,
            dictionaries: Vec::new(),
        }
    }
}

impl SegmentScan {
    /// Of the range, but for what is deleted.
    fn reads_all(&self) -> bool {
        self.predicates.is_empty() && self.pages.is_empty()
    }

    fn only_counts(&self) -> bool {
        let nothing = self.projection.as_ref().is_some_and(Vec::is_empty);
        nothing && self.reads_all() && !self.with_created && !self.with_positions
    }
}

#[derive(Debug, Clone)]
pub struct SegmentBatch {
    /// The projected columns.
    pub batch: RecordBatch,
    /// `_seq` of each row's INSERT, if it was asked for.
    pub created: Option<Int64Array>,
    /// Each row's position in the file, if it was asked for: what `deletions` names.
    pub positions: Option<Vec<u32>>,
}

pub(super) async fn run(reader: &SegmentReader, scan: SegmentScan) -> Result<BoxStream<'static, Result<SegmentBatch>>> {
    if scan.limit == Some(0) || !reader.entry().overlaps(&scan.range) {
        return Ok(stream::empty().boxed());
    }
    let meta = &reader.entry().meta;
    let (from, to) = (*scan.range.start(), *scan.range.end());
    if scan.only_counts() && from <= meta.first_seq && to >= meta.last_seq {
        return counted(0..meta.rows, &scan);
    }
    let footer = reader.footer().await?;
    let start = if from <= meta.first_seq { 0 } else { reader.first_from(&footer, from).await? };
    let end = if to >= meta.last_seq { meta.rows } else { reader.first_from(&footer, to.after()).await? };
    let mut rows = start..end.max(start);
    if let (Some(limit), true) = (scan.limit, scan.reads_all()) {
        rows = trim(rows, &scan.deleted, limit, scan.order);
    }
    if scan.only_counts() {
        return counted(rows, &scan);
    }
    let all: Vec<usize>;
    let wanted = match &scan.projection {
        Some(wanted) => wanted,
        None => {
            all = (0..reader.table.columns.len() + 2).collect();
            &all
        }
    };
    let mut projection = Projection::new(&reader.table, &footer, wanted, scan.with_created)?;
    let dictionaries = projection.keep_dictionaries(&footer, &scan.dictionaries);
    let metadata = match (dictionaries.as_slice(), scan.with_positions) {
        ([], false) => footer.plain.clone(),
        ([], true) => footer.numbered.clone(),
        (columns, false) => footer.with_dictionaries(columns).map_err(|e| reader.input.fault(e))?,
        (_, true) => return Err(Error::internal("dictionaries do not come with positions")),
    };
    let mut filters = Vec::with_capacity(scan.predicates.len());
    for predicate in &scan.predicates {
        filters.push(Projection::new(&reader.table, &footer, &predicate.columns, false)?);
    }
    let stretches = Stretches::new(rows, &scan);
    let left = scan.limit;
    let running = Running {
        reader: reader.clone(),
        footer,
        metadata,
        scan,
        projection,
        filters,
        stretches,
        left,
        open: None,
        ready: vec![],
    };
    let step = |mut running: Running| async move { Ok(running.next().await?.map(|batch| (batch, running))) };
    Ok(stream::try_unfold(running, step).boxed())
}

/// How many rows there are, without reading one.
fn counted(rows: Range<u32>, scan: &SegmentScan) -> Result<BoxStream<'static, Result<SegmentBatch>>> {
    let count = kept(rows, &scan.deleted).iter().map(|range| (range.end - range.start) as usize).sum::<usize>();
    let options = RecordBatchOptions::new().with_row_count(Some(count.min(scan.limit.unwrap_or(usize::MAX))));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options);
    let batch = SegmentBatch { batch: batch.map_err(Error::internal)?, created: None, positions: None };
    Ok(stream::once(std::future::ready(Ok(batch))).boxed())
}

struct Running {
    reader: SegmentReader,
    footer: Arc<Footer>,
    metadata: ArrowReaderMetadata,
    scan: SegmentScan,
    projection: Projection,
    /// One for each predicate.
    filters: Vec<Projection>,
    stretches: Stretches,
    /// Rows that the limit leaves.
    left: Option<usize>,
    open: Option<ParquetRecordBatchStream<SegmentInput>>,
    /// Of a descending scan: batches of the stretch that was read, turned around, the next one last.
    ready: Vec<SegmentBatch>,
}

impl Running {
    async fn next(&mut self) -> Result<Option<SegmentBatch>> {
        loop {
            if self.left == Some(0) {
                return Ok(None);
            }
            if let Some(batch) = self.ready.pop() {
                return Ok(Some(self.within_limit(batch)));
            }
            if let Some(open) = &mut self.open {
                match open.try_next().await.map_err(|e| self.reader.input.fault(e))? {
                    Some(read) => {
                        let batch = self.adapt(&read)?;
                        return Ok(Some(self.within_limit(batch)));
                    }
                    None => self.open = None,
                }
            }
            let Some(stretch) = self.stretches.next() else { return Ok(None) };
            let open = self.open(stretch)?;
            match (self.scan.order, open) {
                (Order::Ascending, open) => self.open = open,
                (Order::Descending, Some(open)) => self.turn_around(open).await?,
                (Order::Descending, None) => {}
            }
        }
    }

    async fn turn_around(&mut self, mut open: ParquetRecordBatchStream<SegmentInput>) -> Result<()> {
        while let Some(read) = open.try_next().await.map_err(|e| self.reader.input.fault(e))? {
            self.ready.push(turned(&self.adapt(&read)?)?);
        }
        Ok(())
    }

    fn open(&self, stretch: Range<u32>) -> Result<Option<ParquetRecordBatchStream<SegmentInput>>> {
        let ranges = kept(stretch, &self.scan.deleted);
        let ranges = page_pruning::pruned(&self.reader.table, &self.footer, &self.scan.pages, ranges);
        if ranges.is_empty() {
            return Ok(None);
        }
        let filters = self.filters.iter().cloned().zip(&self.scan.predicates);
        let opening = Opening {
            mask: self.projection.mask.clone(),
            metadata: self.metadata.clone(),
            batch_rows: self.scan.batch_rows.max(1),
            predicates: filters.map(|(projection, predicate)| projection.predicate(predicate)).collect(),
            limit: self.left.filter(|_| self.scan.order == Order::Ascending),
        };
        self.reader.open(&self.footer, opening, &ranges).map(Some)
    }

    fn adapt(&self, read: &RecordBatch) -> Result<SegmentBatch> {
        let created = self.projection.created.map(|place| read.column(place).as_primitive::<Int64Type>().clone());
        let positions = self.scan.with_positions.then(|| {
            let numbers = read.column(self.projection.width).as_primitive::<Int64Type>();
            numbers.values().iter().map(|position| *position as u32).collect()
        });
        Ok(SegmentBatch { batch: self.projection.adapt(read)?, created, positions })
    }

    fn within_limit(&mut self, batch: SegmentBatch) -> SegmentBatch {
        let Some(left) = &mut self.left else { return batch };
        let rows = batch.batch.num_rows().min(*left);
        *left -= rows;
        if rows == batch.batch.num_rows() {
            return batch;
        }
        SegmentBatch {
            batch: batch.batch.slice(0, rows),
            created: batch.created.map(|created| created.slice(0, rows)),
            positions: batch.positions.map(|mut positions| {
                positions.truncate(rows);
                positions
            }),
        }
    }
}

fn turned(batch: &SegmentBatch) -> Result<SegmentBatch> {
    let order = UInt64Array::from_iter_values((0..batch.batch.num_rows() as u64).rev());
    let created = match &batch.created {
        Some(created) => {
            Some(take(created, &order, None).map_err(Error::internal)?.as_primitive::<Int64Type>().clone())
        }
        None => None,
    };
    let turned = match batch.batch.num_columns() {
        // Rows without columns, which only count, have no order.
        0 => batch.batch.clone(),
        _ => take_record_batch(&batch.batch, &order).map_err(Error::internal)?,
    };
    Ok(SegmentBatch {
        batch: turned,
        created,
        positions: batch.positions.as_ref().map(|positions| positions.iter().rev().copied().collect()),
    })
}

/// Cuts a range of rows into what is read at once.
struct Stretches {
    rest: Range<u32>,
    order: Order,
    length: u32,
    longest: u32,
}

impl Stretches {
    fn new(rest: Range<u32>, scan: &SegmentScan) -> Self {
        let ends_early = scan.limit.is_some() && !scan.predicates.is_empty();
        let (length, longest) = match scan.order {
            Order::Descending => (FIRST_STRETCH, LONGEST_BACKWARDS),
            Order::Ascending if scan.sharpens => (FIRST_STRETCH, LONGEST_SHARPENING),
            Order::Ascending if ends_early => (FIRST_STRETCH, u32::MAX),
            Order::Ascending => (u32::MAX, u32::MAX),
        };
        Self { rest, order: scan.order, length, longest }
    }
}

impl Iterator for Stretches {
    type Item = Range<u32>;

    /// Cut where pages begin, as far as row groups are full, so that no page is decoded twice.
    fn next(&mut self) -> Option<Range<u32>> {
        let Range { start, end } = self.rest.clone();
        if start >= end {
            return None;
        }
        let page = PAGE_ROWS as u32;
        let stretch = match self.order {
            Order::Ascending => {
                let cut = start.saturating_add(self.length) / page * page;
                let cut = if cut > start { cut.min(end) } else { end };
                self.rest = cut..end;
                start..cut
            }
            Order::Descending => {
                let cut = end.saturating_sub(self.length).next_multiple_of(page);
                let cut = if cut < end { cut.max(start) } else { start };
                self.rest = start..cut;
                cut..end
            }
        };
        self.length = self.length.saturating_mul(2).min(self.longest);
        Some(stretch)
    }
}

/// The stretches of `rows` between the deleted ones.
pub(super) fn kept(rows: Range<u32>, deleted: &[u32]) -> Vec<Range<u32>> {
    let first = deleted.partition_point(|position| *position < rows.start);
    let mut ranges = Vec::new();
    let mut start = rows.start;
    for position in deleted[first..].iter().take_while(|position| **position < rows.end) {
        if start < *position {
            ranges.push(start..*position);
        }
        start = position + 1;
    }
    if start < rows.end {
        ranges.push(start..rows.end);
    }
    ranges
}

/// The stretch of `rows` with the first (descending: last) `limit` that are not deleted.
fn trim(rows: Range<u32>, deleted: &[u32], limit: usize, order: Order) -> Range<u32> {
    let mut left = u32::try_from(limit).unwrap_or(u32::MAX);
    let mut ranges = kept(rows.clone(), deleted);
    if order == Order::Descending {
        ranges.reverse();
    }
    for range in ranges {
        let length = range.end - range.start;
        if left <= length {
            return match order {
                Order::Ascending => rows.start..range.start + left,
                Order::Descending => range.end - left..rows.end,
            };
        }
        left -= length;
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn trimming_leaves_what_the_limit_asks_for(
            start in 0u32..50, length in 0u32..50, limit in 1usize..60, descending in any::<bool>(),
            deleted in proptest::collection::btree_set(0u32..110, 0..60),
        ) {
            let deleted: Vec<u32> = deleted.into_iter().collect();
            let order = if descending { Order::Descending } else { Order::Ascending };
            let rows = start..start + length;
            let live: Vec<u32> = rows.clone().filter(|row| !deleted.contains(row)).collect();
            let listed = |range: Range<u32>| kept(range, &deleted).into_iter().flatten().collect::<Vec<u32>>();
            prop_assert_eq!(&listed(rows.clone()), &live);
            let expected = match order {
                Order::Ascending => &live[..limit.min(live.len())],
                Order::Descending => &live[live.len().saturating_sub(limit)..],
            };
            prop_assert_eq!(listed(trim(rows, &deleted, limit, order)), expected);
        }

        #[test]
        fn stretches_are_the_rows_in_order(
            start in 0u32..200_000, length in 0u32..300_000, descending in any::<bool>(), early in any::<bool>()
        ) {
            let order = if descending { Order::Descending } else { Order::Ascending };
            let rows = start..start + length;
            let longest = if early { u32::MAX } else { LONGEST_BACKWARDS };
            let mut stretches: Vec<_> =
                Stretches { rest: rows.clone(), order, length: FIRST_STRETCH, longest }.collect();
            if descending {
                stretches.reverse();
            }
            let mut at = start;
            for stretch in stretches {
                prop_assert!(stretch.start == at && stretch.end > at);
                at = stretch.end;
            }
            prop_assert_eq!(at, rows.end);
        }
    }
}
