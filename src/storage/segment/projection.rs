//! From a file's columns to the table's columns of today.
//!
//! Owns the match by column id: a renamed column is found, a changed type converted, a column that the file has not filled
//! with what rows from before it have there. Which rows are read is not decided here.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType as ArrowType, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicate, ArrowPredicateFn};

use super::footer::{Footer, dictionary_of_texts};
use crate::error::{Error, Result};
use crate::model::{ColumnDefault, ColumnMeta, DataType, TableMeta, Value};
use crate::storage::row_codec::repeat;

/// True for the rows that are wanted. An error ends the scan as it is.
pub type Evaluate = Arc<dyn Fn(&RecordBatch) -> Result<BooleanArray> + Send + Sync>;

/// Which rows a reader wants, by their values.
#[derive(Clone)]
pub struct RowPredicate {
    /// Positions in [`TableMeta::arrow_schema`] of the columns that it is asked with, in this order.
    pub columns: Vec<usize>,
    pub evaluate: Evaluate,
}

impl std::fmt::Debug for RowPredicate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RowPredicate({:?})", self.columns)
    }
}

/// Columns of [`TableMeta::arrow_schema`] out of one file.
#[derive(Clone)]
pub(super) struct Projection {
    pub mask: ProjectionMask,
    schema: SchemaRef,
    sources: Vec<Source>,
    /// Where `_created` stands among what is read, if it was asked for.
    pub created: Option<usize>,
    /// Columns that are read; row positions stand behind them.
    pub width: usize,
}

#[derive(Clone)]
enum Source {
    /// The column at this place among those read.
    Read(usize),
    /// The same, of another type than today.
    Convert(usize, ArrowType),
    /// No column of the file.
    Constant(DataType, Value),
}

impl Projection {
    /// `positions`: in [`TableMeta::arrow_schema`], in output order.
    ///
    /// # Errors
    /// `INTERNAL` where there is no such column.
    pub fn new(table: &TableMeta, footer: &Footer, positions: &[usize], created: bool) -> Result<Self> {
        let full = table.arrow_schema();
        let schema = Arc::new(full.project(positions).map_err(Error::internal)?);
        let in_file = |position: usize| match table.columns.get(position) {
            Some(column) => footer.column(column.id),
            None if position == table.columns.len() => Some(footer.seq_column()),
            None => Some(footer.deleted_column()),
        };
        let mut read: Vec<usize> = positions.iter().filter_map(|position| in_file(*position)).collect();
        read.extend(created.then(|| footer.created_column()));
        read.sort_unstable();
        read.dedup();
        let place = |column: usize| read.partition_point(|other| *other < column);
        let mut sources = Vec::with_capacity(positions.len());
        for position in positions {
            sources.push(match (in_file(*position), table.columns.get(*position)) {
                (Some(column), _) => {
                    let wanted = full.field(*position).data_type();
                    let same = footer.plain.schema().field(column).data_type() == wanted;
                    if same { Source::Read(place(column)) } else { Source::Convert(place(column), wanted.clone()) }
                }
                (None, Some(column)) => Source::Constant(column.data_type, missing_value(column)),
                (None, None) => return Err(Error::internal(format!("there is no column {position}"))),
            });
        }
        let mask = ProjectionMask::roots(footer.file().file_metadata().schema_descr(), read.iter().copied());
        let created = created.then(|| place(footer.created_column()));
        Ok(Self { mask, schema, sources, created, width: read.len() })
    }

    /// Of the columns that are asked for, by their positions in the output and their ids, those that the file has as
    /// dictionaries of texts will come as such. Their positions in the file.
    pub fn keep_dictionaries(&mut self, footer: &Footer, asked: &[(usize, u32)]) -> Vec<usize> {
        let mut fields: Vec<FieldRef> = self.schema.fields().iter().cloned().collect();
        let mut kept = Vec::with_capacity(asked.len());
        for (output, id) in asked {
            let as_it_is = matches!(self.sources[*output], Source::Read(_));
            let column = footer.column(*id).filter(|column| as_it_is && footer.is_dictionary_of_texts(*column));
            if let Some(column) = column {
                fields[*output] = Arc::new(fields[*output].as_ref().clone().with_data_type(dictionary_of_texts()));
                kept.push(column);
            }
        }
        if !kept.is_empty() {
            self.schema = Arc::new(Schema::new(fields));
        }
        kept
    }

    /// What was read, as columns of today.
    ///
    /// # Errors
    /// `INTERNAL` where a value can not be what it should be today.
    pub fn adapt(&self, read: &RecordBatch) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            columns.push(match source {
                Source::Read(place) => read.column(*place).clone(),
                Source::Convert(place, to) => {
                    let strict = CastOptions { safe: false, ..CastOptions::default() };
                    cast_with_options(read.column(*place), to, &strict).map_err(Error::internal)?
                }
                Source::Constant(ty, value) => repeat(*ty, value, read.num_rows())?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(read.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(Error::internal)
    }

    /// A predicate on this projection, for Parquet's reader.
    pub fn predicate(self, predicate: &RowPredicate) -> Box<dyn ArrowPredicate> {
        let evaluate = predicate.evaluate.clone();
        let mask = self.mask.clone();
        Box::new(ArrowPredicateFn::new(mask, move |read| {
            let wanted = self.adapt(&read).and_then(|batch| evaluate(&batch));
            wanted.map_err(|e| ArrowError::ExternalError(Box::new(e)))
        }))
    }
}

/// What rows from before a column hold in it.
fn missing_value(column: &ColumnMeta) -> Value {
    match &column.default {
        Some(ColumnDefault::Literal(literal)) => Value::from_literal(literal, column.data_type).unwrap_or(Value::Null),
        _ => Value::Null,
    }
}
