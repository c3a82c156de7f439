//! Cells of a computed column, one by one.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    FixedSizeListArray, Float64Array, Int64Array, ListArray, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType as ArrowType, Field, Float32Type, TimeUnit};

use super::given::Given;
use crate::error::{Error, Result};
use crate::model::DataType;
use crate::model::value::text::decimal_text;

/// A column of a batch, brought to one of few forms once.
pub(super) struct Cells {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Bool(BooleanArray),
    Int(Int64Array),
    Float(Float64Array),
    Decimal(Decimal128Array, DataType),
    Text(StringArray),
    Bytes(BinaryArray),
    Uuid(FixedSizeBinaryArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    Vector(FixedSizeListArray),
    List(ListArray),
}

impl Cells {
    /// # Errors
    /// `INVALID_SQL` where no column of a table could take such values.
    pub(super) fn new(array: &ArrayRef) -> Result<Cells> {
        let form = form_of(array.data_type())?;
        // Not `safe`: a value that overflows must fail, not become NULL.
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let array = cast_with_options(array, &form, &options).map_err(|e| Error::Execution(e.to_string()))?;
        let values = match form {
            ArrowType::Null => Values::Null,
            ArrowType::Boolean => Values::Bool(array.as_boolean().clone()),
            ArrowType::Int64 => Values::Int(array.as_primitive().clone()),
            ArrowType::Float64 => Values::Float(array.as_primitive().clone()),
            ArrowType::Decimal128(precision, scale) => {
                Values::Decimal(array.as_primitive().clone(), DataType::Decimal { precision, scale })
            }
            ArrowType::Utf8 => Values::Text(array.as_string().clone()),
            ArrowType::Binary => Values::Bytes(array.as_binary().clone()),
            ArrowType::FixedSizeBinary(_) => Values::Uuid(array.as_fixed_size_binary().clone()),
            ArrowType::Date32 => Values::Date(array.as_primitive().clone()),
            ArrowType::Time64(_) => Values::Time(array.as_primitive().clone()),
            ArrowType::Timestamp(..) => Values::Timestamp(array.as_primitive().clone()),
            ArrowType::FixedSizeList(..) => Values::Vector(array.as_fixed_size_list().clone()),
            ArrowType::List(_) => Values::List(array.as_list().clone()),
            other => return Err(no_column_takes(&other)),
        };
        Ok(Cells { nulls: array.logical_nulls(), values })
    }

    pub(super) fn get(&self, row: usize) -> Given<'_> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Given::Null;
        }
        match &self.values {
            Values::Null => Given::Null,
            Values::Bool(v) => Given::Bool(v.value(row)),
            Values::Int(v) => Given::Int(v.value(row)),
            Values::Float(v) => Given::Float(v.value(row)),
            Values::Decimal(v, ty) => Given::Number(Cow::Owned(decimal_text(v.value(row), *ty))),
            Values::Text(v) => Given::Text(Cow::Borrowed(v.value(row))),
            Values::Bytes(v) => Given::Bytes(Cow::Borrowed(v.value(row))),
            Values::Uuid(v) => Given::Uuid(v.value(row).try_into().unwrap_or_default()),
            Values::Date(v) => Given::Date(v.value(row)),
            Values::Time(v) => Given::Time(v.value(row)),
            Values::Timestamp(v) => Given::Timestamp(v.value(row)),
            Values::Vector(v) => Given::Vector(floats(&v.value(row))),
            Values::List(v) => Given::Vector(floats(&v.value(row))),
        }
    }
}

/// NULL among them becomes NaN, which no vector takes.
fn floats(elements: &ArrayRef) -> Vec<f32> {
    elements.as_primitive::<Float32Type>().iter().map(|v| v.unwrap_or(f32::NAN)).collect()
}

/// The form that values of this type are read in.
fn form_of(ty: &ArrowType) -> Result<ArrowType> {
    use ArrowType as A;
    let float_item = || Arc::new(Field::new("item", A::Float32, true));
    Ok(match ty {
        A::Null => A::Null,
        A::Boolean => A::Boolean,
        A::Int8 | A::Int16 | A::Int32 | A::Int64 | A::UInt8 | A::UInt16 | A::UInt32 => A::Int64,
        A::UInt64 => A::Decimal128(20, 0),
        A::Float16 | A::Float32 | A::Float64 => A::Float64,
        A::Decimal32(precision, scale) | A::Decimal64(precision, scale) | A::Decimal128(precision, scale) => {
            A::Decimal128(*precision, *scale)
        }
        A::Decimal256(_, scale) => A::Decimal128(DataType::DECIMAL_PRECISION_MAX, *scale),
        A::Utf8 | A::LargeUtf8 | A::Utf8View => A::Utf8,
        A::FixedSizeBinary(16) => A::FixedSizeBinary(16),
        A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => A::Binary,
        A::Date32 | A::Date64 => A::Date32,
        A::Time32(_) | A::Time64(_) => A::Time64(TimeUnit::Microsecond),
        // The zone says only how it is shown.
        A::Timestamp(_, zone) => A::Timestamp(TimeUnit::Microsecond, zone.clone()),
        A::Dictionary(_, values) => form_of(values)?,
        A::FixedSizeList(item, n) if is_number(item) => A::FixedSizeList(float_item(), *n),
        A::List(item) | A::LargeList(item) if is_number(item) => A::List(float_item()),
        other => return Err(no_column_takes(other)),
    })
}

fn is_number(item: &Field) -> bool {
    item.data_type().is_numeric() || *item.data_type() == ArrowType::Null
}

fn no_column_takes(ty: &ArrowType) -> Error {
    Error::InvalidSql(format!("A value of type {ty} cannot be stored in a column"))
}
