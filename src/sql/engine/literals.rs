//! How literals and type names of SQL meet our column types, as PostgreSQL has it.
//!
//! A text literal compared with a value of another type is read as that type: `id = '3'`, `room = '0190a3c4-…'`,
//! `at > '2026-01-31'`; so is a number compared with a time, in the unit that the wire uses. DataFusion alone would
//! compare the bytes of a UUID with those of its text. Conversions are those of INSERT: `Value::from_text`.
//! A parameter is what it meets, too, whatever JSON calls it: a number beside a text is that text, a text in a calculation
//! with numbers is a number.
//! TIMESTAMP is in microseconds everywhere (A4).

use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, TypePlanner};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::{BinaryOperator, DataType as SqlType};

use crate::error::Error;
use crate::model::value::ConvertFault;
use crate::model::{DataType, Value};
use crate::sql::functions::PARAMETER;

/// For `=`, `<` and their like while SQL is planned; for IN and BETWEEN while the plan is analysed.
#[derive(Debug)]
pub(super) struct TypedLiterals;

impl ExprPlanner for TypedLiterals {
    fn plan_binary_op(&self, mut raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (left, right) = (parameter(&raw.left).cloned(), parameter(&raw.right).cloned());
        if let Some(value) = &right {
            raw.right = value.clone();
        }
        if let Some(value) = &left {
            raw.left = value.clone();
        }
        if let Some(typed) = right.and_then(|value| meeting(&value, &raw.left, schema, compares(&raw.op)).transpose()) {
            raw.right = typed?;
        } else if let Some(typed) =
            left.and_then(|value| meeting(&value, &raw.right, schema, compares(&raw.op)).transpose())
        {
            raw.left = typed?;
        }
        if compares(&raw.op) {
            if let Some(literal) = typed(&raw.right, &raw.left, schema)? {
                raw.right = literal;
            } else if let Some(literal) = typed(&raw.left, &raw.right, schema)? {
                raw.left = literal;
            }
        }
        Ok(PlannerResult::Original(raw))
    }
}

impl AnalyzerRule for TypedLiterals {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            node.map_expressions(|expr| expr.transform_up(|expr| in_range(expr, &schema)))
        })
        .data()
    }

    fn name(&self) -> &str {
        "typed_literals"
    }
}

fn in_range(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::InList(InList { expr, list, negated }) => {
            let list = list.into_iter().map(|item| or_typed(item, &expr, schema)).collect::<Result<Vec<_>>>()?;
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let low = Box::new(or_typed(*low, &expr, schema)?);
            let high = Box::new(or_typed(*high, &expr, schema)?);
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The value of a parameter that is marked as one.
fn parameter(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.name() == PARAMETER => call.args.first(),
        _ => None,
    }
}

/// A parameter as a value of `subject`'s type, where JSON has no such type or the sender chose another.
fn meeting(value: &Expr, subject: &Expr, schema: &DFSchema, compared: bool) -> Result<Option<Expr>> {
    let Expr::Literal(scalar, metadata) = value else { return Ok(None) };
    if matches!(subject, Expr::Literal(..)) {
        return Ok(None);
    }
    let Ok(arrow) = subject.get_type(schema) else { return Ok(None) };
    let ty = DataType::of_arrow(&arrow);
    let converted = match scalar {
        ScalarValue::Int64(Some(v)) if compared && ty == DataType::Text => Value::from_int(*v, ty),
        ScalarValue::Float64(Some(v)) if compared && ty == DataType::Text => Value::from_double(*v, ty),
        ScalarValue::Boolean(Some(v)) if compared && ty == DataType::Text => Value::from_bool(*v, ty),
        ScalarValue::Utf8(Some(text)) if !compared && arrow.is_numeric() => Value::from_text(text.clone(), ty),
        _ => return Ok(None),
    };
    let value = converted.map_err(|fault| DataFusionError::External(Box::new(conversion_error(fault, ty))))?;
    Ok(match value {
        Value::Text(text) => Some(Expr::Literal(ScalarValue::Utf8(Some(text)), metadata.clone())),
        value => scalar_of(value, ty).map(|scalar| Expr::Literal(scalar, metadata.clone())),
    })
}

fn or_typed(literal: Expr, subject: &Expr, schema: &DFSchema) -> Result<Expr> {
    if let Some(value) = parameter(&literal) {
        return match meeting(value, subject, schema, true)? {
            Some(typed) => Ok(typed),
            None => or_typed(value.clone(), subject, schema),
        };
    }
    Ok(typed(&literal, subject, schema)?.unwrap_or(literal))
}

fn compares(op: &BinaryOperator) -> bool {
    use BinaryOperator as Op;
    matches!(op, Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq | Op::Spaceship)
}

/// `literal` as a value of `subject`'s type; `None` where it is no such literal, or needs no conversion.
fn typed(literal: &Expr, subject: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let Expr::Literal(scalar @ (ScalarValue::Utf8(Some(_)) | ScalarValue::Int64(Some(_))), metadata) = literal else {
        return Ok(None);
    };
    if matches!(subject, Expr::Literal(..)) {
        return Ok(None);
    }
    // A subject without a type yet (an outer column, a placeholder) is for DataFusion's own coercion.
    let Ok(arrow) = subject.get_type(schema) else { return Ok(None) };
    let ty = DataType::of_arrow(&arrow);
    if ty == DataType::Text || ty.arrow() != arrow {
        return Ok(None);
    }
    let converted = match scalar {
        ScalarValue::Utf8(Some(text)) => Value::from_text(text.clone(), ty),
        ScalarValue::Int64(Some(number)) if arrow.is_temporal() => Value::from_int(*number, ty),
        _ => return Ok(None),
    };
    let value = converted.map_err(|fault| DataFusionError::External(Box::new(conversion_error(fault, ty))))?;
    Ok(scalar_of(value, ty).map(|scalar| Expr::Literal(scalar, metadata.clone())))
}

fn conversion_error(fault: ConvertFault, ty: DataType) -> Error {
    Error::InvalidSql(match fault {
        ConvertFault::Mismatch { given, expected } => {
            format!("'{given}' is compared with a value of type {ty}: expected {expected}")
        }
        ConvertFault::OutOfRange { given } => format!("'{given}' is out of range for type {ty}"),
    })
}

fn scalar_of(value: Value, ty: DataType) -> Option<ScalarValue> {
    Some(match (value, ty) {
        (Value::Bool(v), _) => ScalarValue::Boolean(Some(v)),
        (Value::Int(v), DataType::SmallInt) => ScalarValue::Int16(Some(i16::try_from(v).ok()?)),
        (Value::Int(v), DataType::Int) => ScalarValue::Int32(Some(i32::try_from(v).ok()?)),
        (Value::Int(v), DataType::Date) => ScalarValue::Date32(Some(i32::try_from(v).ok()?)),
        (Value::Int(v), DataType::Time) => ScalarValue::Time64Microsecond(Some(v)),
        (Value::Int(v), DataType::Timestamp) => ScalarValue::TimestampMicrosecond(Some(v), None),
        (Value::Int(v), DataType::DateTime) => ScalarValue::TimestampMicrosecond(Some(v), Some("UTC".into())),
        (Value::Int(v), _) => ScalarValue::Int64(Some(v)),
        // Exactly a 32-bit value, by `Value::fits`.
        (Value::Float(v), DataType::Float) => ScalarValue::Float32(Some(v as f32)),
        (Value::Float(v), _) => ScalarValue::Float64(Some(v)),
        (Value::Bytes(v), _) => ScalarValue::Binary(Some(v)),
        (Value::Uuid(v), _) => ScalarValue::FixedSizeBinary(16, Some(v.to_vec())),
        (Value::Decimal(v), DataType::Decimal { precision, scale }) => {
            ScalarValue::Decimal128(Some(v), precision, scale)
        }
        _ => return None,
    })
}

/// The type names that mean something else to us than to DataFusion.
#[derive(Debug)]
pub(crate) struct TypeNames;

impl TypePlanner for TypeNames {
    fn plan_type_field(&self, name: &SqlType) -> Result<Option<FieldRef>> {
        let ty = match name {
            SqlType::Timestamp(..) => ArrowType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::Datetime(_) => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            SqlType::JSON | SqlType::JSONB => ArrowType::Utf8,
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", ty, true))))
    }
}
