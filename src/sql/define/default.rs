//! DEFAULT of a column: checked when the table is made, so that no INSERT can fail on it.

use datafusion::sql::sqlparser::ast::Expr;

use crate::error::{Error, Result};
use crate::model::value::ConvertFault;
use crate::model::{ColumnDefault, DataType, Value};
use crate::sql::bind::constant::{Constant, constant};
use crate::sql::bind::given::Given;

/// The default that `expr` is for a column of type `ty`; `None` for NULL, which is no default.
///
/// # Errors
/// `INVALID_SQL` where it is no constant, or no value of the type.
pub(super) fn column_default(expr: &Expr, column: &str, ty: DataType) -> Result<Option<ColumnDefault>> {
    let fault = |why: String| Error::InvalidSql(format!("DEFAULT of column '{column}': {why}"));
    match constant(expr, &[])? {
        Some(Constant::Given(Given::Null)) => Ok(None),
        Some(Constant::Given(given)) => {
            let literal = literal_text(given);
            match default_value(&literal, ty) {
                Ok(_) => Ok(Some(ColumnDefault::Literal(literal))),
                Err(ConvertFault::Mismatch { given, expected }) => {
                    Err(fault(format!("{given} is not valid for type {ty}: expected {expected}")))
                }
                Err(ConvertFault::OutOfRange { given }) => Err(fault(format!("{given} is out of range for type {ty}"))),
            }
        }
        Some(Constant::Generated(function)) if generates(&function, ty) => Ok(Some(function)),
        Some(Constant::Generated(function)) => {
            let (types, _) = types_of(&function);
            Err(fault(format!("{function} needs a column of type {types}, not {ty}")))
        }
        Some(Constant::Default) | None => Err(fault(format!(
            "'{expr}' is neither a literal nor one of NOW(), CURRENT_TIMESTAMP, SNOWFLAKE_ID(), UUID_V7(), ULID() and \
             CURRENT_USER()"
        ))),
    }
}

/// The value of [`ColumnDefault::Literal`].
///
/// # Errors
/// Where the text is no value of the type; never for a literal that [`column_default`] made for it.
pub(crate) fn default_value(literal: &str, ty: DataType) -> Result<Value, ConvertFault> {
    Value::from_literal(literal, ty)
}

fn literal_text(given: Given<'_>) -> String {
    match given {
        Given::Null => "NULL".to_owned(),
        Given::Bool(v) => if v { "TRUE" } else { "FALSE" }.to_owned(),
        Given::Int(v) => v.to_string(),
        Given::Number(v) => v.into_owned(),
        Given::Float(v) => v.to_string(),
        other => match other.into_value(DataType::Text) {
            Ok(Value::Text(text)) => format!("'{}'", text.replace('\'', "''")),
            // Every other given value has a text.
            _ => "''".to_owned(),
        },
    }
}

/// Is it a default of a column of type `ty`, too?
pub(super) fn fits(default: &ColumnDefault, ty: DataType) -> bool {
    match default {
        ColumnDefault::Literal(literal) => default_value(literal, ty).is_ok(),
        function => generates(function, ty),
    }
}

pub(super) fn generates(function: &ColumnDefault, ty: DataType) -> bool {
    types_of(function).1(ty)
}

/// The types that a function's values fit, in words and as a test.
fn types_of(function: &ColumnDefault) -> (&'static str, fn(DataType) -> bool) {
    match function {
        ColumnDefault::Now => ("TIMESTAMP, DATETIME, DATE, TIME or TEXT", |ty| {
            use DataType::{Date, DateTime, Text, Time, Timestamp};
            matches!(ty, Timestamp | DateTime | Date | Time | Text)
        }),
        ColumnDefault::SnowflakeId => ("BIGINT or TEXT", |ty| matches!(ty, DataType::BigInt | DataType::Text)),
        ColumnDefault::UuidV7 => ("UUID or TEXT", |ty| matches!(ty, DataType::Uuid | DataType::Text)),
        ColumnDefault::Literal(_) | ColumnDefault::Ulid | ColumnDefault::CurrentUser => {
            ("TEXT", |ty| ty == DataType::Text)
        }
    }
}
