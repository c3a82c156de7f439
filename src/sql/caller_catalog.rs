//! What a caller can name: tables, views, functions, `system.*` and `information_schema.*`.
//!
//! Owns the way from a name in a query to a table: a USER table becomes the caller's own partition here, before
//! anything is planned. What the caller may not see is denied or, in lists, not there.
//! Never reads rows.
//! Invariant: LQ-3, no other place makes a [`PartitionTable`] for a query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::catalog::{MemTable, TableFunctionArgs, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, Result, TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};

use super::engine::{OwnerScope, QueryContext, TypeNames};
use super::functions::{STATEMENT_FUNCTIONS, StatementFunctions};
use super::live_query::namespace::ALL_TABLES;
use super::partition_table::{PartitionTable, RowScope};
use super::system_tables::{InformationTable, SystemTable};
use super::view::{self, NamedObjects};
use crate::auth::policy::Policy;
use crate::error::{self, Error};
use crate::model::{Owner, TableKind, TableMeta};

/// The one catalog, as SQL names it.
pub(crate) const CATALOG: &str = "kalam";
const INFORMATION_SCHEMA: &str = "information_schema";
const SYSTEM_SCHEMA: &str = "system";

/// Answers the planner's questions about names.
pub(crate) struct CallerCatalog<'a> {
    ctx: &'a QueryContext,
    state: &'a SessionState,
    named: &'a NamedObjects,
    functions: StatementFunctions,
}

impl<'a> CallerCatalog<'a> {
    pub(crate) fn new(ctx: &'a QueryContext, state: &'a SessionState, named: &'a NamedObjects) -> Self {
        let functions =
            StatementFunctions { principal: ctx.principal.clone(), now_us: ctx.now_us, ids: ctx.ids.clone() };
        Self { ctx, state, named, functions }
    }

    fn function_names(&self) -> Vec<String> {
        let of_engine = self.state.scalar_functions().keys().chain(self.state.aggregate_functions().keys());
        let of_engine = of_engine.chain(self.state.window_functions().keys()).cloned();
        let mut names: Vec<String> =
            of_engine.chain(STATEMENT_FUNCTIONS.iter().map(|name| (*name).to_owned())).collect();
        names.sort();
        names.dedup();
        names
    }

    fn provider(&self, name: &TableReference) -> error::Result<Arc<dyn TableProvider>> {
        let schema = name.schema().unwrap_or(&self.ctx.namespace);
        let table = name.table();
        let missing = || Error::TableNotFound(format!("{schema}.{table}"));
        if name.catalog().is_some_and(|catalog| catalog != CATALOG) {
            return Err(Error::TableNotFound(name.to_string()));
        }
        if is_system(schema) {
            Policy.may_read_system(&self.ctx.principal)?;
            self.named.note_system();
            return system_table(self.ctx, SystemTable::named(table).ok_or_else(missing)?);
        }
        if schema.eq_ignore_ascii_case(INFORMATION_SCHEMA) {
            let table = InformationTable::named(table).ok_or_else(missing)?;
            let rows =
                table.rows(&self.ctx.catalog, &self.ctx.principal, &self.function_names()).map_err(Error::internal)?;
            return in_memory(rows);
        }
        if table == ALL_TABLES {
            let text = format!("FROM {schema}.* is for a subscription: EXECUTE AS USER '*' (SELECT … FROM {schema}.*)");
            return Err(Error::Unsupported(text));
        }
        if let Some(view) = self.ctx.catalog.find_view(schema, table) {
            self.named.note(&view.name);
            return Ok(view::table_of(self.state, self.ctx, view, self.named)?);
        }
        let meta = self.ctx.catalog.table(schema, table)?;
        self.named.note(&meta.name);
        Policy.may_read(&self.ctx.principal, meta)?;
        let scope = row_scope(&self.ctx.scope, meta);
        Ok(Arc::new(PartitionTable::new(meta.clone(), scope, self.ctx.view.clone())))
    }
}

/// Whose rows of `meta` a statement in `scope` reads. A SHARED table has one partition, whoever asks.
pub(crate) fn row_scope(scope: &OwnerScope, meta: &TableMeta) -> RowScope {
    match (meta.kind, scope) {
        (TableKind::Shared, _) => RowScope::Partition(Owner::Shared),
        (TableKind::User | TableKind::Stream, OwnerScope::One(user)) => RowScope::Partition(meta.owner_for(user)),
        (TableKind::User | TableKind::Stream, OwnerScope::All) => RowScope::AllOwners,
    }
}

fn is_system(schema: &str) -> bool {
    schema.eq_ignore_ascii_case(SYSTEM_SCHEMA) || schema.eq_ignore_ascii_case("sys")
}

fn system_table(ctx: &QueryContext, table: SystemTable) -> error::Result<Arc<dyn TableProvider>> {
    let rows = table.rows(&ctx.catalog, &*ctx.system).map_err(Error::internal)?;
    in_memory(rows)
}

fn in_memory(rows: RecordBatch) -> error::Result<Arc<dyn TableProvider>> {
    let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(Error::internal)?;
    Ok(Arc::new(table))
}

impl ContextProvider for CallerCatalog<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let provider = self.provider(&name).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(provider_as_source(provider))
    }

    fn get_table_function_source(&self, name: &str, arguments: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        let Some(function) = self.state.table_functions().get(name) else {
            return plan_err!("Invalid table function '{name}'");
        };
        let arguments = TableFunctionArgs::new(&arguments, self.state);
        Ok(provider_as_source(function.create_table_provider_with_args(arguments)?))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(TypeNames))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.get(name).or_else(|| self.state.scalar_functions().get(name).cloned())
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}
