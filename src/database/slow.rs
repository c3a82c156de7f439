//! The log of slow statements.
//!
//! Owns when a statement counts as slow (`logging.slow_query_threshold`, from its start to its last row, or to its end
//! where nobody reads that far), and what is logged of it. Never its literals and parameters.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures_util::{Stream, StreamExt as _};

use super::request::{Outcome, RowStream, StatementResult};
use crate::error::{ErrorCode, Result};
use crate::metrics::Metrics;
use crate::model::UserId;
use crate::sql::parse::redact::without_literals;

/// One statement under way; logged when it ends, if that took long.
pub(super) struct SlowWatch {
    pub started: Instant,
    pub threshold: Duration,
    pub text: String,
    pub user: UserId,
    pub request_id: Option<Arc<str>>,
    pub metrics: Arc<Metrics>,
}

impl SlowWatch {
    /// Goes on with the rows, if there are any.
    pub(super) fn over(self, outcome: Result<StatementResult>) -> Result<StatementResult> {
        match outcome {
            Ok(StatementResult { as_user, outcome: Outcome::Rows(rows) }) => {
                let RowStream { schema, batches } = rows;
                let batches = Box::pin(WatchedRows { watch: self, batches, rows: 0, fault: None });
                Ok(StatementResult { as_user, outcome: Outcome::Rows(RowStream { schema, batches }) })
            }
            Ok(result) => {
                if let Outcome::Done { rows, .. } = &result.outcome {
                    self.end(*rows, None);
                }
                Ok(result)
            }
            Err(error) => {
                self.end(0, Some(error.code()));
                Err(error)
            }
        }
    }

    fn end(&self, rows: u64, fault: Option<ErrorCode>) {
        let took = self.started.elapsed();
        if took < self.threshold {
            return;
        }
        self.metrics.slow_statement();
        tracing::warn!(
            target: "inboxdb::slow_query",
            user = %self.user,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            rows,
            error = fault.map(ErrorCode::wire),
            request_id = self.request_id.as_deref(),
            statement = without_literals(&self.text),
            "slow statement"
        );
    }
}

struct WatchedRows {
    watch: SlowWatch,
    batches: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
    rows: u64,
    fault: Option<ErrorCode>,
}

impl Stream for WatchedRows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.batches.poll_next_unpin(cx));
        match &item {
            Some(Ok(batch)) => self.rows += batch.num_rows() as u64,
            Some(Err(error)) => self.fault = Some(error.code()),
            None => {}
        }
        Poll::Ready(item)
    }
}

impl Drop for WatchedRows {
    fn drop(&mut self) {
        self.watch.end(self.rows, self.fault);
    }
}
