//! Writes a partition's rows, in `_seq` order, into as many segments as their size asks for.
//!
//! Owns the bound on memory: one batch of rows and one encoded row group, whatever the number of rows.
//! Never makes a file visible: what it returns are drafts, and [`DraftSegment::publish_all`] puts them in place.
//! Blocks on the disk.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int64Type, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;

use super::checksum::{FileSums, RowSums};
use super::entry::{SegmentEntry, SegmentId, SegmentMeta, file_name};
use super::key_columns::KeyColumns;
use super::key_filter::KeyFilterBuilder;
use super::properties::{Label, PAGE_ROWS, ROW_GROUP_ROWS, file_schema, writer_properties};
use super::stats::column_stats;
use crate::error::{Error, Result};
use crate::model::{Compression, DataType, Owner, PkBytes, Seq, StorageId, StoredRow, TableMeta};
use crate::storage::cold_store::{ColdStore, Draft, unavailable};
use crate::storage::row_codec::BatchBuilder;

/// Rows that are gathered before a file is begun: a segment of no more knows how many it has, and its filters are made for these.
const FIRST_ROWS: usize = 4 * PAGE_ROWS;
/// Rows that are encoded together from then on: about a millisecond's work, between two of which a job may rest.
const BATCH_ROWS: usize = PAGE_ROWS / 2;
/// Stored bytes of rows that are encoded together, where rows are large.
const BATCH_BYTES: usize = 4 << 20;

/// Where a segment ends and the next one begins, and how it is cut inside.
#[derive(Debug, Clone, Copy)]
pub struct SegmentTarget {
    pub rows: u32,
    /// Passed by one batch at most.
    pub bytes: u64,
    pub row_group_rows: usize,
    pub page_rows: usize,
}

impl Default for SegmentTarget {
    fn default() -> Self {
        Self { rows: 1 << 20, bytes: 128 << 20, row_group_rows: ROW_GROUP_ROWS, page_rows: PAGE_ROWS }
    }
}

#[derive(Debug, Clone)]
pub struct SegmentSpec {
    pub table: Arc<TableMeta>,
    pub owner: Owner,
    pub storage: StorageId,
    /// Relative to the storage's base.
    pub folder: String,
    pub compression: Compression,
    pub target: SegmentTarget,
    /// Milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// A segment that is written and not in its place yet.
#[derive(Debug)]
pub struct DraftSegment {
    entry: SegmentEntry,
    draft: Draft,
}

impl DraftSegment {
    pub fn entry(&self) -> &SegmentEntry {
        &self.entry
    }

    /// Makes the files durable under their names, and answers for each. Only then may its entry go into the manifest (SG-2).
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`.
    pub async fn publish_all(segments: Vec<Self>, store: &ColdStore) -> Vec<Result<SegmentEntry>> {
        let (entries, drafts): (Vec<_>, Vec<_>) =
            segments.into_iter().map(|Self { entry, draft }| (entry, draft)).unzip();
        let outcomes = store.publish_all(drafts).await.into_iter();
        outcomes.zip(entries).map(|(outcome, entry)| outcome.map(|()| entry)).collect()
    }
}

pub struct SegmentWriter<'a> {
    store: &'a ColdStore,
    spec: SegmentSpec,
    schema: SchemaRef,
    next_id: &'a mut dyn FnMut() -> SegmentId,
    batch: Batch,
    /// The file under way; there is none before the first full batch.
    open: Option<OpenSegment>,
    last_seq: Option<Seq>,
    done: Vec<DraftSegment>,
}

/// Rows that wait to be encoded.
struct Batch {
    builder: BatchBuilder,
    created: Vec<i64>,
    bytes: usize,
}

impl<'a> SegmentWriter<'a> {
    /// `next_id` gives each segment its number.
    pub fn new(store: &'a ColdStore, spec: SegmentSpec, next_id: &'a mut dyn FnMut() -> SegmentId) -> Self {
        let schema = file_schema(&spec.table);
        let builder = BatchBuilder::new(spec.table.clone(), None);
        let batch = Batch { builder, created: Vec::new(), bytes: 0 };
        Self { store, spec, schema, next_id, batch, open: None, last_seq: None, done: Vec::new() }
    }

    /// Appends a row, whose position is above all before it.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`, `INTERNAL`: what was written is of no use.
    pub fn push(&mut self, row: &StoredRow) -> Result<()> {
        if self.last_seq.is_some_and(|last| row.seq <= last) {
            return Err(Error::internal(format!("row {} of a segment is not above the one before it", row.seq)));
        }
        self.last_seq = Some(row.seq);
        self.batch.builder.push(&self.spec.owner, row)?;
        self.batch.created.push(row.created.get());
        self.batch.bytes += row.row.0.len();
        let room = self.spec.target.rows.saturating_sub(self.open.as_ref().map_or(0, |open| open.tally.rows)) as usize;
        let wanted = if self.open.is_none() { FIRST_ROWS } else { BATCH_ROWS };
        if self.batch.builder.len() >= wanted.min(room.max(1)) || self.batch.bytes >= BATCH_BYTES {
            self.encode(false)?;
            let full =
                |open: &OpenSegment| open.tally.rows >= self.spec.target.rows || open.bytes() >= self.spec.target.bytes;
            if self.open.as_ref().is_some_and(full) {
                self.close()?;
            }
        }
        Ok(())
    }

    /// The drafts, in `_seq` order; none where there was no row.
    ///
    /// # Errors
    /// As [`SegmentWriter::push`].
    pub fn finish(mut self) -> Result<Vec<DraftSegment>> {
        if !self.batch.builder.is_empty() {
            self.encode(true)?;
        }
        self.close()?;
        Ok(self.done)
    }

    /// Encodes the batch; `ends`: nothing comes behind it.
    fn encode(&mut self, ends: bool) -> Result<()> {
        let mut columns = self.batch.builder.finish()?.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.batch.created))));
        self.batch.bytes = 0;
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(Error::internal)?;
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let id = (self.next_id)();
                let rows = if ends { batch.num_rows() } else { self.spec.target.rows as usize };
                self.open.insert(OpenSegment::create(self.store, &self.spec, id, &batch, rows)?)
            }
        };
        open.write(&self.spec.table, &batch)
    }

    fn close(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            self.done.push(open.close(&self.spec)?);
        }
        Ok(())
    }
}

struct OpenSegment {
    id: SegmentId,
    path: String,
    file: ArrowWriter<Sink>,
    schema: SchemaRef,
    sums: RowSums,
    filter: KeyFilterBuilder,
    tally: Tally,
}

/// Where the file's bytes go, summed up in passing.
struct Sink {
    /// `None` when the file is finished.
    draft: Option<Draft>,
    sums: FileSums,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let draft = self.draft.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let written = draft.write(bytes)?;
        self.sums.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is counted while rows pass.
#[derive(Default)]
struct Tally {
    rows: u32,
    first_seq: Seq,
    last_seq: Seq,
    tombstones: u32,
    oldest_tombstone: Option<Seq>,
    key_min: Option<Vec<u8>>,
    key_max: Vec<u8>,
    nulls: Vec<u64>,
}

impl OpenSegment {
    fn create(store: &ColdStore, spec: &SegmentSpec, id: SegmentId, first: &RecordBatch, rows: usize) -> Result<Self> {
        let path = format!("{}/{}", spec.folder, file_name(spec.table.id, id));
        let draft = store.draft(&path)?;
        let properties = writer_properties(spec, first, rows);
        let sink = Sink { draft: Some(draft), sums: FileSums::default() };
        let file = ArrowWriter::try_new(sink, first.schema(), Some(properties)).map_err(|e| unavailable(&path, &e))?;
        let tally = Tally { nulls: vec![0; spec.table.columns.len()], ..Tally::default() };
        let sums = RowSums::new(first.num_columns());
        Ok(Self { id, path, file, schema: first.schema(), sums, filter: KeyFilterBuilder::new(rows), tally })
    }

    fn bytes(&self) -> u64 {
        (self.file.bytes_written() + self.file.in_progress_size()) as u64
    }

    fn write(&mut self, table: &TableMeta, batch: &RecordBatch) -> Result<()> {
        check_decimals(table, batch)?;
        self.tally.add(table, batch, &mut self.filter)?;
        if !self.sums.update(batch) {
            return Err(Error::internal("a column of a type that has no checksum"));
        }
        self.file.write(batch).map_err(|e| unavailable(&self.path, &e))
    }

    fn close(mut self, spec: &SegmentSpec) -> Result<DraftSegment> {
        let Tally { rows, first_seq, last_seq, tombstones, oldest_tombstone, key_min, key_max, nulls } = self.tally;
        let path = self.path;
        let label = Label::new(&spec.table, &spec.owner, (first_seq, last_seq), self.sums.finish());
        for pair in label.to_metadata().map_err(Error::internal)? {
            self.file.append_key_value_metadata(pair);
        }
        let footer = self.file.finish().map_err(|e| unavailable(&path, &e))?;
        // Not `into_inner`, which would write the footer once more.
        let sink = self.file.inner_mut();
        let draft = sink.draft.take().ok_or_else(|| Error::internal("a segment was finished twice"))?;
        let (bytes, checksum, blocks) = std::mem::take(&mut sink.sums).finish();
        let mut stats = BTreeMap::new();
        for (i, column) in spec.table.columns.iter().enumerate() {
            stats.insert(column.id, column_stats(column.data_type, nulls[i], &footer, &self.schema, i));
        }
        let key = |bytes: Vec<u8>| PkBytes(Bytes::from(bytes));
        let meta = SegmentMeta {
            id: self.id,
            storage: Some(spec.storage.clone()),
            path,
            first_seq,
            last_seq,
            rows,
            bytes,
            checksum,
            schema_version: spec.table.schema_version,
            created_at: spec.now_ms,
            deleted_rows: 0,
            tombstones,
            oldest_tombstone,
            key_min: key(key_min.unwrap_or_default()),
            key_max: key(key_max),
            stats,
        };
        Ok(DraftSegment { entry: SegmentEntry { meta, filter: self.filter.finish(), blocks }, draft })
    }
}

/// Parquet keeps a decimal of few digits in 4 or 8 bytes, and would cut a value that has more digits than its column.
pub(in crate::storage) fn check_decimals(table: &TableMeta, batch: &RecordBatch) -> Result<()> {
    for (column, array) in table.columns.iter().zip(batch.columns()) {
        if let DataType::Decimal { precision, .. } = column.data_type {
            let decimals = array.as_primitive::<Decimal128Type>();
            decimals.validate_decimal_precision(precision).map_err(Error::internal)?;
        }
    }
    Ok(())
}

impl Tally {
    fn add(&mut self, table: &TableMeta, batch: &RecordBatch, filter: &mut KeyFilterBuilder) -> Result<()> {
        let own = table.columns.len();
        let (seqs, deleted) = (batch.column(own).as_primitive::<Int64Type>(), batch.column(own + 1).as_boolean());
        let seq = |row: usize| Seq::new(seqs.value(row)).unwrap_or_default();
        if self.rows == 0 {
            self.first_seq = seq(0);
        }
        self.last_seq = seq(batch.num_rows() - 1);
        self.rows += u32::try_from(batch.num_rows()).map_err(Error::internal)?;
        for row in (0..batch.num_rows()).filter(|row| deleted.value(*row)) {
            self.tombstones += 1;
            self.oldest_tombstone.get_or_insert(seq(row));
        }
        for (nulls, column) in self.nulls.iter_mut().zip(batch.columns()) {
            *nulls += column.null_count() as u64;
        }
        let mut keys = KeyColumns::new(table, |column| batch.column(column).as_ref())?;
        for row in 0..batch.num_rows() {
            let key = keys.encode(row);
            filter.insert(key);
            if self.key_min.as_deref().is_none_or(|min| key < min) {
                self.key_min = Some(key.to_vec());
            }
            if key > &self.key_max[..] {
                self.key_max = key.to_vec();
            }
        }
        Ok(())
    }
}
