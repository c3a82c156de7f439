//! Whole numbers as PostgreSQL has them: a sum, difference or product that does not fit its type is refused, and a cast to
//! an integer rounds. DataFusion alone would answer with what is left of the bits, and cut fractions off.
//!
//! Owns the rewriting of expressions whose types are known. Queries, live queries, CHECK and the expressions of writes are
//! all analysed, so all of them compute alike.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Datum};
use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr_common::datum::apply;

/// Behind the rule that gives both sides of an operator one type.
#[derive(Debug)]
pub(super) struct ExactIntegers;

impl AnalyzerRule for ExactIntegers {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expr.transform_up(|expr| Ok(exact(expr, &schema)))?.update_data(|expr| name.restore(expr)))
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "exact_integers"
    }
}

fn exact(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let of = |expr: &Expr| expr.get_type(schema).ok();
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply)
                && of(&left).is_some_and(|ty| ty.is_signed_integer())
                && of(&left) == of(&right) =>
        {
            let signature = Signature::any(2, Volatility::Immutable);
            let function = Arc::new(ScalarUDF::from(CheckedFn { op, signature }));
            Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![*left, *right])))
        }
        Expr::Cast(Cast { expr, field }) if field.data_type().is_signed_integer() => match rounded(&expr, schema) {
            Some(rounded) => Transformed::yes(Expr::Cast(Cast { expr: Box::new(rounded), field })),
            None => Transformed::no(Expr::Cast(Cast { expr, field })),
        },
        Expr::TryCast(TryCast { expr, field }) if field.data_type().is_signed_integer() => {
            match rounded(&expr, schema) {
                Some(rounded) => Transformed::yes(Expr::TryCast(TryCast { expr: Box::new(rounded), field })),
                None => Transformed::no(Expr::TryCast(TryCast { expr, field })),
            }
        }
        other => Transformed::no(other),
    }
}

/// `None`: it has no fraction.
fn rounded(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    match expr.get_type(schema).ok()? {
        DataType::Float32 | DataType::Float64 => {
            let signature = Signature::any(1, Volatility::Immutable);
            let function = Arc::new(ScalarUDF::from(RoundFn { signature }));
            Some(Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![expr.clone()])))
        }
        // A cast to fewer digits behind the point rounds; one before it for what is rounded up to ten.
        DataType::Decimal128(precision, scale) if scale > 0 => {
            let whole = (precision.saturating_sub(scale.unsigned_abs()) + 1).min(38);
            Some(Expr::Cast(Cast::new(Box::new(expr.clone()), DataType::Decimal128(whole, 0))))
        }
        _ => None,
    }
}

/// An operator that refuses what does not fit.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedFn {
    op: Operator,
    signature: Signature,
}

impl ScalarUDFImpl for CheckedFn {
    fn name(&self) -> &str {
        match self.op {
            Operator::Plus => "checked_add",
            Operator::Minus => "checked_subtract",
            _ => "checked_multiply",
        }
    }

    /// A column is called by what was written.
    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let names: Vec<String> = arguments.iter().map(|argument| argument.schema_name().to_string()).collect();
        Ok(names.join(&format!(" {} ", self.op)))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        arguments.first().cloned().ok_or_else(|| DataFusionError::Plan(format!("{} takes two numbers", self.op)))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        field(self.name(), &arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = arguments.args.as_slice() else {
            return Err(DataFusionError::Plan(format!("{} takes two numbers", self.op)));
        };
        let compute: fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError> = match self.op {
            Operator::Plus => add,
            Operator::Minus => sub,
            _ => mul,
        };
        apply(left, right, compute)
    }
}

/// To a whole number, halves to the even neighbour.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RoundFn {
    signature: Signature,
}

impl ScalarUDFImpl for RoundFn {
    fn name(&self) -> &str {
        "round_to_even"
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(arguments.first().map(|argument| argument.schema_name().to_string()).unwrap_or_default())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        arguments.first().cloned().ok_or_else(|| DataFusionError::Plan("round takes a number".to_owned()))
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        field(self.name(), &arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let rounded = arrays.first().and_then(|array| {
            let doubles = array.as_primitive_opt::<Float64Type>();
            let floats = array.as_primitive_opt::<Float32Type>();
            let doubles = doubles.map(|a| Arc::new(a.unary::<_, Float64Type>(f64::round_ties_even)) as ArrayRef);
            doubles.or_else(|| floats.map(|a| Arc::new(a.unary::<_, Float32Type>(f32::round_ties_even)) as ArrayRef))
        });
        rounded.map(ColumnarValue::Array).ok_or_else(|| DataFusionError::Plan("round takes a number".to_owned()))
    }
}

/// Of the first argument's type; NULL where an argument may be.
fn field(name: &str, arguments: &ReturnFieldArgs) -> Result<FieldRef> {
    let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
    let first = arguments.arg_fields.first();
    let ty = first.ok_or_else(|| DataFusionError::Plan(format!("{name} takes a number")))?.data_type().clone();
    Ok(Arc::new(Field::new(name, ty, nullable)))
}
