//! Plans that are kept: a query that comes again is not planned again (S16).
//!
//! Owns what may be kept, and for whom: the same statement with the same parameters, of the same caller with the same
//! rights, over the same version of the catalog. Any DDL makes a new version, and drops all that is kept.
//! Never keeps a view of the store: a plan is kept with its tables detached, and attached to the view of each statement.
//! Not kept: what is planned on trial, over a catalog that may come of a change; EXPLAIN; long texts, which do not come twice; what reads anything but tables of the catalog; what calls a
//! function whose value the moment decides (`NOW()`, `UUID_V7()`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::Result as PlanResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, Volatility};
use datafusion::sql::sqlparser::ast;
use moka::sync::Cache;

use super::{OwnerScope, QueryContext, from_datafusion, names};
use crate::error::Result;
use crate::metrics::QueryMetrics;
use crate::model::{ResultSchema, Role, UserId};
use crate::sql::partition_table::PartitionTable;
use crate::storage::ReadView;

/// Of a statement, its parameters written into it: longer ones are batches of literals.
const TEXT_MAX: usize = 4 << 10;

#[derive(Debug, PartialEq, Eq, Hash)]
struct PlanKey {
    statement: ast::Statement,
    namespace: String,
    user: UserId,
    role: Role,
    generation: u32,
    all_owners: bool,
    catalog_version: u64,
}

/// Optimised, its tables detached.
struct KeptPlan {
    plan: LogicalPlan,
    schema: ResultSchema,
}

pub(super) struct PlanCache {
    plans: Cache<Arc<PlanKey>, Arc<KeptPlan>>,
    entries: u64,
    /// The newest that was seen.
    catalog_version: AtomicU64,
    metrics: QueryMetrics,
}

impl PlanCache {
    /// `entries`: plans at most; 0 keeps none.
    pub(super) fn new(entries: u64, metrics: QueryMetrics) -> Self {
        Self { plans: Cache::new(entries), entries, catalog_version: AtomicU64::new(0), metrics }
    }

    pub(super) fn len(&self) -> u64 {
        self.plans.run_pending_tasks();
        self.plans.entry_count()
    }

    /// The optimised plan of `statement`, which was prepared, and the columns of its result.
    ///
    /// # Errors
    /// Those of planning.
    pub(super) fn plan(
        &self,
        state: &SessionState,
        ctx: &QueryContext,
        statement: ast::Statement,
    ) -> Result<(LogicalPlan, ResultSchema)> {
        let Some(key) = self.key(ctx, &statement) else {
            let (plan, schema) = names::plan_named(state, ctx, statement)?;
            return Ok((state.optimize(&plan).map_err(from_datafusion)?, schema));
        };
        if let Some(kept) = self.plans.get(&key) {
            self.metrics.plan(true);
            return Ok((attached(kept.plan.clone(), Some(&ctx.view))?, kept.schema.clone()));
        }
        self.metrics.plan(false);
        let (plan, schema) = names::plan_named(state, ctx, statement)?;
        let keeps = may_keep(&plan).map_err(from_datafusion)? && key.statement.to_string().len() <= TEXT_MAX;
        let plan = state.optimize(&plan).map_err(from_datafusion)?;
        if keeps {
            let kept = KeptPlan { plan: attached(plan.clone(), None)?, schema: schema.clone() };
            self.plans.insert(key, Arc::new(kept));
        }
        Ok((plan, schema))
    }

    fn key(&self, ctx: &QueryContext, statement: &ast::Statement) -> Option<Arc<PlanKey>> {
        if self.entries == 0 || ctx.catalog.is_trial || !matches!(statement, ast::Statement::Query(_)) {
            return None;
        }
        let version = ctx.catalog.version;
        let newest = self.catalog_version.fetch_max(version, Ordering::Relaxed);
        if newest < version {
            // Those of older versions are not found any more: this gives their memory back.
            self.plans.invalidate_all();
            if newest > 0 {
                self.metrics.plans_invalidated();
            }
        }
        Some(Arc::new(PlanKey {
            statement: statement.clone(),
            namespace: ctx.namespace.clone(),
            user: ctx.principal.user.clone(),
            role: ctx.principal.role,
            generation: ctx.principal.generation,
            all_owners: ctx.scope == OwnerScope::All,
            catalog_version: version,
        }))
    }
}

/// `plan` over `view`, or over none.
fn attached(plan: LogicalPlan, view: Option<&ReadView>) -> Result<LogicalPlan> {
    let attach = |node| match node {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source)?;
            let Some(table) = provider.downcast_ref::<PartitionTable>() else {
                return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
            };
            let source = provider_as_source(Arc::new(table.over(view.cloned())));
            Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
        }
        other => Ok(Transformed::no(other)),
    };
    plan.transform_down_with_subqueries(attach).data().map_err(from_datafusion)
}

/// Does `plan`, as it was written, depend on nothing but its key?
fn may_keep(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut keeps = true;
    plan.apply_with_subqueries(|node| {
        keeps = match node {
            LogicalPlan::TableScan(scan) => source_as_provider(&scan.source)
                .is_ok_and(|provider| provider.downcast_ref::<PartitionTable>().is_some()),
            // A recursive query reads itself; what else there may be is not known.
            LogicalPlan::RecursiveQuery(_) | LogicalPlan::Extension(_) => false,
            _ => true,
        };
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(function) = expr
                    && function.func.signature().volatility != Volatility::Immutable
                {
                    keeps = false;
                }
                Ok(if keeps { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })?;
        Ok(if keeps { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(keeps)
}
