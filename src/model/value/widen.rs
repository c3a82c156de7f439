//! Values that become values of a wider type: what MODIFY COLUMN may do to rows that are stored already.
//!
//! Owns which types are wider than which: each value of the one has exactly one in the other, so nothing is lost.

use crate::model::{DataType, Value};

/// Digits that hold every value of an integer type.
const SMALLINT_DIGITS: u8 = 5;
const INT_DIGITS: u8 = 10;
const BIGINT_DIGITS: u8 = 19;

impl DataType {
    /// Has each value of this type one of type `to` that says the same?
    pub fn widens_to(self, to: DataType) -> bool {
        use DataType as T;
        match (self, to) {
            (T::Embedding(_), _) | (_, T::Embedding(_)) => self == to,
            (_, T::Text) => true,
            (T::SmallInt, T::Int | T::BigInt | T::Float | T::Double) => true,
            (T::Int, T::BigInt | T::Double) => true,
            (T::SmallInt, T::Decimal { precision, scale }) => holds(precision, scale, SMALLINT_DIGITS),
            (T::Int, T::Decimal { precision, scale }) => holds(precision, scale, INT_DIGITS),
            (T::BigInt, T::Decimal { precision, scale }) => holds(precision, scale, BIGINT_DIGITS),
            (T::Float, T::Double) => true,
            (T::Decimal { precision, scale }, T::Decimal { precision: wider, scale: finer }) => {
                let whole = i16::from(precision) - i16::from(scale);
                finer >= scale && i16::from(wider) - i16::from(finer) >= whole
            }
            _ => self == to,
        }
    }
}

/// Has a DECIMAL room for so many digits before its point?
fn holds(precision: u8, scale: i8, digits: u8) -> bool {
    i16::from(precision) - i16::from(scale) >= i16::from(digits)
}

impl Value {
    /// This value of type `from` as one of type `to`; `None` where `from` does not widen to it, or the value is not of
    /// `from`.
    pub fn widened(self, from: DataType, to: DataType) -> Option<Value> {
        if from == to || self.is_null() {
            return Some(self);
        }
        if !from.widens_to(to) {
            return None;
        }
        Some(match (self, to) {
            (value, DataType::Text) => Value::Text(match value {
                Value::Text(text) => text,
                value => value.to_text(from)?,
            }),
            (Value::Int(v), DataType::Int | DataType::BigInt) => Value::Int(v),
            (Value::Int(v), DataType::Float | DataType::Double) => Value::Float(v as f64),
            (Value::Int(v), DataType::Decimal { scale, .. }) => Value::Decimal(shifted(i128::from(v), scale)?),
            (Value::Float(v), DataType::Double) => Value::Float(v),
            (Value::Decimal(v), DataType::Decimal { scale: finer, .. }) => {
                let DataType::Decimal { scale, .. } = from else { return None };
                Value::Decimal(shifted(v, finer - scale)?)
            }
            _ => return None,
        })
    }
}

fn shifted(unscaled: i128, digits: i8) -> Option<i128> {
    unscaled.checked_mul(10i128.checked_pow(u32::try_from(digits).ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn decimal(precision: u8, scale: i8) -> DataType {
        DataType::Decimal { precision, scale }
    }

    #[test]
    fn values_keep_their_meaning() {
        use DataType as T;
        let text = |text: &str| Value::Text(text.to_owned());
        let cases = [
            (Value::Int(-7), T::SmallInt, T::BigInt, Value::Int(-7)),
            (Value::Int(7), T::Int, T::Double, Value::Float(7.0)),
            (Value::Int(i64::MAX), T::BigInt, decimal(20, 1), Value::Decimal(i128::from(i64::MAX) * 10)),
            (Value::Decimal(-150), decimal(4, 2), decimal(6, 3), Value::Decimal(-1_500)),
            (Value::Float(f64::from(0.1f32)), T::Float, T::Double, Value::Float(f64::from(0.1f32))),
            (Value::Float(f64::from(0.1f32)), T::Float, T::Text, text("0.1")),
            (Value::Float(0.5), T::Double, T::Text, text("0.5")),
            (Value::Bool(true), T::Boolean, T::Text, text("true")),
            (Value::Int(-1), T::Date, T::Text, text("1969-12-31")),
            (Value::Int(1_500_000), T::Time, T::Text, text("00:00:01.500")),
            (Value::Int(1_500_000), T::Timestamp, T::Text, text("1970-01-01 00:00:01.500")),
            (Value::Decimal(-5), decimal(10, 2), T::Text, text("-0.05")),
            (Value::Uuid([1; 16]), T::Uuid, T::Text, text("01010101-0101-0101-0101-010101010101")),
            (Value::Bytes(b"hi".to_vec()), T::Bytes, T::Text, text("aGk=")),
            (text("{\"a\":1}"), T::Json, T::Text, text("{\"a\":1}")),
            (Value::Null, T::Int, T::BigInt, Value::Null),
        ];
        for (value, from, to, expected) in cases {
            assert!(from.widens_to(to), "{from} to {to}");
            let got = value.clone().widened(from, to).unwrap();
            assert!(got.fits(to), "{got:?} as {to}");
            assert_eq!(got, expected, "{value:?} of {from} as {to}");
        }
    }

    #[test]
    fn what_could_lose_something_is_no_widening() {
        use DataType as T;
        for (from, to) in [
            (T::BigInt, T::Int),
            (T::BigInt, T::Double),
            (T::Int, T::Float),
            (T::Int, decimal(10, 1)),
            (T::Double, T::Float),
            (decimal(10, 2), decimal(10, 3)),
            (decimal(10, 2), decimal(12, 1)),
            (decimal(10, 2), T::Double),
            (T::Text, T::Json),
            (T::Date, T::Timestamp),
            (T::Timestamp, T::DateTime),
            (T::Embedding(2), T::Text),
            (T::Embedding(2), T::Embedding(3)),
            (T::Text, T::Bytes),
        ] {
            assert!(!from.widens_to(to), "{from} to {to}");
            assert_eq!(Value::Int(1).widened(from, to), None, "{from} to {to}");
        }
    }
}
