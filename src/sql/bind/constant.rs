//! Expressions that are the same for every row: literals, parameters, casts of them, and the functions of DEFAULT.
//!
//! Owns what is a constant. What is not goes to the query engine, so `None` is never an error.

use std::borrow::Cow;

use datafusion::sql::sqlparser::ast::{
    CastKind, Expr, Function, FunctionArguments, UnaryOperator, Value as SqlLiteral,
};

use super::given::Given;
use crate::error::{Error, Result};
use crate::model::{ColumnDefault, Param};
use crate::sql::define::data_type;
use crate::sql::statement::Literal;

/// What a constant expression stands for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant<'a> {
    Given(Given<'a>),
    /// DEFAULT: whatever the column's default is.
    Default,
    /// A function whose value comes when the row does.
    Generated(ColumnDefault),
}

/// `expr` as a constant; `None` where it takes the query engine.
///
/// # Errors
/// `INVALID_PARAMETER` where it is a parameter that was not sent.
pub(crate) fn constant<'a>(expr: &'a Expr, params: &'a [Param]) -> Result<Option<Constant<'a>>> {
    Ok(match expr {
        Expr::Value(literal) => given(&literal.value, params)?.map(Constant::Given),
        Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("DEFAULT") => {
            Some(Constant::Default)
        }
        Expr::Function(function) => generator(function).map(Constant::Generated),
        Expr::Nested(inner) => constant(inner, params)?,
        other => value(other, params)?.map(Constant::Given),
    })
}

/// Like [`constant`], without DEFAULT and functions.
///
/// # Errors
/// As [`constant`].
pub(crate) fn value<'a>(expr: &'a Expr, params: &'a [Param]) -> Result<Option<Given<'a>>> {
    Ok(match expr {
        Expr::Value(literal) => given(&literal.value, params)?,
        Expr::Nested(inner) => value(inner, params)?,
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => value(expr, params)?.filter(is_number),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(literal) => match &literal.value {
                SqlLiteral::Number(digits, _) => Some(negative(digits)),
                _ => None,
            },
            _ => None,
        },
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type: ty,
            array: false,
            format: None,
        } => {
            let Ok(ty) = data_type(ty) else { return Ok(None) };
            // What does not convert is left to the engine: it knows the casts' own errors.
            value(expr, params)?.and_then(|inner| inner.into_value(ty).ok()).map(|v| Given::of_value(v, ty))
        }
        Expr::TypedString(typed) => {
            let Ok(ty) = data_type(&typed.data_type) else { return Ok(None) };
            given(&typed.value.value, params)?.and_then(|v| v.into_value(ty).ok()).map(|v| Given::of_value(v, ty))
        }
        Expr::Array(array) => vector(&array.elem),
        _ => None,
    })
}

/// A literal of a batch: what [`constant`] makes of the same text.
///
/// # Errors
/// As [`constant`].
pub(super) fn literal_constant<'a>(literal: Literal<'a>, params: &'a [Param]) -> Result<Constant<'a>> {
    Ok(Constant::Given(match literal {
        Literal::Null => Given::Null,
        Literal::Bool(v) => Given::Bool(v),
        Literal::Number(text) => number(text),
        Literal::Text(text) => Given::Text(text),
        Literal::Param(name) => Given::of_param(param(name, params)?),
        Literal::Default => return Ok(Constant::Default),
    }))
}

/// The value of `$n`.
///
/// # Errors
/// `INVALID_PARAMETER` where it was not sent, `INVALID_SQL` where the placeholder has another form.
pub(crate) fn param<'a>(placeholder: &str, params: &'a [Param]) -> Result<&'a Param> {
    let Some(position) = placeholder.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) else {
        return Err(Error::InvalidSql(format!("'{placeholder}' is no parameter; write $1, $2, …")));
    };
    position.checked_sub(1).and_then(|i| params.get(i)).ok_or_else(|| no_parameter(position, params.len()))
}

/// `$position` in a request that gave fewer.
pub(crate) fn no_parameter(position: usize, given: usize) -> Error {
    let fault = match given {
        0 => "the request has no parameters".to_owned(),
        1 => "the request has 1 parameter".to_owned(),
        n => format!("the request has {n} parameters"),
    };
    Error::InvalidParameter { position, fault }
}

fn given<'a>(literal: &'a SqlLiteral, params: &'a [Param]) -> Result<Option<Given<'a>>> {
    Ok(match literal {
        SqlLiteral::Number(digits, _) => Some(number(digits)),
        SqlLiteral::SingleQuotedString(text)
        | SqlLiteral::EscapedStringLiteral(text)
        | SqlLiteral::UnicodeStringLiteral(text)
        | SqlLiteral::NationalStringLiteral(text) => Some(Given::Text(Cow::Borrowed(text))),
        SqlLiteral::DollarQuotedString(text) => Some(Given::Text(Cow::Borrowed(&text.value))),
        SqlLiteral::Boolean(v) => Some(Given::Bool(*v)),
        SqlLiteral::Null => Some(Given::Null),
        SqlLiteral::Placeholder(name) => Some(Given::of_param(param(name, params)?)),
        SqlLiteral::HexStringLiteral(digits) => hex(digits).map(|bytes| Given::Bytes(Cow::Owned(bytes))),
        _ => None,
    })
}

fn number(digits: &str) -> Given<'_> {
    digits.parse().map_or_else(|_| Given::Number(Cow::Borrowed(digits)), Given::Int)
}

fn negative(digits: &str) -> Given<'static> {
    let text = format!("-{digits}");
    text.parse().map_or_else(|_| Given::Number(Cow::Owned(text)), Given::Int)
}

fn is_number(given: &Given<'_>) -> bool {
    matches!(given, Given::Int(_) | Given::Number(_) | Given::Float(_))
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok()).collect()
}

fn vector(elements: &[Expr]) -> Option<Given<'static>> {
    let floats = elements.iter().map(|element| match value(element, &[]).ok()?? {
        Given::Int(v) => Some(v as f32),
        Given::Number(v) => v.parse().ok(),
        _ => None,
    });
    floats.collect::<Option<Vec<f32>>>().map(Given::Vector)
}

/// The function of DEFAULT that this call is.
pub(crate) fn generator(function: &Function) -> Option<ColumnDefault> {
    let bare = match &function.args {
        FunctionArguments::None => true,
        FunctionArguments::List(list) => list.args.is_empty() && list.clauses.is_empty(),
        FunctionArguments::Subquery(_) => false,
    };
    if !bare || function.over.is_some() || function.filter.is_some() {
        return None;
    }
    let [name] = function.name.0.as_slice() else { return None };
    let name = name.as_ident()?.value.as_str();
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    if is("NOW") || is("CURRENT_TIMESTAMP") {
        Some(ColumnDefault::Now)
    } else if is("SNOWFLAKE_ID") {
        Some(ColumnDefault::SnowflakeId)
    } else if is("UUID_V7") {
        Some(ColumnDefault::UuidV7)
    } else if is("ULID") {
        Some(ColumnDefault::Ulid)
    } else if is("CURRENT_USER") || is("CURRENT_USER_ID") {
        Some(ColumnDefault::CurrentUser)
    } else {
        None
    }
}
