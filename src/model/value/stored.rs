//! Values in records of the catalog: JSON that says the form and keeps every bit.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::model::Value;

/// A [`Value`] as JSON. Numbers that JSON's readers round stand as text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoredValue {
    Null,
    Bool(bool),
    Int(i64),
    Float(String),
    Text(String),
    Bytes(String),
    Uuid(String),
    Decimal(String),
    Vector(Vec<String>),
}

/// A stored value that is none.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no stored value")]
pub(super) struct NoValue(String);

impl From<Value> for StoredValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(v) => Self::Bool(v),
            Value::Int(v) => Self::Int(v),
            Value::Float(v) => Self::Float(v.to_string()),
            Value::Text(v) => Self::Text(v),
            Value::Bytes(v) => Self::Bytes(BASE64.encode(v)),
            Value::Uuid(v) => Self::Uuid(uuid::Uuid::from_bytes(v).to_string()),
            Value::Decimal(v) => Self::Decimal(v.to_string()),
            Value::Vector(v) => Self::Vector(v.iter().map(f32::to_string).collect()),
        }
    }
}

impl TryFrom<StoredValue> for Value {
    type Error = NoValue;

    fn try_from(stored: StoredValue) -> Result<Self, NoValue> {
        fn parsed<T: std::str::FromStr>(text: String) -> Result<T, NoValue> {
            text.parse().map_err(|_| NoValue(text))
        }
        Ok(match stored {
            StoredValue::Null => Value::Null,
            StoredValue::Bool(v) => Value::Bool(v),
            StoredValue::Int(v) => Value::Int(v),
            StoredValue::Float(v) => Value::Float(parsed(v)?),
            StoredValue::Text(v) => Value::Text(v),
            StoredValue::Bytes(v) => Value::Bytes(BASE64.decode(&v).map_err(|_| NoValue(v))?),
            StoredValue::Uuid(v) => Value::Uuid(*parsed::<uuid::Uuid>(v)?.as_bytes()),
            StoredValue::Decimal(v) => Value::Decimal(parsed(v)?),
            StoredValue::Vector(v) => Value::Vector(v.into_iter().map(parsed).collect::<Result<_, _>>()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_comes_back_bit_by_bit() {
        let cases = [
            (Value::Null, r#""null""#),
            (Value::Bool(true), r#"{"bool":true}"#),
            (Value::Int(i64::MIN), r#"{"int":-9223372036854775808}"#),
            (Value::Float(0.1 + 0.2), r#"{"float":"0.30000000000000004"}"#),
            (Value::Text("it's".to_owned()), r#"{"text":"it's"}"#),
            (Value::Bytes(vec![0, 255]), r#"{"bytes":"AP8="}"#),
            (Value::Uuid([1; 16]), r#"{"uuid":"01010101-0101-0101-0101-010101010101"}"#),
            (Value::Decimal(i128::MAX), r#"{"decimal":"170141183460469231731687303715884105727"}"#),
            (Value::Vector(vec![0.1, -2.0]), r#"{"vector":["0.1","-2"]}"#),
        ];
        for (value, json) in cases {
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(serde_json::from_str::<Value>(json).unwrap(), value);
        }
        assert!(serde_json::from_str::<Value>(r#"{"float":"much"}"#).is_err());
    }
}
