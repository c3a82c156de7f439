//! What the server counts about itself, for `/metrics` and `system.stats`.
//!
//! Owns every counter and histogram, their names and their bounds. One set per database, handed to whoever counts; no
//! static. No label names a user: a series per table (up to [`tables::TABLES_MAX`]), per route, per kind.
//! Never decides anything on a count, never reads a clock.
//! Start at [`Metrics`].

mod queries;
mod tables;

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub use queries::{QueryEnd, QueryMetrics, RunningQuery};
pub use tables::TableRows;

/// Content type of what [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// As registered, never as asked for: a path may hold names.
    route: String,
    method: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabel {
    durability: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// A figure of this moment: what no counter holds because it can be looked up.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub name: &'static str,
    pub help: &'static str,
    /// Value of the label `kind`, where the figure has several.
    pub kind: Option<&'static str>,
    pub value: i64,
}

/// All counters of one database. Cheap to count in: an atomic each, behind a read lock where there are labels.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
    pub queries: QueryMetrics,
    pub rows_read: TableRows,
    pub rows_written: TableRows,
    slow_statements: Counter,
    commit_entries: Histogram,
    commit_seconds: Family<LevelLabel, Histogram, fn() -> Histogram>,
    sync_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("inboxdb");
        let requests = Family::default();
        registry.register("http_requests", "Answered HTTP requests", requests.clone());
        let request_seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register("http_request_seconds", "Time until an answer began", request_seconds.clone());
        let queries = QueryMetrics::register(&mut registry);
        let rows_read = TableRows::default();
        rows_read.register(&mut registry, "table_rows_read", "Rows that queries read of a table");
        let rows_written = TableRows::default();
        rows_written.register(&mut registry, "table_rows_written", "Rows inserted, updated or deleted in a table");
        let slow_statements = Counter::default();
        registry.register(
            "slow_statements",
            "Statements that took logging.slow_query_threshold or longer",
            slow_statements.clone(),
        );
        let commit_entries = Histogram::new(exponential_buckets(1.0, 2.0, 11));
        registry.register("commit_entries", "Entries of a commit", commit_entries.clone());
        let commit_seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register(
            "commit_seconds",
            "Time of a commit: journal write, and fdatasync where durability is sync",
            commit_seconds.clone(),
        );
        let sync_seconds = seconds();
        registry.register("journal_sync_seconds", "fdatasync of what was only buffered", sync_seconds.clone());
        Self {
            registry,
            requests,
            request_seconds,
            queries,
            rows_read,
            rows_written,
            slow_statements,
            commit_entries,
            commit_seconds,
            sync_seconds,
        }
    }
}

impl Metrics {
    /// `route` as it is registered; `method` as HTTP names it.
    pub fn request(&self, route: &str, method: &str, code: u16, took: Duration) {
        let labels = RequestLabels { route: route.to_owned(), method: known_method(method), code };
        self.requests.get_or_create(&labels).inc();
        self.request_seconds.get_or_create(&RouteLabel { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    pub fn slow_statement(&self) {
        self.slow_statements.inc();
    }

    pub fn slow_statements(&self) -> u64 {
        self.slow_statements.get()
    }

    /// A commit of `entries`, durable at `durability`.
    pub fn commit(&self, entries: usize, durability: &'static str, took: Duration) {
        self.commit_entries.observe(entries as f64);
        self.commit_seconds.get_or_create(&LevelLabel { durability }).observe(took.as_secs_f64());
    }

    pub fn journal_sync(&self, took: Duration) {
        self.sync_seconds.observe(took.as_secs_f64());
    }

    /// Everything as OpenMetrics text, which Prometheus reads; with `samples`, whose rows of one name stand together.
    pub fn render(&self, samples: &[Sample]) -> String {
        let mut of_now = Registry::with_prefix("inboxdb");
        for group in samples.chunk_by(|a, b| a.name == b.name) {
            let Some(first) = group.first() else { continue };
            if first.kind.is_none() {
                let gauge: Gauge = Gauge::default();
                gauge.set(first.value);
                of_now.register(first.name, first.help, gauge);
                continue;
            }
            let family: Family<KindLabel, Gauge> = Family::default();
            for Sample { kind, value, .. } in group {
                family.get_or_create(&KindLabel { kind: kind.unwrap_or_default() }).set(*value);
            }
            of_now.register(first.name, first.help, family);
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &of_now))
            .and_then(|()| encode_eof(&mut text));
        debug_assert!(written.is_ok());
        text
    }
}

/// 100 µs to 26 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 4.0, 10))
}

/// Anyone may send any method: one that is none would be a series of its own.
fn known_method(method: &str) -> &'static str {
    const KNOWN: &[&str] = &["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    KNOWN.iter().copied().find(|known| *known == method).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_out_as_text() {
        let metrics = Metrics::default();
        metrics.request("/v1/api/sql", "POST", 200, Duration::from_millis(3));
        metrics.request("/v1/api/sql", "BREW", 405, Duration::from_millis(3));
        metrics.rows_written.add("demo.notes", 3);
        metrics.commit(5, "sync", Duration::from_millis(1));
        let samples = [
            Sample { name: "memory_bytes", help: "Resident", kind: None, value: 7 },
            Sample { name: "actors", help: "Live", kind: Some("table"), value: 2 },
            Sample { name: "actors", help: "Live", kind: Some("partition"), value: 4 },
        ];
        let text = metrics.render(&samples);
        for line in [
            "inboxdb_http_requests_total{route=\"/v1/api/sql\",method=\"POST\",code=\"200\"} 1",
            "inboxdb_http_requests_total{route=\"/v1/api/sql\",method=\"other\",code=\"405\"} 1",
            "inboxdb_http_request_seconds_count{route=\"/v1/api/sql\"} 2",
            "inboxdb_table_rows_written_total{table=\"demo.notes\"} 3",
            "inboxdb_commit_entries_sum 5.0",
            "inboxdb_memory_bytes 7",
            "inboxdb_actors{kind=\"table\"} 2",
            "inboxdb_actors{kind=\"partition\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
