//! What a segment's columns hold: least and greatest value, and how many NULLs.
//!
//! Owns the JSON form of these. They are bounds: every value lies between them, though a text's bound may be a prefix
//! (rounded down) or its successor (rounded up) rather than a value that is there.

use std::cmp::Ordering;

use arrow::array::Array;
use arrow::datatypes::{Decimal128Type, DecimalType, Schema};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::model::{DataType, Value};
use crate::storage::row_codec::ArrowCells;

/// The longest bound of a TEXT or BYTES column. A longer greatest value that nothing short is above has no bound.
pub const BOUND_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct ColumnStats {
    pub data_type: DataType,
    /// No value is below it. `None` where there is no value, or none that is kept.
    pub min: Option<Value>,
    /// No value is above it.
    pub max: Option<Value>,
    pub nulls: u64,
}

/// The JSON form. What a reader's floats or 53-bit integers could move is text.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(rename = "type")]
    data_type: DataType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<Json>,
    nulls: u64,
}

impl From<ColumnStats> for Written {
    fn from(stats: ColumnStats) -> Self {
        let ty = stats.data_type;
        let written = |value: Option<Value>| value.and_then(|value| to_json(ty, &value));
        Self { data_type: ty, min: written(stats.min), max: written(stats.max), nulls: stats.nulls }
    }
}

impl TryFrom<Written> for ColumnStats {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let ty = written.data_type;
        let read = |json: Option<Json>| match json {
            None => Ok(None),
            Some(json) => {
                from_json(ty, &json).map(Some).ok_or_else(|| format!("{json} is no bound of a column of type {ty}"))
            }
        };
        Ok(Self { data_type: ty, min: read(written.min)?, max: read(written.max)?, nulls: written.nulls })
    }
}

fn to_json(ty: DataType, value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null | Value::Vector(_) => return None,
        Value::Bool(v) => Json::from(*v),
        Value::Int(v) => match ty {
            DataType::SmallInt | DataType::Int | DataType::Date => Json::from(*v),
            _ => Json::from(v.to_string()),
        },
        Value::Float(v) => Json::from(v.to_string()),
        Value::Text(v) => Json::from(v.as_str()),
        Value::Bytes(v) => Json::from(BASE64.encode(v)),
        Value::Uuid(v) => Json::from(uuid::Uuid::from_bytes(*v).to_string()),
        Value::Decimal(v) => match ty {
            DataType::Decimal { precision, scale } => {
                Json::from(<Decimal128Type as DecimalType>::format_decimal(*v, precision, scale))
            }
            _ => return None,
        },
    })
}

fn from_json(ty: DataType, json: &Json) -> Option<Value> {
    let value = match ty {
        DataType::Boolean => Value::Bool(json.as_bool()?),
        DataType::SmallInt | DataType::Int | DataType::Date => Value::Int(json.as_i64()?),
        DataType::BigInt | DataType::Time | DataType::Timestamp | DataType::DateTime => {
            Value::Int(json.as_str()?.parse().ok()?)
        }
        DataType::Float | DataType::Double => Value::Float(json.as_str()?.parse().ok()?),
        DataType::Text => Value::Text(json.as_str()?.to_owned()),
        DataType::Bytes => Value::Bytes(BASE64.decode(json.as_str()?).ok()?),
        DataType::Uuid => Value::Uuid(*uuid::Uuid::parse_str(json.as_str()?).ok()?.as_bytes()),
        DataType::Decimal { scale, .. } => Value::Decimal(parse_unscaled(json.as_str()?, scale)?),
        DataType::Json | DataType::File | DataType::Embedding(_) => return None,
    };
    value.fits(ty).then_some(value)
}

/// The inverse of Arrow's `format_decimal`, which writes as many fraction digits as the scale, or zeros in place of a
/// negative one. A stored decimal may be beyond its precision's digits, so that the literals' parser would refuse it.
fn parse_unscaled(text: &str, scale: i8) -> Option<i128> {
    let digits: String = text.chars().filter(|c| *c != '.').collect();
    let value: i128 = digits.parse().ok()?;
    match u32::try_from(scale) {
        Ok(scale) => {
            let fraction = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            let missing = scale.checked_sub(u32::try_from(fraction).ok()?)?;
            value.checked_mul(10i128.checked_pow(missing)?)
        }
        Err(_) => Some(value / 10i128.checked_pow(u32::from(scale.unsigned_abs()))?),
    }
}

/// Are the bounds of such a column kept? Of the others only the NULLs are counted.
fn has_order(ty: DataType) -> bool {
    !matches!(ty, DataType::Json | DataType::File | DataType::Embedding(_))
}

/// How two values of one column compare; NULL is below all.
pub(crate) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (a, b) => b.is_null().cmp(&a.is_null()),
    }
}

/// The bounds of one of the file's columns, over all row groups: from the statistics that the writer made while it wrote.
pub(super) fn column_stats(
    ty: DataType,
    nulls: u64,
    file: &ParquetMetaData,
    schema: &Schema,
    column: usize,
) -> ColumnStats {
    let mut stats = ColumnStats { data_type: ty, min: None, max: None, nulls };
    if has_order(ty)
        && let Some((min, max)) = bounds(ty, file, schema, column)
    {
        let short = |value: &Value| match value {
            Value::Text(text) => text.len() <= BOUND_MAX,
            Value::Bytes(bytes) => bytes.len() <= BOUND_MAX,
            value => !value.is_null(),
        };
        (stats.min, stats.max) = (Some(min).filter(short), Some(max).filter(short));
    }
    stats
}

/// `None` where a row group with values has no statistics.
fn bounds(ty: DataType, file: &ParquetMetaData, schema: &Schema, column: usize) -> Option<(Value, Value)> {
    let descriptor = file.file_metadata().schema_descr();
    // Every column of ours has one Parquet leaf, vectors too.
    let converter = StatisticsConverter::from_column_index(column, schema.field(column), descriptor).ok()?;
    let mins = converter.row_group_mins(file.row_groups()).ok()?;
    let maxes = converter.row_group_maxes(file.row_groups()).ok()?;
    let nulls = converter.row_group_null_counts(file.row_groups()).ok()?;
    let (mins, maxes) = (ArrowCells::new(ty, mins.as_ref())?, ArrowCells::new(ty, maxes.as_ref())?);
    let mut found: Option<(Value, Value)> = None;
    for (i, group) in file.row_groups().iter().enumerate() {
        if nulls.is_valid(i) && i64::try_from(nulls.value(i)) == Ok(group.num_rows()) {
            continue;
        }
        let (min, max) = (mins.get(i).to_owned(), maxes.get(i).to_owned());
        if min.is_null() || max.is_null() {
            return None;
        }
        found = Some(match found {
            None => (min, max),
            Some((least, greatest)) => (
                if compare(&min, &least).is_lt() { min } else { least },
                if compare(&max, &greatest).is_gt() { max } else { greatest },
            ),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::row_codec::tests::value_of;

    fn ordered_type() -> impl Strategy<Value = DataType> {
        prop_oneof![
            Just(DataType::Boolean),
            Just(DataType::SmallInt),
            Just(DataType::Int),
            Just(DataType::BigInt),
            Just(DataType::Float),
            Just(DataType::Double),
            Just(DataType::Text),
            Just(DataType::Bytes),
            Just(DataType::Date),
            Just(DataType::Time),
            Just(DataType::DateTime),
            Just(DataType::Uuid),
            Just(DataType::Decimal { precision: 20, scale: 3 }),
            Just(DataType::Decimal { precision: 38, scale: 0 }),
        ]
    }

    proptest! {
        #[test]
        fn come_back_from_json_exactly(
            (data_type, min, max) in ordered_type().prop_flat_map(|ty| (Just(ty), value_of(ty), value_of(ty))),
            nulls in any::<u32>(),
        ) {
            let stats = ColumnStats { data_type, min: Some(min), max: Some(max), nulls: nulls.into() };
            let json = serde_json::to_string(&stats).unwrap();
            prop_assert_eq!(serde_json::from_str::<ColumnStats>(&json).unwrap(), stats, "{}", json);
        }
    }

    #[test]
    fn say_what_they_are() {
        let stats = |data_type, min, max| ColumnStats { data_type, min: Some(min), max: Some(max), nulls: 1 };
        let json = |stats: ColumnStats| serde_json::to_string(&stats).unwrap();
        assert_eq!(
            json(stats(DataType::BigInt, Value::Int(-1), Value::Int(i64::MAX))),
            r#"{"type":"BigInt","min":"-1","max":"9223372036854775807","nulls":1}"#
        );
        assert_eq!(
            json(stats(DataType::Decimal { precision: 9, scale: 2 }, Value::Decimal(-150), Value::Decimal(7))),
            r#"{"type":{"Decimal":{"precision":9,"scale":2}},"min":"-1.50","max":"0.07","nulls":1}"#
        );
        let none = ColumnStats { data_type: DataType::Json, min: None, max: None, nulls: 3 };
        assert_eq!(json(none), r#"{"type":"Json","nulls":3}"#);
        for wrong in [
            r#"{"type":"Int","min":"a","nulls":0}"#,
            r#"{"type":"SmallInt","min":70000,"nulls":0}"#,
            r#"{"type":"Double","min":"NaN","nulls":0}"#,
            r#"{"type":"Json","min":"x","nulls":0}"#,
        ] {
            assert!(serde_json::from_str::<ColumnStats>(wrong).is_err(), "{wrong}");
        }
    }
}
