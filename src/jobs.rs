//! PURE: what is to be done behind everything else: which job, when, how often, and what became of it.
//!
//! Owns the kinds of jobs and their parameters, a job's states, the order of the queue, retries, idempotency, history.
//! Never reads a clock, performs I/O or awaits: time and ids come in, jobs to store or to run go out.
//! Invariants: at most `jobs.max_concurrent` bodies run, never two of one idempotency key; every job ends; a job is
//! in the store before its body runs (the shell in `actors/jobs.rs` sees to the order).
//! To add a kind: a variant of [`JobParams`] with its rows in `kind.rs`, its body in `database/jobs.rs`. Nothing else
//! knows the kinds.

pub mod compact_plan;
pub mod core;
pub mod flush_plan;
pub mod job;
pub mod kind;
pub mod retention_plan;

pub use compact_plan::{SegmentSize, next_merge};
pub use core::{JobCore, Submitted};
pub use flush_plan::{HotSurvey, is_due};
pub use job::{Job, JobId, JobOutcome, JobState};
pub use kind::{JobKind, JobParams};
pub use retention_plan::Retention;
