//! Finds rows by primary key.
//!
//! Owns the order of what is asked: the manifest entry's range of keys and filter (no file is opened), the pages' ranges,
//! the row groups' bloom filters, the key columns of the pages that are left, and then the pages of the rows that were found.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use bytes::Bytes;
use futures_util::TryStreamExt;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::bloom_filter::Sbbf;
use xxhash_rust::xxh3::xxh3_64;

use super::footer::Footer;
use super::key_columns::KeyColumns;
use super::projection::Projection;
use super::reader::{Opening, SegmentReader, stored_rows};
use super::scan::SegmentBatch;
use crate::error::{Error, Result};
use crate::model::{DataType, PkBytes, StoredRow, Value};
use crate::storage::keys;
use crate::storage::row_codec::ArrowCells;

/// A live row of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRow {
    pub key: PkBytes,
    /// Its position in the file: what `deletions` names.
    pub position: u32,
    pub row: StoredRow,
}

impl SegmentReader {
    /// The rows with these keys that are neither tombstones nor `deleted` (positions, ascending), in `_seq` order.
    ///
    /// # Errors
    /// `SEGMENT_DAMAGED`, `COLD_STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub async fn find(&self, keys: &[PkBytes], deleted: &[u32]) -> Result<Vec<FoundRow>> {
        let mut wanted: Vec<&PkBytes> = keys.iter().filter(|key| self.entry().may_hold(key)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let footer = self.footer().await?;
        let mut positions = Vec::new();
        for rows in self.candidates(&footer, &wanted).await? {
            let keys = self.keys_of(&footer, rows).await?;
            positions.extend(wanted.iter().flat_map(|key| keys.positions(key)));
        }
        positions.retain(|position| deleted.binary_search(position).is_err());
        positions.sort_unstable();
        let mut found = self.fetch(&footer, &positions).await?;
        // Keys of one hash are told apart here.
        found.retain(|row| wanted.binary_search(&&row.key).is_ok());
        Ok(found)
    }

    /// The stretches of rows that may have one of the keys.
    async fn candidates(&self, footer: &Footer, wanted: &[&PkBytes]) -> Result<Vec<Range<u32>>> {
        let first = &self.table.columns[self.table.primary_key[0]];
        let Some(column) = footer.column(first.id) else {
            return Err(self.input.damaged(format!("it has no column of the key column {}", first.name)));
        };
        let mut candidates = Vec::new();
        for (group, rows) in footer.row_groups().into_iter().enumerate() {
            let pages = key_pages(footer, first.data_type, (group, column), wanted, rows.clone());
            let pages = pages.unwrap_or_else(|| vec![rows.clone()]);
            // A bloom filter takes bytes of its own to read: not for what is small.
            let few =
                pages.iter().map(|page| page.end - page.start).sum::<u32>() <= 4 * super::properties::PAGE_ROWS as u32;
            if few || self.bloom_holds(footer, first.data_type, (group, column), wanted).await? {
                candidates.extend(pages);
            }
        }
        Ok(candidates)
    }

    /// May one of the keys' first values be in this row group, by the file's own filter?
    async fn bloom_holds(
        &self,
        footer: &Footer,
        ty: DataType,
        (group, column): (usize, usize),
        wanted: &[&PkBytes],
    ) -> Result<bool> {
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.input.clone(), footer.plain.clone());
        let filter = builder.get_row_group_column_bloom_filter(group, column).await;
        let Some(filter) = filter.map_err(|e| self.input.fault(e))? else { return Ok(true) };
        if filter.num_blocks() == 0 {
            return Err(self.input.damaged("a bloom filter is empty"));
        }
        let first = |key: &PkBytes| keys::decode_pk(&self.table, key).and_then(|values| values.into_iter().next());
        Ok(wanted.iter().any(|key| first(key).is_none_or(|value| bloom_check(&filter, ty, &value))))
    }

    /// Where the keys of these rows are, but for tombstones.
    async fn keys_of(&self, footer: &Footer, rows: Range<u32>) -> Result<Arc<KeyPositions>> {
        let at = (self.input.table, self.entry().meta.id, rows.start, rows.end);
        if let Some(known) = self.input.cache.keys.get(&at) {
            return Ok(known);
        }
        let key = &self.table.primary_key;
        let mut columns = key.clone();
        columns.push(self.table.columns.len() + 1);
        let projection = Projection::new(&self.table, footer, &columns, false)?;
        let mut batches =
            self.open(footer, Opening::of(projection.mask.clone(), footer), std::slice::from_ref(&rows))?;
        let mut hashes = Vec::with_capacity(rows.len());
        let mut position = rows.start;
        while let Some(read) = batches.try_next().await.map_err(|e| self.input.fault(e))? {
            let batch = projection.adapt(&read)?;
            let tombstones: &BooleanArray = batch.column(key.len()).as_boolean();
            let array_of = |column: usize| {
                let place = key.iter().position(|other| *other == column).unwrap_or(0);
                batch.column(place).as_ref()
            };
            let mut keys = KeyColumns::new(&self.table, array_of)?;
            for row in 0..batch.num_rows() {
                if !tombstones.value(row) {
                    hashes.push((xxh3_64(keys.encode(row)), position));
                }
                position += 1;
            }
        }
        let keys = Arc::new(KeyPositions::new(hashes));
        self.input.cache.keys.insert(at, keys.clone());
        Ok(keys)
    }

    /// The whole rows at these positions, which are ascending.
    async fn fetch(&self, footer: &Footer, positions: &[u32]) -> Result<Vec<FoundRow>> {
        let mut found = Vec::with_capacity(positions.len());
        if positions.is_empty() {
            return Ok(found);
        }
        let all: Vec<usize> = (0..self.table.columns.len() + 2).collect();
        let projection = Projection::new(&self.table, footer, &all, true)?;
        let ranges: Vec<Range<u32>> = positions.iter().map(|position| *position..position + 1).collect();
        let mut batches = self.open(footer, Opening::of(projection.mask.clone(), footer), &ranges)?;
        while let Some(read) = batches.try_next().await.map_err(|e| self.input.fault(e))? {
            let created = projection.created.map(|place| read.column(place).as_primitive().clone());
            let own = positions[found.len()..].iter().take(read.num_rows()).copied().collect();
            let batch = SegmentBatch { batch: projection.adapt(&read)?, created, positions: Some(own) };
            let mut keys = KeyColumns::new(&self.table, |column| batch.batch.column(column).as_ref())?;
            for (i, (position, row)) in stored_rows(&self.table, self.entry().meta.id, &batch)?.into_iter().enumerate()
            {
                let key = PkBytes(Bytes::copy_from_slice(keys.encode(i)));
                found.push(FoundRow { key, position, row });
            }
        }
        match positions.get(found.len()) {
            None => Ok(found),
            Some(position) => Err(Error::internal(format!("row {position} was found and could not be read"))),
        }
    }
}

/// Keys of some rows of a segment, by their hash: where each is.
pub(super) struct KeyPositions {
    /// Ascending.
    hashes: Box<[u64]>,
    positions: Box<[u32]>,
}

impl KeyPositions {
    fn new(mut pairs: Vec<(u64, u32)>) -> Self {
        pairs.sort_unstable();
        Self { hashes: pairs.iter().map(|pair| pair.0).collect(), positions: pairs.iter().map(|pair| pair.1).collect() }
    }

    /// Rows that may have the key.
    fn positions(&self, key: &PkBytes) -> &[u32] {
        let hash = xxh3_64(&key.0);
        let start = self.hashes.partition_point(|other| *other < hash);
        let same = self.hashes[start..].iter().take_while(|other| **other == hash).count();
        &self.positions[start..start + same]
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        self.hashes.len() * 12 + 96
    }
}

/// The pages of a row group whose range of values holds the first part of one of the keys, adjacent ones joined. `None`:
/// there is no telling, all of them.
fn key_pages(
    footer: &Footer,
    ty: DataType,
    (group, column): (usize, usize),
    wanted: &[&PkBytes],
    rows: Range<u32>,
) -> Option<Vec<Range<u32>>> {
    let file = footer.file();
    let (indexes, offsets) = (file.column_index()?, file.offset_index()?);
    let schema = file.file_metadata().schema_descr();
    let converter = StatisticsConverter::from_column_index(column, footer.plain.schema().field(column), schema).ok()?;
    let mins = converter.data_page_mins(indexes, offsets, &[group]).ok()?;
    let maxes = converter.data_page_maxes(indexes, offsets, &[group]).ok()?;
    let (least, greatest) = (ArrowCells::new(ty, mins.as_ref())?, ArrowCells::new(ty, maxes.as_ref())?);
    let locations = offsets.get(group)?.get(column)?.page_locations();
    if locations.len() != mins.len() || locations.len() != maxes.len() {
        return None;
    }
    let mut pages: Vec<Range<u32>> = Vec::new();
    let (mut min, mut max) = (Vec::new(), Vec::new());
    for (page, location) in locations.iter().enumerate() {
        if mins.is_valid(page) && maxes.is_valid(page) {
            min.clear();
            max.clear();
            keys::encode_key_cell(&mut min, ty, least.get(page));
            keys::encode_key_cell(&mut max, ty, greatest.get(page));
            // The first key at or above the least one decides: it is in the page, or nothing is.
            let next = wanted.partition_point(|key| key.0[..] < min[..]);
            if wanted.get(next).is_none_or(|key| key.0[..] > max[..] && !key.0.starts_with(&max)) {
                continue;
            }
        }
        let start = rows.start + u32::try_from(location.first_row_index).ok()?;
        let end = match locations.get(page + 1) {
            Some(next) => rows.start + u32::try_from(next.first_row_index).ok()?,
            None => rows.end,
        };
        match pages.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => pages.push(start..end),
        }
    }
    Some(pages)
}

/// Asks a filter of Parquet's, which knows values as the file stores them.
fn bloom_check(filter: &Sbbf, ty: DataType, value: &Value) -> bool {
    match (ty, value) {
        (DataType::SmallInt | DataType::Int | DataType::Date, Value::Int(v)) => {
            i32::try_from(*v).is_ok_and(|v| filter.check(&v))
        }
        (DataType::BigInt | DataType::Time | DataType::Timestamp | DataType::DateTime, Value::Int(v)) => {
            filter.check(v)
        }
        (DataType::Text, Value::Text(v)) => filter.check(v.as_str()),
        (DataType::Bytes, Value::Bytes(v)) => filter.check(&v[..]),
        (DataType::Uuid, Value::Uuid(v)) => filter.check(&v[..]),
        // Floats have two zeros, decimals several forms.
        _ => true,
    }
}

#[cfg(test)]
mod tests;
