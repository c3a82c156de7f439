//! The functions whose value the statement decides: who asks, when, and fresh ids.
//!
//! Owns the mark of a parameter, CURRENT_USER, CURRENT_USER_ID, CURRENT_ROLE, NOW, CURRENT_TIMESTAMP, SNOWFLAKE_ID, UUID_V7 and ULID.
//! Never reads a clock: the statement's time comes in. All other functions are DataFusion's.

pub(crate) mod growing;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use crate::model::Principal;
use crate::sql::bind::IdSource;

/// Names of the caller's functions that may be written without parentheses but are plain identifiers to the parser.
pub(crate) const CALLER_FUNCTIONS: &[&str] = &["current_user", "current_user_id", "current_role"];

/// Stands around a parameter where it meets another value: see [`engine::prepare`](super::engine::prepare). It is its argument.
pub(crate) const PARAMETER: &str = "__parameter";
/// The names of all functions here.
pub(crate) const STATEMENT_FUNCTIONS: &[&str] =
    &["current_user", "current_user_id", "current_role", "now", "current_timestamp", "snowflake_id", "uuid_v7", "ulid"];

/// The functions of one statement.
#[derive(Clone)]
pub(crate) struct StatementFunctions {
    pub principal: Principal,
    pub now_us: i64,
    pub ids: Arc<IdSource>,
}

impl StatementFunctions {
    /// `name` in lower case. `None`: not one of ours.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        // The caller's functions are constants of a live query too: its subscriber stays who they are.
        let caller = |name, text: &str| ConstantFn::new(name, ScalarValue::from(text), Volatility::Immutable).into();
        let moment = |name| {
            ConstantFn::new(name, ScalarValue::TimestampMicrosecond(Some(self.now_us), None), Volatility::Stable).into()
        };
        let function: ScalarUDF = match name {
            "current_user" => caller("current_user", self.principal.user.as_str()),
            "current_user_id" => caller("current_user_id", self.principal.user.as_str()),
            "current_role" => caller("current_role", self.principal.role.as_str()),
            "now" => moment("now"),
            "current_timestamp" => moment("current_timestamp"),
            "snowflake_id" => self.fresh(IdKind::Snowflake),
            "uuid_v7" => self.fresh(IdKind::UuidV7),
            "ulid" => self.fresh(IdKind::Ulid),
            PARAMETER => ParameterFn { signature: Signature::any(1, Volatility::Immutable) }.into(),
            _ => return None,
        };
        Some(Arc::new(function))
    }

    fn fresh(&self, kind: IdKind) -> ScalarUDF {
        let signature = Signature::nullary(Volatility::Volatile);
        FreshIdFn { kind, ids: self.ids.clone(), now_us: self.now_us, signature }.into()
    }
}

/// One value for the whole statement.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ConstantFn {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl ConstantFn {
    fn new(name: &'static str, value: ScalarValue, volatility: Volatility) -> Self {
        Self { name, value, signature: Signature::nullary(volatility) }
    }
}

impl ScalarUDFImpl for ConstantFn {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }

    /// Lets predicates on it be pushed down and folded like any literal.
    fn simplify(&self, _arguments: Vec<Expr>, _info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(ExprSimplifyResult::Simplified(lit(self.value.clone())))
    }
}

/// A parameter as it was sent.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ParameterFn {
    signature: Signature,
}

impl ScalarUDFImpl for ParameterFn {
    fn name(&self) -> &str {
        PARAMETER
    }

    /// A column is called by what was sent.
    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(arguments.first().map(|argument| argument.schema_name().to_string()).unwrap_or_default())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(arguments.args.pop().unwrap_or(ColumnarValue::Scalar(ScalarValue::Null)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum IdKind {
    Snowflake,
    UuidV7,
    Ulid,
}

/// Another id for each row.
struct FreshIdFn {
    kind: IdKind,
    ids: Arc<IdSource>,
    now_us: i64,
    signature: Signature,
}

impl ScalarUDFImpl for FreshIdFn {
    fn name(&self) -> &str {
        match self.kind {
            IdKind::Snowflake => "snowflake_id",
            IdKind::UuidV7 => "uuid_v7",
            IdKind::Ulid => "ulid",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            IdKind::Snowflake => DataType::Int64,
            IdKind::UuidV7 | IdKind::Ulid => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = 0..arguments.number_rows;
        let ids: ArrayRef = match self.kind {
            IdKind::Snowflake => Arc::new(Int64Array::from_iter_values(rows.map(|_| self.ids.snowflake(self.now_us)))),
            IdKind::UuidV7 => {
                Arc::new(StringArray::from_iter_values(rows.map(|_| self.ids.uuid_v7(self.now_us).to_string())))
            }
            IdKind::Ulid => Arc::new(StringArray::from_iter_values(rows.map(|_| self.ids.ulid(self.now_us)))),
        };
        Ok(ColumnarValue::Array(ids))
    }
}

impl std::fmt::Debug for FreshIdFn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FreshIdFn").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl PartialEq for FreshIdFn {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && Arc::ptr_eq(&self.ids, &other.ids)
    }
}

impl Eq for FreshIdFn {}

impl Hash for FreshIdFn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}
