//! The way back: cells of Arrow columns, and rows made of them in the one encoding.
//!
//! Owns how a cell is read out of an Arrow array of a column's type, without copying it.
//! Never knows where the arrays come from.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    FixedSizeListArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Float32Type;
use bytes::Bytes;

use super::{CellBuilder, put_cell};
use crate::error::{Error, Result};
use crate::model::{DataType, RowBytes, TableMeta, Value, ValueRef};
use crate::storage::varint;

// Vectors are handed on as the bytes they stand in.
#[cfg(target_endian = "big")]
compile_error!("cells of vectors are read as little-endian bytes");

/// The cells of one column.
pub(crate) enum ArrowCells<'a> {
    Bool(&'a BooleanArray),
    I16(&'a Int16Array),
    I32(&'a Int32Array),
    I64(&'a Int64Array),
    F32(&'a Float32Array),
    F64(&'a Float64Array),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Timestamp(&'a TimestampMicrosecondArray),
    Uuid(&'a FixedSizeBinaryArray),
    Decimal(&'a Decimal128Array),
    Vector { lists: &'a FixedSizeListArray, floats: &'a [u8], width: usize },
}

impl<'a> ArrowCells<'a> {
    /// `None` where the array is not of the Arrow type of a column of type `ty`.
    pub fn new(ty: DataType, array: &'a dyn Array) -> Option<Self> {
        if *array.data_type() != ty.arrow() {
            return None;
        }
        Some(match ty {
            DataType::Boolean => Self::Bool(array.as_boolean_opt()?),
            DataType::SmallInt => Self::I16(array.as_primitive_opt()?),
            DataType::Int => Self::I32(array.as_primitive_opt()?),
            DataType::BigInt => Self::I64(array.as_primitive_opt()?),
            DataType::Float => Self::F32(array.as_primitive_opt()?),
            DataType::Double => Self::F64(array.as_primitive_opt()?),
            DataType::Text | DataType::Json | DataType::File => Self::Text(array.as_string_opt()?),
            DataType::Bytes => Self::Bytes(array.as_binary_opt()?),
            DataType::Date => Self::Date(array.as_primitive_opt()?),
            DataType::Time => Self::Time(array.as_primitive_opt()?),
            DataType::Timestamp | DataType::DateTime => Self::Timestamp(array.as_primitive_opt()?),
            DataType::Uuid => Self::Uuid(array.as_fixed_size_binary_opt()?),
            DataType::Decimal { .. } => Self::Decimal(array.as_primitive_opt()?),
            DataType::Embedding(n) => {
                let lists = array.as_fixed_size_list_opt()?;
                let floats = lists.values().as_primitive_opt::<Float32Type>()?.values().inner().as_slice();
                Self::Vector { lists, floats, width: n as usize * 4 }
            }
        })
    }

    /// The cell of row `i`, which the array has.
    pub fn get(&self, i: usize) -> ValueRef<'a> {
        if self.array().is_null(i) {
            return ValueRef::Null;
        }
        match self {
            Self::Bool(a) => ValueRef::Bool(a.value(i)),
            Self::I16(a) => ValueRef::Int(i64::from(a.value(i))),
            Self::I32(a) => ValueRef::Int(i64::from(a.value(i))),
            Self::I64(a) => ValueRef::Int(a.value(i)),
            Self::F32(a) => ValueRef::Float(f64::from(a.value(i))),
            Self::F64(a) => ValueRef::Float(a.value(i)),
            Self::Text(a) => ValueRef::Text(a.value(i)),
            Self::Bytes(a) => ValueRef::Bytes(a.value(i)),
            Self::Date(a) => ValueRef::Int(i64::from(a.value(i))),
            Self::Time(a) => ValueRef::Int(a.value(i)),
            Self::Timestamp(a) => ValueRef::Int(a.value(i)),
            // Sixteen bytes wide: `new` checked the type.
            Self::Uuid(a) => a.value(i).try_into().map_or(ValueRef::Null, ValueRef::Uuid),
            Self::Decimal(a) => ValueRef::Decimal(a.value(i)),
            Self::Vector { floats, width, .. } => ValueRef::Vector(&floats[i * width..(i + 1) * width]),
        }
    }

    fn array(&self) -> &'a dyn Array {
        match self {
            Self::Bool(a) => *a,
            Self::I16(a) => *a,
            Self::I32(a) => *a,
            Self::I64(a) => *a,
            Self::F32(a) => *a,
            Self::F64(a) => *a,
            Self::Text(a) => *a,
            Self::Bytes(a) => *a,
            Self::Date(a) => *a,
            Self::Time(a) => *a,
            Self::Timestamp(a) => *a,
            Self::Uuid(a) => *a,
            Self::Decimal(a) => *a,
            Self::Vector { lists, .. } => *lists,
        }
    }
}

/// The rows of a batch whose first columns are those of `table`, encoded as [`super::encode`] does.
///
/// They share one buffer: keep few of many, and all stay in memory.
///
/// # Errors
/// `INTERNAL` where the batch's columns are not the table's.
pub(crate) fn encode_rows(table: &TableMeta, batch: &RecordBatch) -> Result<Vec<RowBytes>> {
    let mut columns = Vec::with_capacity(table.columns.len());
    for (column, array) in table.columns.iter().zip(batch.columns()) {
        let cells = ArrowCells::new(column.data_type, array.as_ref());
        let cells = cells.ok_or_else(|| Error::internal(format!("column {} has another type", column.name)))?;
        columns.push((column.data_type, cells));
    }
    let mut out = Vec::new();
    let mut ends = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        varint::put(&mut out, u64::from(table.schema_version));
        let bitmap = out.len();
        out.resize(bitmap + columns.len().div_ceil(8), 0);
        for (i, (ty, cells)) in columns.iter().enumerate() {
            match cells.get(row) {
                ValueRef::Null => out[bitmap + i / 8] |= 1 << (i % 8),
                cell => put_cell(&mut out, *ty, cell),
            }
        }
        ends.push(out.len());
    }
    let buffer = Bytes::from(out);
    let starts = std::iter::once(0).chain(ends.iter().copied());
    Ok(starts.zip(&ends).map(|(start, end)| RowBytes(buffer.slice(start..*end))).collect())
}

/// A column of `rows` times the same value, which fits type `ty`.
///
/// # Errors
/// `INTERNAL` where it does not.
pub(crate) fn repeat(ty: DataType, value: &Value, rows: usize) -> Result<ArrayRef> {
    let vector: Vec<u8>;
    let cell = match value {
        Value::Vector(v) => {
            vector = v.iter().flat_map(|x| x.to_le_bytes()).collect();
            ValueRef::Vector(&vector)
        }
        value => value.as_cell(),
    };
    let mut builder = CellBuilder::new(ty);
    for _ in 0..rows {
        builder.push(cell).ok_or_else(|| Error::internal(format!("{value:?} is no value of type {ty}")))?;
    }
    Ok(builder.finish())
}
