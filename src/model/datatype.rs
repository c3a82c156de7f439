//! The column types of `CREATE TABLE`, and the Arrow type each is computed with.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field, TimeUnit};
use serde::{Deserialize, Serialize};

/// In a field's metadata: what kind of text it is.
const KIND: &str = "inboxdb.kind";
const JSON: &str = "json";

/// A column's type. Its serde form is the `data_type` of the wire (`"BigInt"`, `{"Embedding":384}`, …).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DataType {
    Boolean,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    Text,
    Bytes,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since the Unix epoch, no zone.
    Timestamp,
    /// Microseconds since the Unix epoch, UTC.
    DateTime,
    Uuid,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Json,
    File,
    /// A vector of this many 32-bit floats.
    Embedding(u32),
}

impl DataType {
    pub const EMBEDDING_MAX: u32 = 8192;
    pub const DECIMAL_PRECISION_MAX: u8 = 38;

    /// The Arrow type in which DataFusion sees such a column.
    pub fn arrow(self) -> ArrowType {
        match self {
            DataType::Boolean => ArrowType::Boolean,
            DataType::SmallInt => ArrowType::Int16,
            DataType::Int => ArrowType::Int32,
            DataType::BigInt => ArrowType::Int64,
            DataType::Float => ArrowType::Float32,
            DataType::Double => ArrowType::Float64,
            DataType::Text | DataType::Json | DataType::File => ArrowType::Utf8,
            DataType::Bytes => ArrowType::Binary,
            DataType::Date => ArrowType::Date32,
            DataType::Time => ArrowType::Time64(TimeUnit::Microsecond),
            DataType::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, None),
            DataType::DateTime => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Uuid => ArrowType::FixedSizeBinary(16),
            DataType::Decimal { precision, scale } => ArrowType::Decimal128(precision, scale),
            DataType::Embedding(n) => ArrowType::FixedSizeList(
                Arc::new(Field::new("item", ArrowType::Float32, false)),
                i32::try_from(n.min(Self::EMBEDDING_MAX)).unwrap_or(i32::MAX),
            ),
        }
    }

    /// The type that a computed column of this Arrow type is shown as: `Text` where ours has no such type.
    pub fn of_arrow(arrow: &ArrowType) -> DataType {
        match arrow {
            ArrowType::Boolean => DataType::Boolean,
            ArrowType::Int8 | ArrowType::Int16 | ArrowType::UInt8 => DataType::SmallInt,
            ArrowType::Int32 | ArrowType::UInt16 => DataType::Int,
            ArrowType::Int64 | ArrowType::UInt32 | ArrowType::UInt64 => DataType::BigInt,
            ArrowType::Float16 | ArrowType::Float32 => DataType::Float,
            ArrowType::Float64 => DataType::Double,
            ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView => DataType::Bytes,
            ArrowType::FixedSizeBinary(16) => DataType::Uuid,
            ArrowType::FixedSizeBinary(_) => DataType::Bytes,
            ArrowType::Date32 | ArrowType::Date64 => DataType::Date,
            ArrowType::Time32(_) | ArrowType::Time64(_) => DataType::Time,
            ArrowType::Timestamp(_, None) => DataType::Timestamp,
            ArrowType::Timestamp(_, Some(_)) => DataType::DateTime,
            ArrowType::Decimal128(precision, scale) | ArrowType::Decimal256(precision, scale) => {
                DataType::Decimal { precision: *precision, scale: *scale }
            }
            ArrowType::FixedSizeList(item, n) if *item.data_type() == ArrowType::Float32 && *n > 0 => {
                DataType::Embedding(n.unsigned_abs())
            }
            _ => DataType::Text,
        }
    }

    /// A column of an answer. What Arrow has no type for stands beside it, so that [`DataType::of_field`] finds it again.
    pub fn field(self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow(), nullable);
        if self != DataType::Json {
            return field;
        }
        field.with_metadata(HashMap::from([(KIND.to_owned(), JSON.to_owned())]))
    }

    /// The type that a computed column is shown as.
    pub fn of_field(field: &Field) -> DataType {
        let is_json = field.metadata().get(KIND).is_some_and(|kind| kind == JSON);
        match Self::of_arrow(field.data_type()) {
            DataType::Text if is_json => DataType::Json,
            data_type => data_type,
        }
    }

    /// May such a column be a primary key: it has an order and equality is exact.
    pub fn can_be_key(self) -> bool {
        !matches!(self, DataType::Json | DataType::File | DataType::Embedding(_))
    }

    /// Does `NULL` aside every value take the same number of bytes? Then that number.
    pub fn fixed_width(self) -> Option<usize> {
        match self {
            DataType::Boolean => Some(1),
            DataType::SmallInt => Some(2),
            DataType::Int | DataType::Float | DataType::Date => Some(4),
            DataType::BigInt | DataType::Double | DataType::Time | DataType::Timestamp | DataType::DateTime => Some(8),
            DataType::Uuid | DataType::Decimal { .. } => Some(16),
            DataType::Embedding(n) => Some(n as usize * 4),
            DataType::Text | DataType::Bytes | DataType::Json | DataType::File => None,
        }
    }
}

/// The type's SQL name, as `DESCRIBE TABLE` prints it.
impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Boolean => f.write_str("BOOLEAN"),
            DataType::SmallInt => f.write_str("SMALLINT"),
            DataType::Int => f.write_str("INT"),
            DataType::BigInt => f.write_str("BIGINT"),
            DataType::Float => f.write_str("FLOAT"),
            DataType::Double => f.write_str("DOUBLE"),
            DataType::Text => f.write_str("TEXT"),
            DataType::Bytes => f.write_str("BYTES"),
            DataType::Date => f.write_str("DATE"),
            DataType::Time => f.write_str("TIME"),
            DataType::Timestamp => f.write_str("TIMESTAMP"),
            DataType::DateTime => f.write_str("DATETIME"),
            DataType::Uuid => f.write_str("UUID"),
            DataType::Decimal { precision, scale } => write!(f, "DECIMAL({precision},{scale})"),
            DataType::Json => f.write_str("JSON"),
            DataType::File => f.write_str("FILE"),
            DataType::Embedding(n) => write!(f, "EMBEDDING({n})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_keeps_its_type() {
        for data_type in [DataType::Json, DataType::Text, DataType::BigInt, DataType::Timestamp] {
            assert_eq!(DataType::of_field(&data_type.field("a", true)), data_type);
        }
        // A name says nothing of what was computed of it.
        let computed = DataType::Json.field("a", true).with_data_type(ArrowType::Int32);
        assert_eq!(DataType::of_field(&computed), DataType::Int);
    }
}
