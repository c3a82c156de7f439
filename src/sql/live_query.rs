//! Queries that are kept live: compiled once, then asked of each change which of its rows they select.
//!
//! Owns what can be kept live, and the predicates and projections of live queries. Both are planned by the planner of
//! SELECT and evaluated by DataFusion's own expressions: there is no second evaluator.
//! Never answers with a query that it could not keep: what changes without a row changing is refused by name.
//! Invariants: LQ-4 (live result = SELECT at the same position), LQ-3 (the owner is chosen by whoever feeds it rows).

pub(crate) mod namespace;
mod shape;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast;

use super::engine::{OwnerScope, QueryContext, from_datafusion, logical_plan, result_schema};
use super::functions::CALLER_FUNCTIONS;
use super::partition_table::PartitionTable;
use crate::error::{Error, Result};
use crate::live::query::LiveQuery;
use crate::live::{Equality, EqualityValue};
use crate::model::schema::{SEQ_COLUMN, USER_ID_COLUMN};
use crate::model::{DataType, ResultSchema, TableKind, TableMeta};

/// Compiles `statement`, which `engine::prepare` has prepared.
///
/// # Errors
/// `INVALID_SQL` naming what can not be kept live; what planning the SELECT answers.
pub(crate) fn compile(
    state: &SessionState,
    ctx: &QueryContext,
    statement: &ast::Statement,
) -> Result<Arc<dyn LiveQuery>> {
    shape::check(statement)?;
    if let Some(view) = shape::relation(statement).and_then(|(n, t)| ctx.catalog.find_view(&n, &t)) {
        let text =
            format!("view {} cannot be kept live; subscribe to the table below it, with the view's filter", view.name);
        return Err(Error::Unsupported(text));
    }
    let plan = logical_plan(state, ctx, statement.clone())?;
    let schema = result_schema(&plan);
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).map_err(from_datafusion)?;
    let parts = Parts::of(&plan)?;
    let all_owners = ctx.scope == OwnerScope::All;
    if all_owners && parts.table.kind == TableKind::Shared {
        let text =
            format!("EXECUTE AS USER '*' is about USER and STREAM tables; {} is a SHARED table", parts.table.name);
        return Err(Error::Unsupported(text));
    }
    let rows = parts.table.shown_schema(all_owners);
    let mut names_caller = false;
    for expr in parts.projection.iter().chain(parts.predicate) {
        names_caller |= check_expr(expr)?;
    }
    let compiler = Compiler { state, rows: parts.rows };
    let filter = parts.predicate.map(|predicate| compiler.simplified(predicate)).transpose()?;
    let equality = filter.as_ref().and_then(|filter| equality(filter, &parts.table));
    let predicate = filter.map(|filter| compiler.compiled(&filter)).transpose()?;
    let projection = Projection::new(&compiler, &parts, &rows)?;
    let mut identity = statement.to_string();
    if names_caller {
        // The same text means something else to each caller. No SQL text contains the separator.
        identity = format!("{identity}\0{}\0{}", ctx.principal.user, ctx.principal.role);
    }
    Ok(Arc::new(CompiledQuery {
        key: parts.key_positions(),
        table: parts.table,
        all_owners,
        sees_tombstones: parts.sees_tombstones,
        schema,
        predicate,
        equality,
        projection,
        identity,
    }))
}

#[derive(Debug)]
struct CompiledQuery {
    table: Arc<TableMeta>,
    all_owners: bool,
    sees_tombstones: bool,
    schema: ResultSchema,
    key: Vec<Option<usize>>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    equality: Option<Equality>,
    projection: Projection,
    identity: String,
}

impl LiveQuery for CompiledQuery {
    fn table(&self) -> &Arc<TableMeta> {
        &self.table
    }

    fn all_owners(&self) -> bool {
        self.all_owners
    }

    fn sees_tombstones(&self) -> bool {
        self.sees_tombstones
    }

    fn schema(&self) -> &ResultSchema {
        &self.schema
    }

    fn key_positions(&self) -> &[Option<usize>] {
        &self.key
    }

    fn matches(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let all = |value: bool| {
            let bits = if value { BooleanBuffer::new_set } else { BooleanBuffer::new_unset };
            BooleanArray::new(bits(rows.num_rows()), None)
        };
        let Some(predicate) = &self.predicate else { return Ok(all(true)) };
        let rows = &self.shown(rows)?;
        let selected =
            predicate.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).map_err(from_datafusion)?;
        match selected.as_boolean_opt() {
            Some(selected) if selected.null_count() > 0 => Ok(prep_null_mask_filter(selected)),
            Some(selected) => Ok(selected.clone()),
            // A predicate that is NULL for every row has no other type.
            None => Ok(all(false)),
        }
    }

    fn project(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let Projection { exprs, schema } = &self.projection;
        let rows = &self.shown(rows)?;
        let columns = exprs
            .iter()
            .map(|expr| expr.evaluate(rows)?.into_array(rows.num_rows()))
            .collect::<datafusion::common::Result<Vec<_>>>()
            .map_err(from_datafusion)?;
        RecordBatch::try_new(schema.clone(), columns).map_err(|error| from_datafusion(error.into()))
    }

    fn equality(&self) -> Option<&Equality> {
        self.equality.as_ref()
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}

impl CompiledQuery {
    /// Stored rows with the columns that the statement was planned over.
    fn shown<'r>(&self, rows: &'r RecordBatch) -> Result<Cow<'r, RecordBatch>> {
        if !self.table.is_stream() {
            return Ok(Cow::Borrowed(rows));
        }
        let deleted = self.table.columns.len() + 1;
        let shown: Vec<usize> = (0..rows.num_columns()).filter(|position| *position != deleted).collect();
        rows.project(&shown).map(Cow::Owned).map_err(|error| from_datafusion(error.into()))
    }
}

/// What subscribers see: the selected columns, and `_seq` where it is not among them.
#[derive(Debug)]
struct Projection {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl Projection {
    fn new(compiler: &Compiler<'_>, parts: &Parts<'_>, rows: &Schema) -> Result<Self> {
        let mut exprs = Vec::with_capacity(parts.projection.len() + 1);
        let mut fields = Vec::with_capacity(parts.projection.len() + 1);
        for (expr, field) in parts.projection.iter().zip(parts.output.fields()) {
            let expr = compiler.physical(expr)?;
            let data_type = expr.data_type(rows).map_err(from_datafusion)?;
            fields.push(Field::new(field.name(), data_type, true));
            exprs.push(expr);
        }
        if !fields.iter().any(|field| field.name() == SEQ_COLUMN) {
            let (qualifier, field) =
                parts.rows.qualified_field_with_unqualified_name(SEQ_COLUMN).map_err(from_datafusion)?;
            exprs.push(compiler.physical(&Expr::Column((qualifier, field).into()))?);
            fields.push(Field::new(SEQ_COLUMN, ArrowType::Int64, true));
        }
        Ok(Self { exprs, schema: Arc::new(Schema::new(fields)) })
    }
}

/// The pieces of an analysed `SELECT … FROM table [WHERE …]`.
struct Parts<'a> {
    table: Arc<TableMeta>,
    sees_tombstones: bool,
    /// The table's rows under the names that the expressions use; its columns are the table's full schema.
    rows: &'a DFSchemaRef,
    predicate: Option<&'a Expr>,
    projection: &'a [Expr],
    output: &'a DFSchemaRef,
}

impl<'a> Parts<'a> {
    fn of(plan: &'a LogicalPlan) -> Result<Parts<'a>> {
        let LogicalPlan::Projection(projection) = plan else { return Err(refused_node(plan)) };
        let (predicate, source) = match &*projection.input {
            LogicalPlan::Filter(filter) => (Some(&filter.predicate), &filter.input),
            _ => (None, &projection.input),
        };
        let mut node = source;
        while let LogicalPlan::SubqueryAlias(alias) = &**node {
            node = &alias.input;
        }
        let LogicalPlan::TableScan(scan) = &**node else { return Err(refused_node(node)) };
        let provider = source_as_provider(&scan.source).map_err(from_datafusion)?;
        let Some(table) = provider.downcast_ref::<PartitionTable>() else {
            return Err(refused(&format!("{}, which is computed when it is read,", scan.table_name)));
        };
        Ok(Parts {
            table: table.meta().clone(),
            sees_tombstones: table.shows_tombstones(),
            rows: source.schema(),
            predicate,
            projection: &projection.expr,
            output: &projection.schema,
        })
    }

    fn key_positions(&self) -> Vec<Option<usize>> {
        let names = self.table.primary_key.iter().map(|column| self.table.columns[*column].name.as_str());
        let is = |expr: &Expr, name: &str| match expr.clone().unalias_nested().data {
            Expr::Column(column) => column.name == name,
            _ => false,
        };
        names.map(|name| self.projection.iter().position(|expr| is(expr, name))).collect()
    }
}

/// Makes expressions that can be evaluated over rows of a schema.
pub(crate) struct Compiler<'a> {
    pub(crate) state: &'a SessionState,
    pub(crate) rows: &'a DFSchemaRef,
}

impl Compiler<'_> {
    /// Simplified as the optimiser of SELECT does it, then compiled.
    pub(crate) fn physical(&self, expr: &Expr) -> Result<Arc<dyn PhysicalExpr>> {
        self.compiled(&self.simplified(expr)?)
    }

    fn simplified(&self, expr: &Expr) -> Result<Expr> {
        let context = SimplifyContext::builder()
            .with_schema(self.rows.clone())
            .with_config_options(self.state.config_options().clone())
            .with_query_execution_start_time(self.state.execution_props().query_execution_start_time)
            .build();
        ExprSimplifier::new(context).simplify(expr.clone().unalias_nested().data).map_err(from_datafusion)
    }

    fn compiled(&self, expr: &Expr) -> Result<Arc<dyn PhysicalExpr>> {
        self.state.create_physical_expr(expr.clone(), self.rows).map_err(from_datafusion)
    }
}

/// A column of the table, or the owner, that `filter` compares with a value of the column's own type: one of the parts that must
/// all be true.
fn equality(filter: &Expr, table: &TableMeta) -> Option<Equality> {
    split_conjunction(filter).into_iter().find_map(|part| {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part else { return None };
        let (Expr::Column(column), Expr::Literal(literal, _)) = (&**left, &**right) else { return None };
        let own = table.columns.iter().find(|own| own.name.as_str() == column.name).map(|own| own.data_type);
        let data_type = own.or_else(|| (column.name == USER_ID_COLUMN).then_some(DataType::Text))?;
        let value = match (data_type, literal) {
            (DataType::SmallInt, ScalarValue::Int16(Some(value))) => EqualityValue::Int(i64::from(*value)),
            (DataType::Int, ScalarValue::Int32(Some(value))) => EqualityValue::Int(i64::from(*value)),
            (DataType::BigInt, ScalarValue::Int64(Some(value))) => EqualityValue::Int(*value),
            (DataType::Text, ScalarValue::Utf8(Some(value))) => EqualityValue::Text(value.as_str().into()),
            _ => return None,
        };
        Some(Equality { column: column.name.clone(), value })
    })
}

/// Refuses what can change without the row changing. Tells whether `expr` names its caller.
fn check_expr(expr: &Expr) -> Result<bool> {
    let mut names_caller = false;
    let mut fault = None;
    expr.apply(|node| {
        match node {
            Expr::ScalarFunction(call) => {
                names_caller |= CALLER_FUNCTIONS.contains(&call.name());
                if call.func.signature().volatility != Volatility::Immutable {
                    fault = Some(refused(&format!("{}()", call.name().to_uppercase())));
                }
            }
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                fault = Some(refused("a sub-query"));
            }
            Expr::AggregateFunction(_) => fault = Some(refused("an aggregate")),
            Expr::WindowFunction(_) => fault = Some(refused("a window function")),
            _ => {}
        }
        Ok(if fault.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(from_datafusion)?;
    fault.map_or(Ok(names_caller), Err)
}

fn refused_node(plan: &LogicalPlan) -> Error {
    match plan {
        LogicalPlan::Aggregate(_) => refused("an aggregate"),
        LogicalPlan::Window(_) => refused("a window function"),
        other => refused(&other.display().to_string()),
    }
}

fn refused(what: &str) -> Error {
    Error::Unsupported(format!("{what} cannot be kept live; a subscription is SELECT … FROM namespace.table [WHERE …]"))
}

#[cfg(test)]
mod tests;
