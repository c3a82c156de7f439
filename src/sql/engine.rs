//! The query engine: a parsed SELECT or EXPLAIN to a stream of record batches.
//!
//! Owns the one runtime on which queries are planned and run, their memory, their deadline and their cancellation.
//! Never runs on an arbiter or an HTTP worker, never writes, and reaches no file and no network: there is no way to
//! name one in SQL.
//! A panic in a query ends that query. Whoever drops the answer stops the work.
//! Start at [`Engine::query`].

mod answer;
mod bounds;
mod breathe;
mod caller;
mod fault;
mod literals;
mod memory;
mod names;
mod origin;
mod plan;
mod plan_cache;
mod prepare;
mod row_exprs;
mod tombstones;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateDefaults, TaskContext};
use datafusion::optimizer::Analyzer;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::bind::IdSource;
use super::caller_catalog::CATALOG;
use super::functions::growing::bounded;
use super::json_functions::{self, JsonOperators};
use super::live_query;
use super::partition_table::{SplitScans, TurnScans};
use super::system_tables::SystemData;
use super::view::{self, QueryShape};
use crate::error::{Error, Result};
use crate::live::query::LiveQuery;
use crate::metrics::{Metrics, QueryEnd};
use crate::model::{Catalog, Param, Principal, ResultSchema, UserId};
use crate::storage::ReadView;

use answer::Answers;
pub use answer::BatchStream;
pub use bounds::QueryBounds;
use breathe::BreathingJoins;
pub use caller::{CallerGone, CallerWatch};
pub(crate) use fault::from_datafusion;
pub(crate) use literals::TypeNames;
use literals::TypedLiterals;
pub(crate) use origin::result_schema;
pub(crate) use plan::{logical_plan, plan_naming};
use plan_cache::PlanCache;
pub(crate) use prepare::prepare;
pub use row_exprs::RowExprs;

const BATCH_ROWS: usize = 8192;

#[derive(Debug, Clone)]
pub struct EngineConfig {
    pub threads: usize,
    /// Cold rows that are worth a further thread.
    pub rows_per_thread: u64,
    /// All queries together; one that needs more ends in `OUT_OF_MEMORY`.
    pub memory_limit_bytes: usize,
    /// One query.
    pub query_memory_limit_bytes: usize,
    /// Plans that are kept; 0: none.
    pub plan_cache_entries: u64,
    /// From the call to the last batch.
    pub statement_timeout: Duration,
    pub bounds: QueryBounds,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            threads: 2,
            rows_per_thread: 65_536,
            memory_limit_bytes: 256 << 20,
            query_memory_limit_bytes: 128 << 20,
            plan_cache_entries: 200,
            statement_timeout: Duration::from_secs(30),
            bounds: QueryBounds::default(),
        }
    }
}

/// Whose rows of USER tables a statement addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerScope {
    One(UserId),
    /// `EXECUTE AS USER '*'`: the feed of all owners. `auth::Policy` has allowed it.
    All,
}

/// Everything that a query's meaning depends on beside its text.
#[derive(Clone)]
pub struct QueryContext {
    /// Inside `EXECUTE AS USER` its target.
    pub principal: Principal,
    pub scope: OwnerScope,
    /// Of unqualified table names.
    pub namespace: String,
    pub params: Arc<[Param]>,
    /// The one moment that the whole statement reads.
    pub view: ReadView,
    pub catalog: Arc<Catalog>,
    pub system: Arc<dyn SystemData>,
    pub now_us: i64,
    pub ids: Arc<IdSource>,
    pub caller: CallerGone,
}

/// Runs queries. One per server.
pub struct Engine {
    /// `None` only while being dropped.
    runtime: Option<Runtime>,
    base: SessionState,
    timeout: Duration,
    query_memory_limit: usize,
    plans: Arc<PlanCache>,
    metrics: Arc<Metrics>,
}

/// The answer of a query: its columns, and its rows as they come.
pub struct QueryOutput {
    pub schema: ResultSchema,
    pub stream: BatchStream,
}

impl QueryOutput {
    /// All rows at once: for queries whose rows the server itself needs.
    ///
    /// # Errors
    /// What ended the query.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.stream.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl Engine {
    /// # Errors
    /// `INTERNAL` where the runtime's threads or the memory pool can not be made.
    pub fn new(config: &EngineConfig, metrics: Arc<Metrics>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.threads.max(1))
            .thread_name("query")
            .enable_time()
            .build()
            .map_err(Error::internal)?;
        let base = base_state(config, metrics.clone()).map_err(Error::internal)?;
        Ok(Self {
            runtime: Some(runtime),
            base,
            timeout: config.statement_timeout,
            query_memory_limit: config.query_memory_limit_bytes,
            plans: Arc::new(PlanCache::new(config.plan_cache_entries, metrics.queries.clone())),
            metrics,
        })
    }

    /// Bytes that the queries under way have reserved.
    pub fn memory_reserved(&self) -> usize {
        self.base.runtime_env().memory_pool.reserved()
    }

    /// Plans that are kept.
    pub fn plans_kept(&self) -> u64 {
        self.plans.len()
    }

    /// Plans and starts `query`, a SELECT or EXPLAIN.
    ///
    /// # Errors
    /// `INVALID_SQL`, `TABLE_NOT_FOUND`, `COLUMN_NOT_FOUND`, `PERMISSION_DENIED`, `INVALID_PARAMETER`; what goes wrong
    /// later comes out of the stream.
    pub async fn query(&self, ctx: QueryContext, query: &ast::Statement) -> Result<QueryOutput> {
        let statement = prepare(query, &ctx.params)?;
        let (ready, planned) = oneshot::channel();
        let deadline = Deadline { at: Instant::now() + self.timeout, after: self.timeout };
        let (answers, stream) = answer::channel(deadline);
        let work = Work {
            state: self.state_at(ctx.now_us),
            plans: self.plans.clone(),
            memory_limit: self.query_memory_limit,
            deadline,
        };
        let running = self.metrics.queries.begin();
        self.spawn(async move {
            let mut caller = ctx.caller.clone();
            let end = tokio::select! {
                () = answers.closed() => QueryEnd::Cancelled,
                () = caller.gone() => QueryEnd::Cancelled,
                end = work.run(&ctx, statement, ready, &answers) => end,
            };
            running.end(end);
        })?;
        // The query holds its deadline itself where it yields; whoever asks is answered in time even where it does not.
        let planned = tokio::time::timeout_at(deadline.at, planned).await.map_err(|_| deadline.passed())?;
        Ok(QueryOutput { schema: planned.unwrap_or(Err(Error::Aborted))?, stream })
    }

    /// Compiles a SELECT to be kept live.
    ///
    /// # Errors
    /// `INVALID_SQL` naming what can not be kept live, and what [`Engine::query`] answers for the same text.
    pub async fn compile_live(&self, ctx: QueryContext, query: &ast::Statement) -> Result<Arc<dyn LiveQuery>> {
        let statement = prepare(query, &ctx.params)?;
        let state = self.state_at(ctx.now_us);
        self.blocking(move || live_query::compile(&state, &ctx, &statement)).await
    }

    /// Compiles what a SELECT without WHERE selects, to be asked of rows that no query reads. Columns behind the first `own` of its
    /// FROM are those of other tables.
    ///
    /// # Errors
    /// `INVALID_SQL` naming what needs a query of its own, and what [`Engine::query`] answers for the same text.
    pub async fn compile_rows(&self, ctx: QueryContext, select: ast::Query, own: usize) -> Result<RowExprs> {
        let statement = prepare(&ast::Statement::Query(Box::new(select)), &ctx.params)?;
        let state = self.state_at(ctx.now_us);
        self.blocking(move || row_exprs::compile(&state, &ctx, statement, own)).await
    }

    /// What a query without parameters shows, and what it names.
    ///
    /// # Errors
    /// As [`Engine::query`].
    pub async fn shape_of(&self, ctx: QueryContext, query: &ast::Query) -> Result<QueryShape> {
        let query = query.clone();
        let state = self.state_at(ctx.now_us);
        self.blocking(move || view::shape_of(&state, &ctx, &query)).await
    }

    /// Runs work that blocks on the disk, or computes for long, on the engine's threads.
    ///
    /// # Errors
    /// The work's own; `INTERNAL` where it panics.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.spawn(async move {
            let answered =
                std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(panic)));
            // Whoever asked may have gone.
            let _ = reply.send(answered);
        })?;
        answer.await.unwrap_or(Err(Error::Aborted))
    }

    /// The runtime, for reads that no query asks for.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub fn handle(&self) -> Result<tokio::runtime::Handle> {
        Ok(self.runtime.as_ref().ok_or(Error::ShuttingDown)?.handle().clone())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let runtime = self.runtime.as_ref().ok_or(Error::ShuttingDown)?;
        runtime.spawn(task);
        Ok(())
    }

    fn state_at(&self, now_us: i64) -> SessionState {
        let mut state = self.base.clone();
        state.mark_start_execution();
        state.execution_props_mut().query_execution_start_time = chrono::DateTime::from_timestamp_micros(now_us);
        state
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A runtime that is dropped on another runtime's thread would block it, which tokio answers with a panic.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// `work`, ended by the deadline or a panic.
    async fn hold<T>(self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout_at(self.at, AssertUnwindSafe(work).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(panicked(panic)),
            Err(_) => Err(self.passed()),
        }
    }

    fn passed(self) -> Error {
        Error::StatementTimeout { limit: self.after }
    }
}

/// What one query needs beside its meaning.
struct Work {
    state: SessionState,
    plans: Arc<PlanCache>,
    memory_limit: usize,
    deadline: Deadline,
}

impl Work {
    async fn run(
        &self,
        ctx: &QueryContext,
        statement: ast::Statement,
        ready: oneshot::Sender<Result<ResultSchema>>,
        answers: &Answers,
    ) -> QueryEnd {
        let batches = match self.deadline.hold(self.start(ctx, statement)).await {
            Ok((schema, batches)) => {
                if ready.send(Ok(schema)).is_err() {
                    return QueryEnd::Cancelled;
                }
                batches
            }
            Err(error) => {
                let end = end_of(&error);
                // Whoever asked may have gone.
                let _ = ready.send(Err(error));
                return end;
            }
        };
        let outcome = self.deadline.hold(pump(batches, answers)).await;
        let end = outcome.as_ref().map_or_else(end_of, |end| *end);
        answers.end(outcome.map(|_| ())).await;
        end
    }

    async fn start(
        &self,
        ctx: &QueryContext,
        statement: ast::Statement,
    ) -> Result<(ResultSchema, SendableRecordBatchStream)> {
        let state = &self.state;
        let (plan, schema) = self.plans.plan(state, ctx, statement)?;
        let physical = state.query_planner().create_physical_plan(&plan, state).await.map_err(from_datafusion)?;
        let context = memory::limited(TaskContext::from(state), self.memory_limit);
        let batches = execute_stream(physical, Arc::new(context)).map_err(from_datafusion)?;
        Ok((schema, batches))
    }
}

fn end_of(error: &Error) -> QueryEnd {
    match error {
        Error::StatementTimeout { .. } => QueryEnd::TimedOut,
        Error::OutOfMemory(_) => QueryEnd::OutOfMemory,
        _ => QueryEnd::Failed,
    }
}

async fn pump(mut batches: SendableRecordBatchStream, answers: &Answers) -> Result<QueryEnd> {
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(from_datafusion)?;
        if batch.num_rows() > 0 && !answers.send(batch).await {
            return Ok(QueryEnd::Cancelled);
        }
    }
    Ok(QueryEnd::Completed)
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Error::internal(format!("a query panicked: {}", text.unwrap_or("without a text")))
}

/// What all queries share: functions, settings, memory. No catalog: each query brings its own.
fn base_state(config: &EngineConfig, metrics: Arc<Metrics>) -> datafusion::common::Result<SessionState> {
    let mut settings = SessionConfig::new()
        .with_extension(metrics)
        .with_target_partitions(1)
        .with_batch_size(BATCH_ROWS)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, "default")
        .with_extension(Arc::new(config.bounds));
    let options = settings.options_mut();
    options.optimizer.max_passes = 1;
    // Of filters that come into being while a query runs, our scans use the threshold of its top rows.
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = true;
    // Columns are Utf8: a view type would only add casts.
    options.sql_parser.map_string_types_to_utf8view = false;
    // Nothing spills, so no memory is set aside for merging what was spilled.
    options.execution.sort_spill_reservation_bytes = 0;

    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(config.memory_limit_bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    let mut planners = SessionStateDefaults::default_expr_planners();
    planners.insert(0, Arc::new(TypedLiterals));
    planners.insert(1, Arc::new(JsonOperators));
    let mut analysis = Analyzer::new().rules;
    analysis.insert(0, Arc::new(TypedLiterals));
    let mut scalar_functions = SessionStateDefaults::default_scalar_functions();
    scalar_functions.extend(json_functions::functions());
    let state = SessionStateBuilder::new()
        .with_config(settings)
        .with_runtime_env(runtime)
        .with_expr_planners(planners)
        .with_analyzer_rules(analysis)
        .with_scalar_functions(scalar_functions.into_iter().map(bounded).collect())
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .with_physical_optimizer_rules(physical_rules(config))
        .build();
    Ok(state)
}

/// DataFusion's own rules, and ours before its last two: thresholds of top rows reach the scans of each share, and the plan is
/// checked as it is run.
fn physical_rules(config: &EngineConfig) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let last = rules.len().saturating_sub(2);
    let ours: [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 3] = [
        Arc::new(TurnScans),
        Arc::new(SplitScans { threads: config.threads, rows_each: config.rows_per_thread.max(1) }),
        Arc::new(BreathingJoins),
    ];
    rules.splice(last..last, ours);
    rules
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod world;
