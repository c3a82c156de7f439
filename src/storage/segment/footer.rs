//! A segment's footer: which columns it has, where its pages are, whose rows it holds.
//!
//! Owns the check that a file is the one that the manifest means.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::{PARQUET_FIELD_ID_META_KEY, RowNumber};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use super::entry::SegmentMeta;
use super::properties::{CREATED_COLUMN, Label};
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN};
use crate::model::{Owner, TableId};

/// The name of the column of row positions that [`Footer::numbered`] reads behind the file's.
const POSITION_COLUMN: &str = "_position";

pub struct Footer {
    /// For reading the file's columns.
    pub(super) plain: ArrowReaderMetadata,
    /// The same, and each row's position behind them.
    pub(super) numbered: ArrowReaderMetadata,
    pub(super) label: Label,
    /// By position in the file: the column's id. The system columns stand behind.
    column_ids: Vec<u32>,
    pub(super) seq_pages: SeqPages,
}

/// Where the pages of `_seq` begin, and what they hold.
#[derive(Debug, Default)]
pub(super) struct SeqPages {
    /// Position of the page's first row.
    pub starts: Vec<u32>,
    pub mins: Vec<i64>,
    pub maxes: Vec<i64>,
}

impl Footer {
    /// What is wrong with the file as the error.
    pub fn parse(file: Arc<ParquetMetaData>) -> Result<Self, String> {
        let label = Label::from_metadata(file.file_metadata().key_value_metadata().map_or(&[][..], |pairs| pairs));
        let label = label.map_err(|key| format!("its metadata has no readable {key}"))?;
        let plain = ArrowReaderMetadata::try_new(file.clone(), ArrowReaderOptions::new()).map_err(|e| e.to_string())?;
        let position = Field::new(POSITION_COLUMN, ArrowType::Int64, false).with_extension_type(RowNumber);
        let options = ArrowReaderOptions::new().with_virtual_columns(vec![Arc::new(position)]);
        let numbered = ArrowReaderMetadata::try_new(file.clone(), options.map_err(|e| e.to_string())?);
        let numbered = numbered.map_err(|e| e.to_string())?;
        let fields = plain.schema().fields();
        let names: Vec<&str> = fields.iter().rev().take(3).rev().map(|field| field.name().as_str()).collect();
        if names != [SEQ_COLUMN, DELETED_COLUMN, CREATED_COLUMN] {
            return Err(format!("its last columns are {names:?}"));
        }
        let mut column_ids = Vec::with_capacity(fields.len() - 3);
        for field in &fields[..fields.len() - 3] {
            let id = field.metadata().get(PARQUET_FIELD_ID_META_KEY).and_then(|id| id.parse().ok());
            column_ids.push(id.ok_or_else(|| format!("its column {} has no id", field.name()))?);
        }
        let seq_pages = SeqPages::of(&file, column_ids.len()).ok_or("it has no page index")?;
        Ok(Self { plain, numbered, label, column_ids, seq_pages })
    }

    /// Is this the file that `meta` describes? What is wrong as the error.
    pub fn check(&self, table: TableId, owner: &Owner, meta: &SegmentMeta) -> Result<(), String> {
        let label = &self.label;
        if label.table != table {
            return Err(format!("it holds rows of table {} ({}), not of {table}", label.table_name, label.table));
        }
        if label.owner != owner.as_str() {
            return Err(format!("it holds rows of another owner than {owner}"));
        }
        let rows = self.file().file_metadata().num_rows();
        if rows != i64::from(meta.rows) || (label.first_seq, label.last_seq) != (meta.first_seq, meta.last_seq) {
            return Err(format!(
                "it holds {rows} rows, {} to {}; the manifest says {}, {} to {}",
                label.first_seq, label.last_seq, meta.rows, meta.first_seq, meta.last_seq
            ));
        }
        Ok(())
    }

    pub fn file(&self) -> &Arc<ParquetMetaData> {
        self.plain.metadata()
    }

    /// [`Footer::plain`] with these columns of texts as keys into dictionaries. `columns`: positions in the file.
    pub(super) fn with_dictionaries(&self, columns: &[usize]) -> Result<ArrowReaderMetadata, ParquetError> {
        let fields = self.plain.schema().fields().iter().enumerate().map(|(position, field)| {
            let field = field.as_ref().clone();
            if columns.contains(&position) { field.with_data_type(dictionary_of_texts()) } else { field }
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        ArrowReaderMetadata::try_new(self.file().clone(), ArrowReaderOptions::new().with_schema(schema))
    }

    /// Are all values of this column of the file keys into dictionaries of texts?
    pub(super) fn is_dictionary_of_texts(&self, column: usize) -> bool {
        let texts = *self.plain.schema().field(column).data_type() == ArrowType::Utf8;
        texts && self.file().row_groups().iter().all(|group| only_keys(group.column(column)))
    }

    /// The file's position of a column of the table.
    pub fn column(&self, id: u32) -> Option<usize> {
        self.column_ids.iter().position(|other| *other == id)
    }

    pub fn seq_column(&self) -> usize {
        self.column_ids.len()
    }

    pub fn deleted_column(&self) -> usize {
        self.column_ids.len() + 1
    }

    pub fn created_column(&self) -> usize {
        self.column_ids.len() + 2
    }

    pub fn columns(&self) -> usize {
        self.column_ids.len() + 3
    }

    /// The rows of each row group, by their positions in the file.
    pub fn row_groups(&self) -> Vec<Range<u32>> {
        let mut groups = Vec::with_capacity(self.file().num_row_groups());
        let mut start = 0;
        for group in self.file().row_groups() {
            let end = start + u32::try_from(group.num_rows()).unwrap_or(0);
            groups.push(start..end);
            start = end;
        }
        groups
    }

    /// Bytes in memory, about.
    pub fn size(&self) -> usize {
        self.file().memory_size() + self.seq_pages.starts.len() * 20 + self.columns() * 200
    }
}

/// What a column of texts is read as where it is to come as a dictionary.
pub fn dictionary_of_texts() -> ArrowType {
    ArrowType::Dictionary(Box::new(ArrowType::Int32), Box::new(ArrowType::Utf8))
}

/// A writer gives a dictionary up when it grows too large, and writes plain values from then on.
fn only_keys(chunk: &ColumnChunkMetaData) -> bool {
    let dictionaries = [Encoding::PLAIN_DICTIONARY, Encoding::RLE_DICTIONARY];
    let encodings = chunk.page_encoding_stats_mask();
    encodings.is_some_and(|of_pages| dictionaries.iter().any(|encoding| of_pages.is_only(*encoding)))
}

impl SeqPages {
    fn of(file: &ParquetMetaData, column: usize) -> Option<Self> {
        let (indexes, offsets) = (file.column_index()?, file.offset_index()?);
        let mut pages = Self::default();
        let mut before = 0;
        for (group, rows) in file.row_groups().iter().enumerate() {
            let ColumnIndexMetaData::INT64(index) = indexes.get(group)?.get(column)? else { return None };
            let locations = offsets.get(group)?.get(column)?.page_locations();
            pages.mins.extend_from_slice(index.min_values());
            pages.maxes.extend_from_slice(index.max_values());
            for page in locations {
                pages.starts.push(u32::try_from(before + page.first_row_index).ok()?);
            }
            before += rows.num_rows();
        }
        let sound = pages.starts.len() == pages.mins.len() && pages.starts.len() == pages.maxes.len();
        sound.then_some(pages)
    }
}
