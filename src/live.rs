//! Live queries: from committed changes to frames for subscribers, in order, without gap or double.
//!
//! Owns the wire frames, what a change is to a query, who is subscribed to what, each subscription's state, and the
//! bounded outbox between writers and a socket.
//! Never performs I/O, never awaits, never reads a clock: actors bring time and rows, and carry out what is decided here.
//! Invariants: LQ-1 no gap, no double; LQ-5 no queue over its bytes; a subscriber is told why it ends.
//! Start at [`registry::QueryRegistry`] (the writer's side) and [`subscription::Subscription`] (the reader's side).

pub mod budget;
pub mod change_batch;
pub mod cursors;
pub mod database;
pub mod directory;
pub mod encoding;
pub mod equality;
pub mod event;
pub mod frames;
pub mod history;
pub mod limits;
pub mod namespace;
pub mod outbox;
pub mod pages;
pub mod position;
pub mod query;
mod rate;
pub mod registry;
pub mod resume;
mod rows;
pub mod session;
#[cfg(test)]
mod simulation;
pub mod subscription;
#[cfg(test)]
pub(crate) mod testing;

pub use change_batch::{ChangeBatch, StoredRows};
pub use directory::LiveDirectory;
pub use encoding::{Format, Formats, Wire, WireFrame};
pub use equality::{Equality, EqualityValue};
pub use event::{EventKind, LiveEvent};
pub use outbox::{Delivery, Outbox, OutboxLimits, SubscriptionKey};
pub use position::Position;
pub use query::LiveQuery;
pub use registry::{QueryRegistry, Subscriber};
