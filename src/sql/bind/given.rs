//! A value that has a meaning of its own before it meets a column: a literal, a parameter, a cell that a query computed.
//!
//! Owns what such a value becomes in a column of each type.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Days, NaiveDate, NaiveTime};

use crate::model::value::ConvertFault;
use crate::model::{DataType, Param, Value};

const DAY_US: i64 = 86_400_000_000;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// As it was written, or as exact as it was computed.
    Number(Cow<'a, str>),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Uuid([u8; 16]),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since the Unix epoch.
    Timestamp(i64),
    Vector(Vec<f32>),
}

impl<'a> Given<'a> {
    pub(crate) fn of_param(param: &'a Param) -> Given<'a> {
        match param {
            Param::Null => Given::Null,
            Param::Bool(v) => Given::Bool(*v),
            Param::Int(v) => Given::Int(*v),
            Param::Float(v) => Given::Float(*v),
            Param::Text(v) => Given::Text(Cow::Borrowed(v)),
        }
    }

    /// A value that was converted to `ty` already: the inner value of a cast.
    pub(crate) fn of_value(value: Value, ty: DataType) -> Given<'static> {
        match value {
            Value::Null => Given::Null,
            Value::Bool(v) => Given::Bool(v),
            Value::Int(v) => match ty {
                DataType::Date => Given::Date(i32::try_from(v).unwrap_or_default()),
                DataType::Time => Given::Time(v),
                DataType::Timestamp | DataType::DateTime => Given::Timestamp(v),
                _ => Given::Int(v),
            },
            Value::Float(v) => Given::Float(v),
            Value::Text(v) => Given::Text(Cow::Owned(v)),
            Value::Bytes(v) => Given::Bytes(Cow::Owned(v)),
            Value::Uuid(v) => Given::Uuid(v),
            Value::Decimal(v) => Given::Number(Cow::Owned(decimal_text(v, ty))),
            Value::Vector(v) => Given::Vector(v),
        }
    }

    /// # Errors
    /// A fault that says what was given and what a column of type `to` takes.
    pub(crate) fn into_value(self, to: DataType) -> Result<Value, ConvertFault> {
        match self {
            Given::Null => Ok(Value::Null),
            Given::Bool(v) => Value::from_bool(v, to),
            Given::Int(v) => Value::from_int(v, to),
            Given::Number(v) => Value::from_number(&v, to),
            Given::Float(v) => Value::from_double(v, to),
            Given::Text(v) => Value::from_text(v.into_owned(), to),
            Given::Bytes(v) if to == DataType::Bytes => Ok(Value::Bytes(v.into_owned())),
            Given::Uuid(v) if to == DataType::Uuid => Ok(Value::Uuid(v)),
            Given::Vector(v) => match to {
                DataType::Embedding(n) => Value::from_floats(v, n),
                _ => Value::from_text(vector_text(&v), to),
            },
            Given::Date(v) => match to {
                DataType::Date => Ok(Value::Int(i64::from(v))),
                DataType::Timestamp | DataType::DateTime => Ok(Value::Int(i64::from(v) * DAY_US)),
                _ => Value::from_text(date_text(v), to),
            },
            Given::Time(v) if to == DataType::Time => Ok(Value::Int(v)),
            Given::Timestamp(v) => match to {
                DataType::Timestamp | DataType::DateTime => Ok(Value::Int(v)),
                DataType::Date => Ok(Value::Int(v.div_euclid(DAY_US))),
                DataType::Time => Ok(Value::Int(v.rem_euclid(DAY_US))),
                _ => Value::from_text(timestamp_text(v), to),
            },
            Given::Bytes(v) => Value::from_text(BASE64.encode(v), to),
            Given::Uuid(v) => Value::from_text(uuid::Uuid::from_bytes(v).to_string(), to),
            Given::Time(v) => Value::from_text(time_text(v), to),
        }
    }
}

/// The digits of a decimal with its point.
pub(crate) fn decimal_text(unscaled: i128, ty: DataType) -> String {
    let DataType::Decimal { scale, .. } = ty else { return unscaled.to_string() };
    if scale <= 0 {
        return format!("{unscaled}{}", "0".repeat(usize::from(scale.unsigned_abs())));
    }
    let scale = usize::from(scale.unsigned_abs());
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if unscaled < 0 { "-" } else { "" })
}

fn vector_text(v: &[f32]) -> String {
    let numbers: Vec<String> = v.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

fn date_text(days: i32) -> String {
    let epoch = NaiveDate::default();
    let distance = Days::new(u64::from(days.unsigned_abs()));
    let date = if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) };
    date.map_or_else(|| format!("day {days}"), |date| date.to_string())
}

fn time_text(us: i64) -> String {
    let seconds = u32::try_from(us.div_euclid(1_000_000)).unwrap_or(u32::MAX);
    let nanos = u32::try_from(us.rem_euclid(1_000_000) * 1_000).unwrap_or(u32::MAX);
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos)
        .map_or_else(|| format!("microsecond {us}"), |time| time.to_string())
}

fn timestamp_text(us: i64) -> String {
    DateTime::from_timestamp_micros(us)
        .map_or_else(|| format!("microsecond {us}"), |at| at.naive_utc().format("%Y-%m-%d %H:%M:%S%.f").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_value_meets_columns_of_other_types() {
        let money = DataType::Decimal { precision: 10, scale: 2 };
        let cases: Vec<(Given<'_>, DataType, Value)> = vec![
            (Given::Date(1), DataType::Timestamp, Value::Int(DAY_US)),
            (Given::Date(-1), DataType::Text, Value::Text("1969-12-31".into())),
            (Given::Timestamp(-1), DataType::Date, Value::Int(-1)),
            (Given::Timestamp(DAY_US + 5), DataType::Time, Value::Int(5)),
            (Given::Timestamp(1_500_000), DataType::Text, Value::Text("1970-01-01 00:00:01.500".into())),
            (Given::Time(1_000_000), DataType::Text, Value::Text("00:00:01".into())),
            (Given::Uuid([1; 16]), DataType::Text, Value::Text("01010101-0101-0101-0101-010101010101".into())),
            (Given::Bytes(Cow::Borrowed(b"hi")), DataType::Text, Value::Text("aGk=".into())),
            (Given::Float(2.5), money, Value::Decimal(250)),
            (Given::Float(1e3), DataType::Int, Value::Int(1000)),
            (Given::Float(2.5), DataType::Int, Value::Int(2)),
            (Given::Number("2.5".into()), DataType::Int, Value::Int(3)),
            (Given::Vector(vec![1.0, 2.5]), DataType::Json, Value::Text("[1,2.5]".into())),
            (Given::of_value(Value::Decimal(-5), money), DataType::Text, Value::Text("-0.05".into())),
        ];
        for (given, ty, expected) in cases {
            assert_eq!(given.clone().into_value(ty), Ok(expected), "{given:?} as {ty}");
        }
    }

    #[test]
    fn what_has_no_meaning_in_a_column_is_a_mismatch() {
        let cases = [
            (Given::Date(1), DataType::Int),
            (Given::Time(1), DataType::Timestamp),
            (Given::Uuid([1; 16]), DataType::BigInt),
            (Given::Vector(vec![1.0]), DataType::Embedding(2)),
            (Given::Bool(true), DataType::Int),
        ];
        for (given, ty) in cases {
            let got = given.clone().into_value(ty);
            assert!(matches!(got, Err(ConvertFault::Mismatch { .. })), "{given:?} as {ty}: {got:?}");
        }
    }
}
