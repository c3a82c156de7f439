//! Bytes of a segment, checked block by block, some of them kept in memory.
//!
//! Owns the cache of footers, of blocks that were read for few rows and of keys that were looked through, and the words for a file that is not what it should
//! be. A block is read as a whole and handed on only when its checksum is the manifest entry's.
//! Never hands out a byte of a file that is not the entry's.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use moka::sync::Cache;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::checksum::BLOCK;
use super::entry::{SegmentEntry, SegmentId};
use super::footer::Footer;
use super::lookup::KeyPositions;
use crate::error::{Error, Result};
use crate::model::{Owner, TableId};
use crate::storage::cold_store::{object_path, unavailable};

/// A read of more adjacent blocks is a scan's: it would push what key lookups need out of the cache.
const CACHED_RUN: u64 = 8;

type BlockKey = (TableId, SegmentId, u64);
/// Rows of a segment, from one position up to another.
type RowsKey = (TableId, SegmentId, u32, u32);

/// What was read of segments, of all storages together. Segments never change and their numbers are used once, so nothing in
/// it can be outdated.
pub struct SegmentCache {
    footers: Cache<(TableId, SegmentId), Arc<Footer>>,
    blocks: Cache<BlockKey, Bytes>,
    /// Keys that were decoded to look one up.
    pub(super) keys: Cache<RowsKey, Arc<KeyPositions>>,
    footers_read: AtomicU64,
    reads: AtomicU64,
    bytes_read: AtomicU64,
}

impl std::fmt::Debug for SegmentCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentCache({:?})", self.read())
    }
}

/// What was read from storages and not from memory, since the cache was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentReads {
    /// Files opened.
    pub footers: u64,
    /// Requests.
    pub reads: u64,
    pub bytes: u64,
}

impl SegmentCache {
    /// `data_bytes`: of blocks and of decoded keys, half of it each.
    pub fn new(footer_bytes: u64, data_bytes: u64) -> Arc<Self> {
        let weight = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let footers = Cache::builder().weigher(move |_, footer: &Arc<Footer>| weight(footer.size()));
        let blocks = Cache::builder().weigher(move |_, block: &Bytes| weight(block.len() + 64));
        let keys = Cache::builder().weigher(move |_, keys: &Arc<KeyPositions>| weight(keys.size()));
        Arc::new(Self {
            keys: keys.max_capacity(data_bytes / 2).build(),
            footers: footers.max_capacity(footer_bytes).build(),
            blocks: blocks.max_capacity(data_bytes / 2).build(),
            footers_read: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
        })
    }

    pub fn read(&self) -> SegmentReads {
        SegmentReads {
            footers: self.footers_read.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            bytes: self.bytes_read.load(Ordering::Relaxed),
        }
    }
}

/// A segment's file, for Parquet's reader.
#[derive(Clone)]
pub(super) struct SegmentInput {
    pub objects: Arc<dyn ObjectStore>,
    pub cache: Arc<SegmentCache>,
    pub table: TableId,
    pub entry: Arc<SegmentEntry>,
}

impl SegmentInput {
    /// The file's footer, from memory where it was read before; of the rows that the entry means.
    pub async fn footer(&self, owner: &Owner) -> Result<Arc<Footer>> {
        let key = (self.table, self.entry.meta.id);
        let footer = match self.cache.footers.get(&key) {
            Some(footer) => footer,
            None => {
                self.cache.footers_read.fetch_add(1, Ordering::Relaxed);
                let mut input = self.clone();
                let file = input.get_metadata(None).await.map_err(|e| self.fault(e))?;
                let footer = Arc::new(Footer::parse(file).map_err(|fault| self.damaged(fault))?);
                self.cache.footers.insert(key, footer.clone());
                footer
            }
        };
        footer.check(self.table, owner, &self.entry.meta).map_err(|fault| self.damaged(fault))?;
        Ok(footer)
    }

    pub fn damaged(&self, fault: impl Into<String>) -> Error {
        Error::SegmentDamaged { path: self.entry.meta.path.clone(), fault: fault.into() }
    }

    /// What a failure of Parquet's reader means: an error of ours that went through it, or bytes that it can not read.
    pub fn fault(&self, error: ParquetError) -> Error {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(at) = cause {
            if let Some(ours) = at.downcast_ref::<Error>() {
                return ours.clone();
            }
            cause = at.source();
        }
        self.damaged(error.to_string())
    }

    async fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let length = self.entry.meta.bytes;
        if let Some(beyond) = ranges.iter().find(|range| range.start > range.end || range.end > length) {
            return Err(self.damaged(format!("it points at bytes {beyond:?} of {length}")));
        }
        let runs = block_runs(ranges);
        let mut found: Vec<Option<Bytes>> = runs.iter().map(|run| self.cached(run)).collect();
        let missing: Vec<usize> = (0..runs.len()).filter(|i| found[*i].is_none()).collect();
        if !missing.is_empty() {
            let wanted: Vec<Range<u64>> = missing.iter().map(|i| runs[*i].clone()).collect();
            for (i, bytes) in missing.into_iter().zip(self.read_blocks(&wanted).await?) {
                found[i] = Some(bytes);
            }
        }
        let slice = |range: &Range<u64>| {
            let at = runs.iter().rposition(|run| run.start * BLOCK <= range.start).unwrap_or(0);
            let run = found.get(at).cloned().flatten().unwrap_or_default();
            let start = range.start - runs.get(at).map_or(0, |run| run.start * BLOCK);
            let end = start + (range.end - range.start);
            run.slice(to_usize(start)..to_usize(end))
        };
        Ok(ranges.iter().map(|range| if range.is_empty() { Bytes::new() } else { slice(range) }).collect())
    }

    /// The bytes of a short run whose blocks are all in memory.
    fn cached(&self, run: &Range<u64>) -> Option<Bytes> {
        if run.end - run.start > CACHED_RUN {
            return None;
        }
        let block = |index: u64| self.cache.blocks.get(&(self.table, self.entry.meta.id, index));
        let first = block(run.start)?;
        if run.end - run.start == 1 {
            return Some(first);
        }
        let mut all = BytesMut::with_capacity(to_usize((run.end - run.start) * BLOCK));
        all.extend_from_slice(&first);
        for index in run.start + 1..run.end {
            all.extend_from_slice(&block(index)?);
        }
        Some(all.freeze())
    }

    /// Runs of blocks, read from the storage and checked.
    pub async fn read_blocks(&self, runs: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let meta = &self.entry.meta;
        let path = object_path(&meta.path)?;
        let ranges: Vec<Range<u64>> =
            runs.iter().map(|run| run.start * BLOCK..(run.end * BLOCK).min(meta.bytes)).collect();
        let read = match self.objects.get_ranges(&path, &ranges).await {
            Ok(read) => read,
            Err(error) => return Err(self.read_fault(error).await),
        };
        self.cache.reads.fetch_add(1, Ordering::Relaxed);
        for ((run, range), bytes) in runs.iter().zip(&ranges).zip(&read) {
            self.cache.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if bytes.len() as u64 != range.end - range.start {
                return Err(self.cut_short(range.start + bytes.len() as u64));
            }
            let keep = run.end - run.start <= CACHED_RUN;
            for (index, block) in (run.start..).zip(bytes.chunks(to_usize(BLOCK))) {
                if !self.entry.blocks.holds(to_usize(index), block) {
                    let (start, end) = (index * BLOCK, index * BLOCK + block.len() as u64);
                    return Err(self.damaged(format!("bytes {start} to {end} are not what was written")));
                }
                if keep {
                    self.cache.blocks.insert((self.table, meta.id, index), Bytes::copy_from_slice(block));
                }
            }
        }
        Ok(read)
    }

    fn cut_short(&self, bytes: u64) -> Error {
        self.damaged(format!("it ends after {bytes} of {} bytes", self.entry.meta.bytes))
    }

    /// Is the file gone, is it short, or is its storage away?
    async fn read_fault(&self, error: object_store::Error) -> Error {
        let meta = &self.entry.meta;
        let path = match object_path(&meta.path) {
            Ok(path) => path,
            Err(error) => return error,
        };
        let missing = |error: &object_store::Error| matches!(error, object_store::Error::NotFound { .. });
        if missing(&error) {
            return self.damaged("the file is missing");
        }
        match self.objects.head(&path).await {
            Ok(found) if found.size < meta.bytes => self.cut_short(found.size),
            Err(error) if missing(&error) => self.damaged("the file is missing"),
            Ok(_) | Err(_) => unavailable(&meta.path, &error),
        }
    }
}

/// The blocks that hold these bytes, as runs in order that do not touch each other.
fn block_runs(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut blocks: Vec<Range<u64>> = ranges
        .iter()
        .filter(|range| !range.is_empty())
        .map(|range| range.start / BLOCK..range.end.div_ceil(BLOCK))
        .collect();
    blocks.sort_by_key(|run| run.start);
    let mut runs: Vec<Range<u64>> = Vec::new();
    for next in blocks {
        match runs.last_mut() {
            Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
            _ => runs.push(next),
        }
    }
    runs
}

/// Positions in memory: 64 bits on every machine that we run on.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn passed_on(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for SegmentInput {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let mut found = self.fetch(&[range]).await.map_err(passed_on)?;
            Ok(found.pop().unwrap_or_default())
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.fetch(&ranges).await.map_err(passed_on) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let length = self.entry.meta.bytes;
            // Whole blocks are read in any case: the last one, and the one before it.
            let tail = to_usize(BLOCK + (length % BLOCK));
            let reader = ParquetMetaDataReader::new()
                .with_page_index_policy(PageIndexPolicy::Required)
                .with_arrow_reader_options(options)
                .with_prefetch_hint(Some(tail));
            reader.load_and_finish(self, length).await.map(Arc::new)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_whole_blocks_joined_where_they_touch() {
        let runs = |ranges: &[(u64, u64)]| {
            let ranges: Vec<Range<u64>> = ranges.iter().map(|(start, end)| *start..*end).collect();
            block_runs(&ranges).into_iter().map(|run| (run.start, run.end)).collect::<Vec<_>>()
        };
        assert_eq!(runs(&[(0, 1)]), [(0, 1)]);
        assert_eq!(runs(&[(BLOCK - 1, BLOCK + 1)]), [(0, 2)]);
        assert_eq!(runs(&[(5 * BLOCK, 5 * BLOCK + 1), (0, 1), (10, 20)]), [(0, 1), (5, 6)]);
        assert_eq!(runs(&[(0, BLOCK), (BLOCK, 2 * BLOCK)]), [(0, 2)]);
        assert_eq!(runs(&[(3, 3)]), []);
    }
}
