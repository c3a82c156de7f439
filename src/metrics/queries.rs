//! Queries of the engine: begun, running, and how they ended; and the plans that were kept for them.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryEnd {
    /// All its rows were made.
    Completed,
    /// Nobody waited for it any more, or for the rest of it: its work was stopped.
    Cancelled,
    TimedOut,
    OutOfMemory,
    Failed,
}

impl QueryEnd {
    pub const ALL: &'static [QueryEnd] =
        &[QueryEnd::Completed, QueryEnd::Cancelled, QueryEnd::TimedOut, QueryEnd::OutOfMemory, QueryEnd::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            QueryEnd::Completed => "completed",
            QueryEnd::Cancelled => "cancelled",
            QueryEnd::TimedOut => "timed_out",
            QueryEnd::OutOfMemory => "out_of_memory",
            QueryEnd::Failed => "failed",
        }
    }
}

impl EncodeLabelValue for QueryEnd {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    end: QueryEnd,
}

/// Counts of the query engine.
#[derive(Debug, Clone)]
pub struct QueryMetrics {
    running: Gauge,
    ended: Family<EndLabel, Counter>,
    plan_hits: Counter,
    plan_misses: Counter,
    plan_invalidations: Counter,
}

impl QueryMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            running: Gauge::default(),
            ended: Family::default(),
            plan_hits: Counter::default(),
            plan_misses: Counter::default(),
            plan_invalidations: Counter::default(),
        };
        registry.register("queries_running", "Queries in the engine", metrics.running.clone());
        registry.register("queries_ended", "Queries of the engine that have ended", metrics.ended.clone());
        registry.register("plan_cache_hits", "Queries whose plan was kept", metrics.plan_hits.clone());
        registry.register("plan_cache_misses", "Queries that were planned", metrics.plan_misses.clone());
        registry.register(
            "plan_cache_invalidations",
            "Times that all kept plans were dropped for a change of the catalog",
            metrics.plan_invalidations.clone(),
        );
        metrics
    }

    /// A query begins; what is answered tells how it ends.
    pub fn begin(&self) -> RunningQuery {
        self.running.inc();
        RunningQuery { metrics: self.clone(), end: QueryEnd::Cancelled }
    }

    pub fn running(&self) -> i64 {
        self.running.get()
    }

    pub fn ended(&self, end: QueryEnd) -> u64 {
        self.ended.get_or_create(&EndLabel { end }).get()
    }

    pub fn plan(&self, kept: bool) {
        if kept { &self.plan_hits } else { &self.plan_misses }.inc();
    }

    pub fn plans_invalidated(&self) {
        self.plan_invalidations.inc();
    }

    /// Hits, misses, invalidations.
    pub fn plans(&self) -> (u64, u64, u64) {
        (self.plan_hits.get(), self.plan_misses.get(), self.plan_invalidations.get())
    }
}

/// A query at work. Dropped without a word, it was cancelled.
#[derive(Debug)]
pub struct RunningQuery {
    metrics: QueryMetrics,
    end: QueryEnd,
}

impl RunningQuery {
    pub fn end(mut self, end: QueryEnd) {
        self.end = end;
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        self.metrics.running.dec();
        self.metrics.ended.get_or_create(&EndLabel { end: self.end }).inc();
    }
}
