//! Memory of queries: of each, and of all together.
//!
//! Owns the bound of one query, so that a single one can not take what all may have. What DataFusion's operators keep
//! (sorts, groups, hash tables of joins) is reserved here before it is kept; a refusal ends that query alone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;

/// The pool of one query, within that of all.
#[derive(Debug)]
struct QueryPool {
    all: Arc<dyn MemoryPool>,
    reserved: AtomicUsize,
    limit: usize,
}

/// `context` with a pool of its own, of at most `limit` bytes.
pub(super) fn limited(context: TaskContext, limit: usize) -> TaskContext {
    let runtime = context.runtime_env();
    let pool = QueryPool { all: runtime.memory_pool.clone(), reserved: AtomicUsize::new(0), limit };
    let runtime = RuntimeEnv { memory_pool: Arc::new(pool), ..RuntimeEnv::clone(&runtime) };
    context.with_runtime(Arc::new(runtime))
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.reserved.fetch_add(additional, Ordering::Relaxed);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.reserved.fetch_sub(shrink, Ordering::Relaxed);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let within = |reserved: usize| reserved.checked_add(additional).filter(|sum| *sum <= self.limit);
        if let Err(reserved) = self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "one query may have {} bytes (datafusion.query_memory_limit), has {reserved}, and asked for {additional} more",
                self.limit
            )));
        }
        self.all.try_grow(reservation, additional).inspect_err(|_| {
            self.reserved.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query(used: {}, limit: {})", self.reserved(), self.limit)
    }
}
