//! The query engine: a parsed SELECT or EXPLAIN to a stream of record batches.
//!
//! Owns the one runtime on which queries are planned and run, their memory, their deadline and their cancellation.
//! Never runs on an arbiter or an HTTP worker, never writes, and reaches no file and no network: there is no way to
//! name one in SQL.
//! A panic in a query ends that query. Whoever drops the answer stops the work.
//! Start at [`Engine::query`].

mod bounds;
mod breathe;
mod fault;
mod literals;
mod names;
mod origin;
mod plan;
mod prepare;
mod tombstones;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateDefaults};
use datafusion::optimizer::Analyzer;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use super::bind::IdSource;
use super::caller_catalog::CATALOG;
use super::functions::growing::bounded;
use super::live_query;
use super::partition_table::{SplitScans, TurnScans};
use super::system_tables::SystemData;
use crate::error::{Error, Result};
use crate::live::query::LiveQuery;
use crate::model::{Catalog, Param, Principal, ResultSchema, UserId};
use crate::storage::ReadView;

pub use bounds::QueryBounds;
use breathe::BreathingJoins;
pub(crate) use fault::from_datafusion;
pub(crate) use literals::TypeNames;
use literals::TypedLiterals;
pub(crate) use origin::result_schema;
pub(crate) use plan::logical_plan;
pub(crate) use prepare::prepare;

/// Batches that a query may be ahead of whoever reads its answer; at the bound the query waits.
const ANSWER_CAPACITY: usize = 4;

const BATCH_ROWS: usize = 8192;

#[derive(Debug, Clone)]
pub struct EngineConfig {
    pub threads: usize,
    /// Cold rows that are worth a further thread.
    pub rows_per_thread: u64,
    /// All queries together; one that needs more ends in `OUT_OF_MEMORY`.
    pub memory_limit_bytes: usize,
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
}

/// Runs queries. One per server.
pub struct Engine {
    /// `None` only while being dropped.
    runtime: Option<Runtime>,
    base: SessionState,
    timeout: Duration,
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

/// Record batches, at most one error, which is the last item. Dropping it stops the query.
pub struct BatchStream {
    /// `Ok(None)` is the end; an end without it means that the query was cut off.
    answers: mpsc::Receiver<Result<Option<RecordBatch>>>,
    ended: bool,
    deadline: Deadline,
    overdue: Pin<Box<Sleep>>,
}

impl Engine {
    /// # Errors
    /// `INTERNAL` where the runtime's threads or the memory pool can not be made.
    pub fn new(config: &EngineConfig) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.threads.max(1))
            .thread_name("query")
            .enable_time()
            .build()
            .map_err(Error::internal)?;
        let base = base_state(config).map_err(Error::internal)?;
        Ok(Self { runtime: Some(runtime), base, timeout: config.statement_timeout })
    }

    /// Plans and starts `query`, a SELECT or EXPLAIN.
    ///
    /// # Errors
    /// `INVALID_SQL`, `TABLE_NOT_FOUND`, `COLUMN_NOT_FOUND`, `PERMISSION_DENIED`, `INVALID_PARAMETER`; what goes wrong
    /// later comes out of the stream.
    pub async fn query(&self, ctx: QueryContext, query: &ast::Statement) -> Result<QueryOutput> {
        let statement = prepare(query, &ctx.params)?;
        let (ready, planned) = oneshot::channel();
        let (answers, stream) = mpsc::channel(ANSWER_CAPACITY);
        let state = self.state_at(ctx.now_us);
        let deadline = Deadline { at: Instant::now() + self.timeout, after: self.timeout };
        self.spawn(async move {
            tokio::select! {
                () = answers.closed() => {}
                () = run(&state, &ctx, statement, deadline, ready, &answers) => {}
            }
        })?;
        // The query holds its deadline itself where it yields; whoever asks is answered in time even where it does not.
        let planned = tokio::time::timeout_at(deadline.at, planned).await.map_err(|_| deadline.passed())?;
        let schema = planned.unwrap_or(Err(Error::Aborted))?;
        let overdue = Box::pin(tokio::time::sleep_until(deadline.at));
        Ok(QueryOutput { schema, stream: BatchStream { answers: stream, ended: false, deadline, overdue } })
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

impl Stream for BatchStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = match self.answers.poll_recv(cx) {
            Poll::Ready(Some(Ok(Some(batch)))) => return Poll::Ready(Some(Ok(batch))),
            Poll::Ready(Some(Ok(None))) => None,
            Poll::Ready(Some(Err(error))) => Some(Err(error)),
            Poll::Ready(None) => Some(Err(Error::Aborted)),
            Poll::Pending => {
                std::task::ready!(self.overdue.as_mut().poll(cx));
                Some(Err(self.deadline.passed()))
            }
        };
        self.ended = true;
        Poll::Ready(item)
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

type Answers = mpsc::Sender<Result<Option<RecordBatch>>>;

async fn run(
    state: &SessionState,
    ctx: &QueryContext,
    statement: ast::Statement,
    deadline: Deadline,
    ready: oneshot::Sender<Result<ResultSchema>>,
    answers: &Answers,
) {
    let batches = match deadline.hold(start(state, ctx, statement)).await {
        Ok((schema, batches)) => {
            if ready.send(Ok(schema)).is_err() {
                return;
            }
            batches
        }
        Err(error) => {
            // Whoever asked may have gone.
            let _ = ready.send(Err(error));
            return;
        }
    };
    let end = deadline.hold(pump(batches, answers)).await;
    let _ = answers.send(end.map(|()| None)).await;
}

async fn start(
    state: &SessionState,
    ctx: &QueryContext,
    statement: ast::Statement,
) -> Result<(ResultSchema, SendableRecordBatchStream)> {
    let (plan, schema) = names::plan_named(state, ctx, statement)?;
    let physical = state.create_physical_plan(&plan).await.map_err(from_datafusion)?;
    let batches = execute_stream(physical, state.task_ctx()).map_err(from_datafusion)?;
    Ok((schema, batches))
}

async fn pump(mut batches: SendableRecordBatchStream, answers: &Answers) -> Result<()> {
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(from_datafusion)?;
        if batch.num_rows() > 0 && answers.send(Ok(Some(batch))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Error::internal(format!("a query panicked: {}", text.unwrap_or("without a text")))
}

/// What all queries share: functions, settings, memory. No catalog: each query brings its own.
fn base_state(config: &EngineConfig) -> datafusion::common::Result<SessionState> {
    let mut settings = SessionConfig::new()
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
    let mut analysis = Analyzer::new().rules;
    analysis.insert(0, Arc::new(TypedLiterals));
    let state = SessionStateBuilder::new()
        .with_config(settings)
        .with_runtime_env(runtime)
        .with_expr_planners(planners)
        .with_analyzer_rules(analysis)
        .with_scalar_functions(SessionStateDefaults::default_scalar_functions().into_iter().map(bounded).collect())
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
