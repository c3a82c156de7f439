//! One cell's value, and how given text and numbers become a value of a column's type.
//!
//! Owns the conversions of literals and parameters: PostgreSQL's, where it has one.
//! The column's [`DataType`] decides how a [`Value`] is stored; one value form serves the types that share a
//! representation (all integers, dates and times are `Int`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use super::DataType;

/// A cell. Which form a column uses follows from its type: see [`Value::fits`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// SMALLINT, INT, BIGINT; DATE in days; TIME, TIMESTAMP and DATETIME in microseconds.
    Int(i64),
    /// FLOAT (exactly a 32-bit value) and DOUBLE. Never NaN or infinite.
    Float(f64),
    /// TEXT, JSON and FILE.
    Text(String),
    Bytes(Vec<u8>),
    Uuid([u8; 16]),
    /// Unscaled: 1.50 of DECIMAL(10,2) is 150.
    Decimal(i128),
    Vector(Vec<f32>),
}

/// A cell still in the bytes it was stored in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Uuid(&'a [u8; 16]),
    Decimal(i128),
    /// Little-endian 32-bit floats.
    Vector(&'a [u8]),
}

impl ValueRef<'_> {
    pub fn to_owned(self) -> Value {
        match self {
            ValueRef::Null => Value::Null,
            ValueRef::Bool(v) => Value::Bool(v),
            ValueRef::Int(v) => Value::Int(v),
            ValueRef::Float(v) => Value::Float(v),
            ValueRef::Text(v) => Value::Text(v.to_owned()),
            ValueRef::Bytes(v) => Value::Bytes(v.to_vec()),
            ValueRef::Uuid(v) => Value::Uuid(*v),
            ValueRef::Decimal(v) => Value::Decimal(v),
            ValueRef::Vector(v) => {
                Value::Vector(v.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
        }
    }
}

/// Why a literal or parameter is no value of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConvertFault {
    /// Not of the type at all; `expected` is an example or a form.
    Mismatch { given: String, expected: &'static str },
    /// Of the type, but too large or too small for it.
    OutOfRange { given: String },
}

type Converted = Result<Value, ConvertFault>;

fn mismatch(given: impl Into<String>, expected: &'static str) -> Converted {
    let mut given: String = given.into();
    if given.len() > 60 {
        let cut = (0..=57).rev().find(|i| given.is_char_boundary(*i)).unwrap_or(0);
        given.truncate(cut);
        given.push('…');
    }
    Err(ConvertFault::Mismatch { given, expected })
}

fn out_of_range(given: impl ToString) -> Converted {
    Err(ConvertFault::OutOfRange { given: given.to_string() })
}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Converts a boolean literal or parameter.
    pub fn from_bool(v: bool, to: DataType) -> Converted {
        match to {
            DataType::Boolean => Ok(Value::Bool(v)),
            DataType::Text => Ok(Value::Text(v.to_string())),
            DataType::Json => Ok(Value::Text(v.to_string())),
            _ => mismatch(v.to_string(), expected_form(to)),
        }
    }

    /// Converts an integer literal or parameter.
    pub fn from_int(v: i64, to: DataType) -> Converted {
        let ranged = |low: i64, high: i64| if (low..=high).contains(&v) { Ok(Value::Int(v)) } else { out_of_range(v) };
        match to {
            DataType::SmallInt => ranged(i64::from(i16::MIN), i64::from(i16::MAX)),
            DataType::Int | DataType::Date => ranged(i64::from(i32::MIN), i64::from(i32::MAX)),
            DataType::BigInt | DataType::Timestamp | DataType::DateTime => Ok(Value::Int(v)),
            DataType::Time => ranged(0, 86_400_000_000 - 1),
            DataType::Float => Ok(Value::Float(f64::from(v as f32))),
            DataType::Double => Ok(Value::Float(v as f64)),
            DataType::Decimal { .. } => Self::from_number(&v.to_string(), to),
            DataType::Text | DataType::Json => Ok(Value::Text(v.to_string())),
            _ => mismatch(v.to_string(), expected_form(to)),
        }
    }

    /// Converts a number as it was written, so that decimals stay exact: a number with a fraction rounds half away from
    /// zero into an integer, as PostgreSQL's numeric does.
    pub fn from_number(text: &str, to: DataType) -> Converted {
        match to {
            DataType::Decimal { precision, scale } => parse_decimal(text, precision, scale),
            DataType::Float => match text.parse::<f64>() {
                Ok(v) if v.is_finite() && (v as f32).is_finite() => Ok(Value::Float(f64::from(v as f32))),
                Ok(_) => out_of_range(text),
                Err(_) => mismatch(text, "a number"),
            },
            DataType::Double => match text.parse::<f64>() {
                Ok(v) if v.is_finite() => Ok(Value::Float(v)),
                Ok(_) => out_of_range(text),
                Err(_) => mismatch(text, "a number"),
            },
            DataType::Text => Ok(Value::Text(text.to_owned())),
            DataType::SmallInt | DataType::Int | DataType::BigInt => match parse_decimal(text, 38, 0) {
                Ok(Value::Decimal(v)) => {
                    i64::try_from(v).map_or_else(|_| out_of_range(text), |v| Self::from_int(v, to))
                }
                Err(ConvertFault::OutOfRange { given }) => out_of_range(given),
                Ok(_) | Err(ConvertFault::Mismatch { .. }) => mismatch(text, expected_form(to)),
            },
            _ => match text.parse::<i64>() {
                Ok(v) => Self::from_int(v, to),
                Err(_) => mismatch(text, expected_form(to)),
            },
        }
    }

    /// Converts a double: a parameter with a fraction, or what a query computed. It rounds half to even into an integer,
    /// as PostgreSQL's double precision does.
    pub fn from_double(v: f64, to: DataType) -> Converted {
        match to {
            DataType::SmallInt | DataType::Int | DataType::BigInt if v.is_finite() => {
                let rounded = v.round_ties_even();
                if rounded < -(2f64.powi(63)) || rounded >= 2f64.powi(63) {
                    return out_of_range(v);
                }
                Self::from_int(rounded as i64, to)
            }
            _ => Self::from_number(&v.to_string(), to),
        }
    }

    /// Converts a string literal or parameter, as PostgreSQL converts an untyped literal.
    pub fn from_text(text: String, to: DataType) -> Converted {
        match to {
            DataType::Text => Ok(Value::Text(text)),
            DataType::Json | DataType::File => match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                Ok(_) => Ok(Value::Text(text)),
                Err(_) => mismatch(text, "JSON text"),
            },
            DataType::Boolean => match text.trim().to_ascii_lowercase().as_str() {
                "t" | "true" | "yes" | "on" | "1" => Ok(Value::Bool(true)),
                "f" | "false" | "no" | "off" | "0" => Ok(Value::Bool(false)),
                _ => mismatch(text, "true or false"),
            },
            DataType::SmallInt | DataType::Int | DataType::BigInt => match text.trim().parse::<i64>() {
                Ok(v) => Self::from_int(v, to),
                Err(e)
                    if matches!(
                        e.kind(),
                        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow
                    ) =>
                {
                    out_of_range(text)
                }
                Err(_) => mismatch(text, expected_form(to)),
            },
            DataType::Float | DataType::Double | DataType::Decimal { .. } => Self::from_number(text.trim(), to),
            DataType::Bytes => match BASE64.decode(text.trim()) {
                Ok(v) => Ok(Value::Bytes(v)),
                Err(_) => mismatch(text, "base64 text"),
            },
            DataType::Uuid => match uuid::Uuid::parse_str(text.trim()) {
                Ok(v) => Ok(Value::Uuid(*v.as_bytes())),
                Err(_) => mismatch(text, expected_form(to)),
            },
            DataType::Date => match NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d") {
                Ok(v) => Ok(Value::Int(i64::from(v.to_epoch_days()))),
                Err(_) => mismatch(text, expected_form(to)),
            },
            DataType::Time => match NaiveTime::parse_from_str(text.trim(), "%H:%M:%S%.f")
                .or_else(|_| NaiveTime::parse_from_str(text.trim(), "%H:%M"))
            {
                Ok(v) => Ok(Value::Int(
                    i64::from(v.num_seconds_from_midnight()) * 1_000_000 + i64::from(v.nanosecond() / 1_000),
                )),
                Err(_) => mismatch(text, expected_form(to)),
            },
            DataType::Timestamp | DataType::DateTime => match parse_timestamp(text.trim()) {
                Some(v) => Ok(Value::Int(v)),
                None => mismatch(text, expected_form(to)),
            },
            DataType::Embedding(n) => match serde_json::from_str::<Vec<f32>>(&text) {
                Ok(v) => Self::from_floats(v, n),
                Err(_) => mismatch(text, expected_form(to)),
            },
        }
    }

    /// A vector of exactly `n` finite floats.
    pub fn from_floats(v: Vec<f32>, n: u32) -> Converted {
        if v.len() != n as usize {
            return mismatch(format!("a vector of {} numbers", v.len()), "a vector of the column's dimension");
        }
        if v.iter().any(|x| !x.is_finite()) {
            return out_of_range("a vector with a value that is not finite");
        }
        Ok(Value::Vector(v))
    }

    /// Is this a value (or NULL) in the form that a column of type `ty` stores? What the row codec may assume.
    pub fn fits(&self, ty: DataType) -> bool {
        match (self, ty) {
            (Value::Null, _) => true,
            (Value::Bool(_), DataType::Boolean) => true,
            (Value::Int(v), DataType::SmallInt) => i16::try_from(*v).is_ok(),
            (Value::Int(v), DataType::Int | DataType::Date) => i32::try_from(*v).is_ok(),
            (Value::Int(_), DataType::BigInt | DataType::Time | DataType::Timestamp | DataType::DateTime) => true,
            (Value::Float(v), DataType::Float) => v.is_finite() && f64::from(*v as f32) == *v,
            (Value::Float(v), DataType::Double) => v.is_finite(),
            (Value::Text(_), DataType::Text | DataType::Json | DataType::File) => true,
            (Value::Bytes(_), DataType::Bytes) => true,
            (Value::Uuid(_), DataType::Uuid) => true,
            (Value::Decimal(_), DataType::Decimal { .. }) => true,
            (Value::Vector(v), DataType::Embedding(n)) => v.len() == n as usize,
            _ => false,
        }
    }
}

fn expected_form(ty: DataType) -> &'static str {
    match ty {
        DataType::Boolean => "true or false",
        DataType::SmallInt | DataType::Int | DataType::BigInt => "a whole number",
        DataType::Float | DataType::Double | DataType::Decimal { .. } => "a number",
        DataType::Text => "text",
        DataType::Bytes => "base64 text",
        DataType::Date => "a date such as '2026-01-31'",
        DataType::Time => "a time such as '13:45:00'",
        DataType::Timestamp | DataType::DateTime => "a timestamp such as '2026-01-31T13:45:00Z'",
        DataType::Uuid => "a UUID such as '0190a3c4-7b1e-7cc3-98c4-dc0c0c07398f'",
        DataType::Json | DataType::File => "JSON text",
        DataType::Embedding(_) => "a vector such as '[0.1, 0.2]'",
    }
}

/// Microseconds since the epoch. A zone is applied and then dropped; none means UTC.
fn parse_timestamp(text: &str) -> Option<i64> {
    if let Ok(v) = DateTime::parse_from_rfc3339(text) {
        return Some(v.timestamp_micros());
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"] {
        if let Ok(v) = DateTime::parse_from_str(text, form) {
            return Some(v.timestamp_micros());
        }
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"] {
        if let Ok(v) = NaiveDateTime::parse_from_str(text, form) {
            return Some(v.and_utc().timestamp_micros());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

/// Rounds half away from zero to `scale`, as PostgreSQL's numeric does.
fn parse_decimal(text: &str, precision: u8, scale: i8) -> Converted {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => match exponent.parse::<i32>() {
            // So many zeros behind are no number of ours; many zeros before it come to nothing.
            Ok(exponent) if exponent > 100 => return out_of_range(text),
            Ok(exponent) => (mantissa, exponent),
            Err(_) => return mismatch(text, "a number"),
        },
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return mismatch(text, "a number");
    }
    // The value is `whole ∥ fraction` × 10^(exponent − fraction digits); shift it to `scale` fraction digits.
    let shift = i64::from(exponent) - i64::try_from(fraction.len()).unwrap_or(i64::from(i32::MAX)) + i64::from(scale);
    let mut kept: String = whole.chars().chain(fraction.chars()).collect();
    let mut round_up = false;
    if shift >= 0 {
        kept.extend(std::iter::repeat_n('0', usize::try_from(shift).unwrap_or(0)));
    } else {
        let cut = usize::try_from(-shift).unwrap_or(usize::MAX);
        if cut > kept.len() {
            kept = "0".to_owned();
        } else {
            let dropped = kept.split_off(kept.len() - cut);
            round_up = dropped.as_bytes().first().is_some_and(|d| *d >= b'5');
        }
    }
    let kept = kept.trim_start_matches('0');
    if kept.len() > usize::from(precision) {
        return out_of_range(text);
    }
    let unscaled = if kept.is_empty() { 0 } else { kept.parse::<i128>().unwrap_or(i128::MAX) };
    let unscaled = unscaled.saturating_add(i128::from(round_up));
    if unscaled >= 10i128.pow(u32::from(precision.min(38))) {
        return out_of_range(text);
    }
    Ok(Value::Decimal(if negative { -unscaled } else { unscaled }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_value_of_the_columns_type() {
        let cases: &[(&str, DataType, Value)] = &[
            ("42", DataType::BigInt, Value::Int(42)),
            ("t", DataType::Boolean, Value::Bool(true)),
            ("1970-01-02", DataType::Date, Value::Int(1)),
            ("00:00:01.5", DataType::Time, Value::Int(1_500_000)),
            ("1970-01-01T00:00:01Z", DataType::Timestamp, Value::Int(1_000_000)),
            ("1970-01-01 02:00:01+02", DataType::DateTime, Value::Int(1_000_000)),
            ("1.005", DataType::Decimal { precision: 10, scale: 2 }, Value::Decimal(101)),
            ("-1.5e2", DataType::Decimal { precision: 5, scale: 1 }, Value::Decimal(-1500)),
            ("aGk=", DataType::Bytes, Value::Bytes(b"hi".to_vec())),
            ("[1, 2.5]", DataType::Embedding(2), Value::Vector(vec![1.0, 2.5])),
            (r#"{"a":1}"#, DataType::Json, Value::Text(r#"{"a":1}"#.into())),
        ];
        for (text, ty, expected) in cases {
            assert_eq!(Value::from_text((*text).to_owned(), *ty).as_ref(), Ok(expected), "{text} as {ty}");
            assert!(expected.fits(*ty));
        }
    }

    #[test]
    fn numbers_round_into_integers() {
        for (written, expected, of_double) in [
            ("2.5", 3, 2),
            ("3.5", 4, 4),
            ("-2.5", -3, -2),
            ("0.5", 1, 0),
            ("2.4999", 2, 2),
            ("25e-1", 3, 2),
            ("1e3", 1000, 1000),
            ("1e-200", 0, 0),
        ] {
            assert_eq!(Value::from_number(written, DataType::Int), Ok(Value::Int(expected)), "{written}");
            let double = written.parse().unwrap();
            assert_eq!(Value::from_double(double, DataType::Int), Ok(Value::Int(of_double)), "{written} as a double");
        }
        let most = Value::from_number("9223372036854775807.4", DataType::BigInt);
        assert_eq!(most, Ok(Value::Int(i64::MAX)), "exact where a double is not");
        for too_large in ["9223372036854775807.5", "1e300", "-1e19"] {
            let got = Value::from_number(too_large, DataType::BigInt);
            assert!(matches!(got, Err(ConvertFault::OutOfRange { .. })), "{too_large}: {got:?}");
            let got = Value::from_double(too_large.parse().unwrap(), DataType::BigInt);
            assert!(matches!(got, Err(ConvertFault::OutOfRange { .. })), "{too_large} as a double: {got:?}");
        }
        assert!(matches!(Value::from_double(f64::NAN, DataType::Int), Err(ConvertFault::Mismatch { .. })));
    }

    #[test]
    fn numbers_keep_their_range() {
        assert!(matches!(Value::from_number("70000", DataType::SmallInt), Err(ConvertFault::OutOfRange { .. })));
        assert!(matches!(
            Value::from_number("9223372036854775808", DataType::BigInt),
            Err(ConvertFault::OutOfRange { .. })
        ));
        assert!(matches!(Value::from_number("1e400", DataType::Double), Err(ConvertFault::OutOfRange { .. })));
        let money = DataType::Decimal { precision: 4, scale: 2 };
        assert!(matches!(Value::from_number("99.995", money), Err(ConvertFault::OutOfRange { .. })));
        assert_eq!(Value::from_number("99.994", money), Ok(Value::Decimal(9999)));
    }

    #[test]
    fn a_wrong_text_is_a_mismatch() {
        for (text, ty) in [
            ("many", DataType::Int),
            ("2026-02-30", DataType::Date),
            ("{", DataType::Json),
            ("not-a-uuid", DataType::Uuid),
            ("[1]", DataType::Embedding(2)),
            ("1.2.3", DataType::Decimal { precision: 10, scale: 2 }),
        ] {
            let got = Value::from_text(text.to_owned(), ty);
            assert!(matches!(got, Err(ConvertFault::Mismatch { .. })), "{text} as {ty}: {got:?}");
        }
    }
}
