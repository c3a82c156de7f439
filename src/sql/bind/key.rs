//! WHERE clauses that name rows by their whole primary key, so that no query is needed to find them.
//!
//! Owns which constants equal a key exactly. A comparison must not round as an INSERT does: `id = 2.5` is no row with
//! the key 2. Whatever is not certain here is left to the query engine (`None`).

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr};

use super::constant;
use super::given::Given;
use super::name::Target;
use crate::error::Result;
use crate::model::{DataType, Param, PkBytes, Value};
use crate::storage::keys;

/// The keys of the rows that `filter` names: `k = 1 AND l = 'a'`, or `k IN (1, 2)`; each once, in the order given.
///
/// # Errors
/// `INVALID_PARAMETER`.
pub(crate) fn keys_named(target: &Target<'_>, filter: &Expr, params: &[Param]) -> Result<Option<Vec<PkBytes>>> {
    if let Some(key) = key_equal(target, filter, params)? {
        return Ok(Some(vec![key]));
    }
    key_in_list(target, filter, params)
}

/// The key that `filter` demands by equality on exactly the key's columns.
///
/// # Errors
/// `INVALID_PARAMETER`.
pub(crate) fn key_equal(target: &Target<'_>, filter: &Expr, params: &[Param]) -> Result<Option<PkBytes>> {
    let mut values = vec![None; target.table.unique_key().len()];
    if !collect(target, filter, params, &mut values)? {
        return Ok(None);
    }
    let Some(values) = values.into_iter().collect::<Option<Vec<Value>>>() else { return Ok(None) };
    Ok(encode(target, &values))
}

fn key_in_list(target: &Target<'_>, filter: &Expr, params: &[Param]) -> Result<Option<Vec<PkBytes>>> {
    let (Expr::InList { expr, list, negated: false }, [key]) = (bare(filter), target.table.unique_key()) else {
        return Ok(None);
    };
    if target.column(expr) != Some(*key) {
        return Ok(None);
    }
    let mut seen = HashSet::with_capacity(list.len());
    let mut found = Vec::with_capacity(list.len());
    for item in list {
        let Some(value) = key_value(item, target.table.columns[*key].data_type, params)? else { return Ok(None) };
        let Some(pk) = encode(target, &[value]) else { return Ok(None) };
        if seen.insert(pk.clone()) {
            found.push(pk);
        }
    }
    Ok(Some(found))
}

/// Puts the values that `filter` demands into `values`, one per key column. False where it demands anything else.
fn collect(target: &Target<'_>, filter: &Expr, params: &[Param], values: &mut [Option<Value>]) -> Result<bool> {
    match bare(filter) {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            Ok(collect(target, left, params, values)? && collect(target, right, params, values)?)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let (column, given) = match (target.column(left), target.column(right)) {
                (Some(column), None) => (column, right),
                (None, Some(column)) => (column, left),
                _ => return Ok(false),
            };
            let Some(nth) = target.table.unique_key().iter().position(|key| *key == column) else { return Ok(false) };
            let value = key_value(given, target.table.columns[column].data_type, params)?;
            // A second demand on the same column could contradict the first.
            if value.is_none() || values[nth].is_some() {
                return Ok(false);
            }
            values[nth] = value;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn bare(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// The one value of type `ty` that equals the constant, where that is certain.
fn key_value(expr: &Expr, ty: DataType, params: &[Param]) -> Result<Option<Value>> {
    let Some(given) = constant::value(expr, params)? else { return Ok(None) };
    let exact = match (&given, ty) {
        (Given::Text(_), DataType::Float | DataType::Double) => false,
        (Given::Text(text), DataType::Decimal { scale, .. }) => fits_scale(text, scale),
        (Given::Text(_), _) => true,
        (Given::Bool(_), DataType::Boolean) => true,
        (Given::Int(_), DataType::SmallInt | DataType::Int | DataType::BigInt | DataType::Decimal { .. }) => true,
        (Given::Number(text), DataType::Decimal { scale, .. }) => fits_scale(text, scale),
        (Given::Bytes(_), DataType::Bytes) => true,
        (Given::Uuid(_), DataType::Uuid) => true,
        (Given::Date(_), DataType::Date) => true,
        (Given::Time(_), DataType::Time) => true,
        (Given::Timestamp(_), DataType::Timestamp | DataType::DateTime) => true,
        _ => false,
    };
    Ok(if exact { given.into_value(ty).ok() } else { None })
}

/// Has the number no more digits behind its point than a DECIMAL of this scale keeps?
fn fits_scale(text: &str, scale: i8) -> bool {
    let text = text.trim();
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    !text.contains(['e', 'E']) && i8::try_from(fraction.len()).is_ok_and(|digits| digits <= scale)
}

/// `None`: no stored key is that long.
fn encode(target: &Target<'_>, values: &[Value]) -> Option<PkBytes> {
    keys::encode_key_values(target.table, values.iter(), 1).ok()
}
