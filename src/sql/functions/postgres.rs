//! PostgreSQL's names of functions that DataFusion calls otherwise, and MOD, which it has as an operator only.
//!
//! Owns the names. What the functions do is DataFusion's.

use std::sync::Arc;

use arrow::compute::kernels::numeric::rem;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub(crate) fn mod_function() -> Arc<ScalarUDF> {
    Arc::new(ModFn { signature: Signature::numeric(2, Volatility::Immutable) }.into())
}

pub(crate) fn scalar(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let name = match function.name() {
        "signum" => "sign",
        "ceil" => "ceiling",
        "uuid" => "gen_random_uuid",
        _ => return function,
    };
    Arc::new(function.as_ref().clone().with_aliases([name]))
}

pub(crate) fn aggregate(function: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    let name = match function.name() {
        "bool_and" => "every",
        "var" => "variance",
        _ => return function,
    };
    Arc::new(function.as_ref().clone().with_aliases([name]))
}

/// What `%` is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ModFn {
    signature: Signature,
}

impl ScalarUDFImpl for ModFn {
    fn name(&self) -> &str {
        "mod"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Both arguments have been made of one type.
    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let first = arguments.first().cloned();
        first.ok_or_else(|| DataFusionError::Plan("mod takes two numbers".to_owned()))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [dividend, divisor] = arrays.as_slice() else {
            return Err(DataFusionError::Plan("mod takes two numbers".to_owned()));
        };
        Ok(ColumnarValue::Array(rem(dividend, divisor)?))
    }
}
