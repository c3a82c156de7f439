//! Which columns of a STREAM table hold a stream: `stream` its key, `data` what is appended.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::model::{DataType, RowBytes, TableMeta, Value};
use crate::storage::row_codec;
use crate::streams::content_type;

const KEY: &str = "stream";
const DATA: &str = "data";

/// A table that serves streams.
#[derive(Debug, Clone)]
pub(super) struct StreamShape {
    pub(super) table: Arc<TableMeta>,
    /// Positions in its columns.
    key: usize,
    data: usize,
}

impl StreamShape {
    /// # Errors
    /// `INVALID_INPUT`, with a table that would do.
    pub(super) fn of(table: &Arc<TableMeta>) -> Result<Self> {
        let column = |name: &str, types: &[DataType]| {
            let fits = |c: &crate::model::ColumnMeta| c.name.as_str() == name && types.contains(&c.data_type);
            table.columns.iter().position(fits)
        };
        let filled = |(at, c): (usize, &crate::model::ColumnMeta), named: [usize; 2]| {
            named.contains(&at) || c.nullable || c.default.is_some()
        };
        let columns = column(KEY, &[DataType::Text])
            .zip(column(DATA, &[DataType::Bytes, DataType::Text, DataType::Json]))
            .filter(|(key, data)| table.columns.iter().enumerate().all(|c| filled(c, [*key, *data])));
        match columns.filter(|_| table.is_stream()) {
            Some((key, data)) => Ok(Self { table: table.clone(), key, data }),
            None => Err(Error::InvalidInput(format!(
                "{} serves no streams. One that does: CREATE STREAM TABLE {} (stream TEXT NOT NULL, data BYTES NOT NULL) WITH \
                 (TTL_SECONDS = 86400); data may be TEXT or JSON for streams of such, and further columns need a default",
                table.name, table.name
            ))),
        }
    }

    /// Can its rows hold this?
    ///
    /// # Errors
    /// `INVALID_INPUT`.
    pub(super) fn check_content_type(&self, given: &str) -> Result<()> {
        let fits = match self.table.columns[self.data].data_type {
            DataType::Json => content_type::is_json(given),
            DataType::Text => content_type::is_text(given),
            _ => true,
        };
        if fits {
            return Ok(());
        }
        let (table, column) = (&self.table.name, &self.table.columns[self.data]);
        Err(Error::InvalidInput(format!(
            "Column {} of {table} is of type {}, which can not hold {given}; make it BYTES",
            column.name, column.data_type
        )))
    }

    /// Positions of the columns of [`StreamShape::rows`].
    pub(super) fn columns(&self) -> [usize; 2] {
        [self.key, self.data]
    }

    /// A row of each message.
    ///
    /// # Errors
    /// `INVALID_INPUT` where one is no UTF-8 and the column is of a text type.
    pub(super) fn rows(&self, key: &str, messages: &[Bytes]) -> Result<RecordBatch> {
        let keys: ArrayRef = Arc::new(StringArray::from(vec![key; messages.len()]));
        let (ty, data): (ArrowType, ArrayRef) = match self.table.columns[self.data].data_type {
            DataType::Bytes => {
                (ArrowType::Binary, Arc::new(BinaryArray::from_iter_values(messages.iter().map(Bytes::as_ref))))
            }
            _ => {
                let texts = messages.iter().map(|message| std::str::from_utf8(message));
                let texts = texts.collect::<Result<Vec<&str>, _>>().map_err(|_| {
                    Error::InvalidInput(format!("{} holds text, and the body is no UTF-8", self.table.name))
                })?;
                (ArrowType::Utf8, Arc::new(StringArray::from(texts)))
            }
        };
        let fields = vec![Field::new(KEY, ArrowType::Utf8, false), Field::new(DATA, ty, false)];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![keys, data]).map_err(Error::internal)
    }

    /// What a row of the stream `key` holds; `None`: it is another's.
    ///
    /// # Errors
    /// `INTERNAL`, `TABLE_ALTERED`.
    pub(super) fn message(&self, row: &RowBytes, key: &str) -> Result<Option<Vec<u8>>> {
        let mut values = row_codec::decode(&self.table, row)?;
        if !matches!(&values[self.key], Value::Text(text) if text == key) {
            return Ok(None);
        }
        Ok(Some(match values.swap_remove(self.data) {
            Value::Bytes(bytes) => bytes,
            Value::Text(text) => text.into_bytes(),
            // Written with SQL: an empty message.
            _ => Vec::new(),
        }))
    }
}
