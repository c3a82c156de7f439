//! JSON operators and functions over columns of type JSON, and over any text that holds JSON.
//!
//! Owns which function each operator is: `->` gives JSON, `->>` text, `?` tells whether a key is there. A path is keys of objects
//! and positions in arrays, from 0; a negative one counts from the end. All are immutable, so they may stand in live queries and
//! in CHECK constraints.
//! Never fails on a text that is no JSON, or a path that leads nowhere: there is nothing, which is NULL.

use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Array, Int64Builder, ListBuilder, StringArray,
    StringBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::{Alias, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use serde_json::Value;

pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    JsonFn::ALL.iter().map(|function| udf(*function)).collect()
}

fn udf(function: JsonFn) -> Arc<ScalarUDF> {
    let signature = Signature::variadic_any(Volatility::Immutable);
    Arc::new(ScalarUDF::from(JsonUdf { function, signature }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum JsonFn {
    /// What is there, as JSON.
    Get,
    GetJson,
    GetStr,
    GetInt,
    GetFloat,
    GetBool,
    /// What is there as text: a string without its quotes; NULL for null.
    AsText,
    Contains,
    /// Of an array or an object.
    Length,
    ObjectKeys,
}

impl JsonFn {
    const ALL: &'static [JsonFn] = &[
        JsonFn::Get,
        JsonFn::GetJson,
        JsonFn::GetStr,
        JsonFn::GetInt,
        JsonFn::GetFloat,
        JsonFn::GetBool,
        JsonFn::AsText,
        JsonFn::Contains,
        JsonFn::Length,
        JsonFn::ObjectKeys,
    ];

    fn name(self) -> &'static str {
        match self {
            JsonFn::Get => "json_get",
            JsonFn::GetJson => "json_get_json",
            JsonFn::GetStr => "json_get_str",
            JsonFn::GetInt => "json_get_int",
            JsonFn::GetFloat => "json_get_float",
            JsonFn::GetBool => "json_get_bool",
            JsonFn::AsText => "json_as_text",
            JsonFn::Contains => "json_contains",
            JsonFn::Length => "json_length",
            JsonFn::ObjectKeys => "json_object_keys",
        }
    }

    fn returns(self) -> DataType {
        match self {
            JsonFn::Get | JsonFn::GetJson | JsonFn::GetStr | JsonFn::AsText => DataType::Utf8,
            JsonFn::GetInt | JsonFn::Length => DataType::Int64,
            JsonFn::GetFloat => DataType::Float64,
            JsonFn::GetBool | JsonFn::Contains => DataType::Boolean,
            JsonFn::ObjectKeys => DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
        }
    }

    /// The values of all rows. `found`: what is at the end of each row's path; `None` where there is nothing.
    fn column(self, found: impl Iterator<Item = Option<Value>>) -> ArrayRef {
        match self {
            JsonFn::Get | JsonFn::GetJson => texts(found.map(|value| value.map(|value| value.to_string()))),
            JsonFn::GetStr => texts(found.map(|value| match value {
                Some(Value::String(text)) => Some(text),
                _ => None,
            })),
            JsonFn::AsText => texts(found.map(|value| match value? {
                Value::Null => None,
                Value::String(text) => Some(text),
                other => Some(other.to_string()),
            })),
            JsonFn::GetInt => {
                let mut column = Int64Builder::new();
                found.for_each(|value| column.append_option(value.and_then(|value| value.as_i64())));
                Arc::new(column.finish())
            }
            JsonFn::GetFloat => {
                let mut column = Float64Builder::new();
                found.for_each(|value| column.append_option(value.and_then(|value| value.as_f64())));
                Arc::new(column.finish())
            }
            JsonFn::GetBool => {
                let mut column = BooleanBuilder::new();
                found.for_each(|value| column.append_option(value.and_then(|value| value.as_bool())));
                Arc::new(column.finish())
            }
            JsonFn::Contains => {
                let mut column = BooleanBuilder::new();
                found.for_each(|value| column.append_value(value.is_some()));
                Arc::new(column.finish())
            }
            JsonFn::Length => {
                let mut column = Int64Builder::new();
                found.for_each(|value| column.append_option(value.as_ref().and_then(length)));
                Arc::new(column.finish())
            }
            JsonFn::ObjectKeys => {
                let mut column = ListBuilder::new(StringBuilder::new());
                found.for_each(|value| match value {
                    Some(Value::Object(object)) => {
                        column.append_value(object.keys().map(|key| Some(key.as_str())));
                    }
                    _ => column.append_null(),
                });
                Arc::new(column.finish())
            }
        }
    }
}

fn texts(cells: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(cells.collect::<StringArray>())
}

fn length(value: &Value) -> Option<i64> {
    let length = match value {
        Value::Array(items) => items.len(),
        Value::Object(object) => object.len(),
        _ => return None,
    };
    i64::try_from(length).ok()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonUdf {
    function: JsonFn,
    signature: Signature,
}

impl ScalarUDFImpl for JsonUdf {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let name = self.name();
        let Some((json, path)) = arguments.split_first() else {
            return plan_err!("{name} takes a JSON text, and the path into it: {name}(doc, 'key', 0)");
        };
        if !is_text(json) {
            return plan_err!("{name} takes a JSON text as its first argument, not {json}");
        }
        if let Some(other) = path.iter().find(|part| !is_text(part) && !part.is_integer()) {
            return plan_err!("{name} takes keys and positions as its path, not {other}");
        }
        Ok(self.function.returns())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = arguments.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { arguments.number_rows };
        let arrays = arguments.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let Some((json, path)) = arrays.split_first() else {
            return plan_err!("{} takes a JSON text", self.name());
        };
        let json = cast(json, &DataType::Utf8)?;
        let json = json.as_string::<i32>();
        let path = path.iter().map(Steps::new).collect::<Result<Vec<_>>>()?;
        let column = self.function.column((0..rows).map(|row| {
            let text = json.is_valid(row).then(|| json.value(row))?;
            path.iter().try_fold(serde_json::from_str::<Value>(text).ok()?, |value, steps| steps.take(row, value))
        }));
        if all_scalar {
            return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&column, 0)?));
        }
        Ok(ColumnarValue::Array(column))
    }
}

fn is_text(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

/// One step of the path, of each row.
enum Steps {
    Keys(StringArray),
    Positions(Int64Array),
}

impl Steps {
    fn new(array: &ArrayRef) -> Result<Steps> {
        if array.data_type().is_integer() {
            return Ok(Steps::Positions(cast(array, &DataType::Int64)?.as_primitive().clone()));
        }
        Ok(Steps::Keys(cast(array, &DataType::Utf8)?.as_string().clone()))
    }

    fn take(&self, row: usize, value: Value) -> Option<Value> {
        match (self, value) {
            (Steps::Keys(keys), Value::Object(mut object)) => {
                if keys.is_null(row) {
                    None
                } else {
                    object.remove(keys.value(row))
                }
            }
            (Steps::Positions(positions), Value::Array(mut items)) => {
                if positions.is_null(row) {
                    return None;
                }
                let position = positions.value(row);
                let from_end = i64::try_from(items.len()).ok()?.checked_add(position);
                let position = usize::try_from(if position < 0 { from_end? } else { position }).ok()?;
                if position < items.len() { Some(items.swap_remove(position)) } else { None }
            }
            _ => None,
        }
    }
}

/// Plans `->`, `->>` and `?`.
#[derive(Debug)]
pub(crate) struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match expr.op {
            BinaryOperator::Arrow => JsonFn::GetJson,
            BinaryOperator::LongArrow => JsonFn::AsText,
            BinaryOperator::Question => JsonFn::Contains,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        // The column is called as it was written.
        let name = format!("{} {} {}", shown(&expr.left), expr.op, shown(&expr.right));
        let call = Expr::ScalarFunction(ScalarFunction { func: udf(function), args: vec![expr.left, expr.right] });
        Ok(PlannerResult::Planned(Expr::Alias(Alias::new(call, None::<&str>, name))))
    }
}

fn shown(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        Expr::Alias(alias) => alias.name.clone(),
        Expr::Literal(value, _) => match value.try_as_str() {
            Some(Some(text)) => format!("'{text}'"),
            _ => value.to_string(),
        },
        other => other.to_string(),
    }
}
