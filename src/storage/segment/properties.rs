//! How a segment's file is written: its columns, its encodings, what it says of itself.
//!
//! Owns the names in the file's metadata, and which columns get a dictionary.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::basic::{Compression as Codec, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

use super::checksum::Checksum;
use super::stats::BOUND_MAX;
use super::writer::SegmentSpec;
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN};
use crate::model::{ColumnMeta, Compression, DataType, Owner, Seq, TableId, TableMeta, ValueRef};
use crate::storage::row_codec::ArrowCells;

/// The position of a row's INSERT.
pub(super) const CREATED_COLUMN: &str = "_created";

/// Rows of a data page: what a read of one row has to decode of each column.
pub(super) const PAGE_ROWS: usize = 2_048;
pub(super) const ROW_GROUP_ROWS: usize = 131_072;
/// Encoded bytes of a row group: what a writer holds in memory.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// Bytes of a data page, of columns with long values: 2,048 of those would take a read of one row half a millisecond.
const PAGE_BYTES: usize = 16 << 10;
/// Keys into a dictionary of so few values take a few bits: a compressor gains little and costs a reader most of its time.
const FEW_VALUES: usize = 32;
/// How often the writer looks whether a page is full.
const WRITE_BATCH: usize = 32;

/// The file's columns: the table's, with their ids, then `_seq`, `_deleted`, `_created`.
pub(super) fn file_schema(table: &TableMeta) -> SchemaRef {
    let full = table.arrow_schema();
    let mut fields: Vec<Field> = full.fields().iter().map(|field| field.as_ref().clone()).collect();
    for (field, column) in fields.iter_mut().zip(&table.columns) {
        let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), column.id.to_string());
        field.set_metadata(HashMap::from([id]));
    }
    fields.push(Field::new(CREATED_COLUMN, ArrowType::Int64, false));
    Arc::new(Schema::new(fields))
}

/// `sample`: the first rows. `rows`: how many there are going to be at most.
pub(super) fn writer_properties(spec: &SegmentSpec, sample: &RecordBatch, rows: usize) -> WriterProperties {
    let (table, target) = (&spec.table, &spec.target);
    let codec = match spec.compression {
        Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
        Compression::Snappy => Codec::SNAPPY,
        Compression::None => Codec::UNCOMPRESSED,
    };
    // Every column has one Parquet leaf, vectors too.
    let order = SortingColumn {
        column_idx: i32::try_from(table.columns.len()).unwrap_or(i32::MAX),
        descending: false,
        nulls_first: false,
    };
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(format!("inboxdb {}", env!("CARGO_PKG_VERSION")))
        .set_compression(codec)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(BOUND_MAX))
        .set_column_index_truncate_length(Some(BOUND_MAX))
        .set_data_page_row_count_limit(target.page_rows)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(target.page_rows.min(WRITE_BATCH))
        .set_max_row_group_row_count(Some(target.row_group_rows))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_sorting_columns(Some(vec![order]))
        .set_dictionary_enabled(false);
    // Positions increase: their differences take a third of the bytes.
    for name in [SEQ_COLUMN, CREATED_COLUMN] {
        properties = packed(properties, ColumnPath::from(name));
    }
    properties = properties.set_column_compression(ColumnPath::from(DELETED_COLUMN), Codec::UNCOMPRESSED);
    for (i, column) in table.columns.iter().enumerate() {
        let path = || ColumnPath::from(column.name.as_str());
        if table.is_key(i) {
            properties = properties
                .set_column_bloom_filter_enabled(path(), true)
                .set_column_bloom_filter_fpp(path(), 0.01)
                .set_column_bloom_filter_max_ndv(path(), rows.clamp(1, target.row_group_rows) as u64);
        }
        let dictionary = if table.is_key(i) { None } else { values_of_dictionary(column, sample, i) };
        if let Some(values) = dictionary {
            properties = properties.set_column_dictionary_enabled(path(), true);
            if values <= FEW_VALUES {
                properties = properties.set_column_compression(path(), Codec::UNCOMPRESSED);
            }
        } else if is_whole(column.data_type) {
            properties = packed(properties, path());
        }
    }
    properties.build()
}

/// Whole numbers as packed differences, which are about as small as what a compressor makes of them. And a reader of few rows
/// pays for each compressed column that it opens more than for the rows.
fn packed(properties: WriterPropertiesBuilder, column: ColumnPath) -> WriterPropertiesBuilder {
    let properties = properties.set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED);
    properties.set_column_compression(column, Codec::UNCOMPRESSED)
}

fn is_whole(ty: DataType) -> bool {
    use DataType::{BigInt, Date, DateTime, Int, SmallInt, Time, Timestamp};
    matches!(ty, SmallInt | Int | BigInt | Date | Time | Timestamp | DateTime)
}

/// How many values a dictionary has to begin with, if it is worth it. It makes a column of few values small, and any other
/// larger, slower to write and slower to look into.
///
/// Types whose values are mostly unique are not asked; of the others the first values decide: at most one in eight may be
/// new.
fn values_of_dictionary(column: &ColumnMeta, sample: &RecordBatch, position: usize) -> Option<usize> {
    let may = matches!(
        column.data_type,
        DataType::SmallInt | DataType::Int | DataType::BigInt | DataType::Date | DataType::Text
    );
    let cells = ArrowCells::new(column.data_type, sample.column(position).as_ref());
    let (true, Some(cells)) = (may, cells) else { return None };
    let mut seen: HashSet<Cell<'_>> = HashSet::new();
    let mut values = 0;
    for row in 0..sample.num_rows().min(1_024) {
        match cells.get(row) {
            ValueRef::Int(v) => seen.insert(Cell::Int(v)),
            ValueRef::Text(v) if v.len() <= BOUND_MAX => seen.insert(Cell::Text(v)),
            ValueRef::Null => continue,
            _ => return None,
        };
        values += 1;
    }
    (seen.len() * 8 <= values).then_some(seen.len())
}

#[derive(PartialEq, Eq, Hash)]
enum Cell<'a> {
    Int(i64),
    Text(&'a str),
}

const TABLE: &str = "inboxdb.table";
const OWNER: &str = "inboxdb.owner";
const SCHEMA_VERSION: &str = "inboxdb.schema_version";
const COLUMN_IDS: &str = "inboxdb.column_ids";
const FIRST_SEQ: &str = "inboxdb.first_seq";
const LAST_SEQ: &str = "inboxdb.last_seq";
const CHECKSUM: &str = "inboxdb.checksum";

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Label {
    pub table: TableId,
    pub table_name: String,
    /// As in keys: empty for the rows of a SHARED table.
    pub owner: String,
    pub schema_version: u32,
    /// Ids of the table's columns by their names at that version.
    pub column_ids: BTreeMap<String, u32>,
    pub first_seq: Seq,
    pub last_seq: Seq,
    pub checksum: Checksum,
}

#[derive(Serialize, Deserialize)]
struct LabelTable {
    id: TableId,
    name: String,
}

impl Label {
    pub fn new(table: &TableMeta, owner: &Owner, seqs: (Seq, Seq), checksum: Checksum) -> Self {
        Self {
            table: table.id,
            table_name: table.name.to_string(),
            owner: owner.as_str().to_owned(),
            schema_version: table.schema_version,
            column_ids: table.columns.iter().map(|c| (c.name.to_string(), c.id)).collect(),
            first_seq: seqs.0,
            last_seq: seqs.1,
            checksum,
        }
    }

    pub fn to_metadata(&self) -> Result<Vec<KeyValue>, serde_json::Error> {
        let table = LabelTable { id: self.table, name: self.table_name.clone() };
        let pairs = [
            (TABLE, serde_json::to_string(&table)?),
            (OWNER, self.owner.clone()),
            (SCHEMA_VERSION, self.schema_version.to_string()),
            (COLUMN_IDS, serde_json::to_string(&self.column_ids)?),
            (FIRST_SEQ, self.first_seq.to_string()),
            (LAST_SEQ, self.last_seq.to_string()),
            (CHECKSUM, self.checksum.to_string()),
        ];
        Ok(pairs.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect())
    }

    /// The name of what is missing or unreadable as the error.
    pub fn from_metadata(pairs: &[KeyValue]) -> Result<Self, &'static str> {
        let text = |key: &'static str| {
            let found = pairs.iter().find(|pair| pair.key == key);
            found.and_then(|pair| pair.value.as_deref()).ok_or(key)
        };
        let seq = |key: &'static str| text(key)?.parse().ok().and_then(Seq::new).ok_or(key);
        let table: LabelTable = serde_json::from_str(text(TABLE)?).map_err(|_| TABLE)?;
        Ok(Self {
            table: table.id,
            table_name: table.name,
            owner: text(OWNER)?.to_owned(),
            schema_version: text(SCHEMA_VERSION)?.parse().map_err(|_| SCHEMA_VERSION)?,
            column_ids: serde_json::from_str(text(COLUMN_IDS)?).map_err(|_| COLUMN_IDS)?,
            first_seq: seq(FIRST_SEQ)?,
            last_seq: seq(LAST_SEQ)?,
            checksum: text(CHECKSUM)?.parse().map_err(|_| CHECKSUM)?,
        })
    }
}
