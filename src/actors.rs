//! Thin shells around the pure cores: one actor per partition in use, one per table in use, one for all jobs.
//!
//! Topology. A table and all its partitions live on one thread: that of an HTTP worker (chosen by the table's id). An
//! insert that comes in on it crosses threads twice: worker → committer thread → worker; on another worker twice more
//! (worker → table's worker). The committer answers the writer itself, then tells the table, which tells the partition.
//! Sessions are actors of `api`, on the HTTP worker that accepted their socket. The jobs' actor lives on the main thread,
//! their bodies run on threads of their own.
//!
//! | queue | bound | at the bound |
//! |---|---|---|
//! | inboxes of partitions and tables | the router's credits ([`router::WRITE_CREDITS`]) | the router answers `busy` |
//! | inbox of the jobs | statements under way, and a few messages a running job | cannot be reached |
//! | committer's channel | [`committer::CHANNEL_CAPACITY`] ≥ the credits | cannot be full |
//! | writes in front of a closed [`gate`] | the requests under way: none holds a credit | cannot be reached; each waits |
//! | consumers that wait for a topic ([`topic_signals`]) | `topics.max_waiters` | `BUSY` |
//! | session outbox | `websocket.outbox_bytes` | the subscriber is closed with `SLOW_CONSUMER` |
//!
//! actix's own inbox is no bound (it counts per address clone, and `do_send` passes it by), so every message that a
//! client can cause holds a credit, and [`inbox::send`] is the only caller of `do_send`.
//! A panic in a partition, a table, the jobs' actor or the committer ends the process ([`fatal`]): their state is memory of what is on
//! disk, and recovery is the tested path.

mod awake;
pub mod committer;
pub mod fatal;
pub(crate) mod feed;
mod gate;
mod inbox;
pub mod jobs;
mod partition;
pub mod router;
mod routes;
mod syncer;
mod table;
pub mod topic_signals;

pub use committer::{Committer, CommitterHandle};
pub use fatal::Fatal;
pub use gate::ClosedGate;
pub use jobs::Jobs;
pub use partition::Held;
pub use partition::cold::{ColdChange, ColdSwap};
pub use router::Router;
pub use topic_signals::TopicSignals;
