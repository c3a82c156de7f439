//! PURE: one partition's order and one table's.
//!
//! Owns which writes may go on at once, the key rules (duplicate, conflict, no change), and who gets which `_seq`.
//! Never reads a clock, never performs I/O, never awaits: rows and time come in, changes go out.
//! Invariants: PT-1, PT-3 is the router's.

pub mod core;
pub mod hot_stats;
pub mod sequencer;
pub mod stream_buckets;
pub mod stream_quota;

pub use core::{Admission, Effects, PartitionCore, Prepared, Ticket, Written, row_after, work_out};
pub use hot_stats::HotCount;
pub use sequencer::Sequencer;
pub use stream_quota::{QuotaLimits, StreamQuota};
