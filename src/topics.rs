//! PURE: consumer groups, and which changes a topic gets.
//!
//! Owns claims, visibility, redelivery, dead letters and acknowledgements ([`group`]); which routes a change matches and
//! what its payloads say ([`route`]); what retention takes ([`retention`]).
//! Never reads a clock, never performs I/O, never awaits: time, rows and the log's bounds come in, decisions go out.
//! Invariants: a message is delivered to each group at least once, or counted as lost or buried; nothing is acknowledged
//! that was not delivered.

pub mod group;
pub mod retention;
pub mod route;
#[cfg(test)]
mod simulation;

pub use group::{GroupCore, GroupRules};
pub use retention::TopicRetention;
pub use route::{Route, Routed, TableRoutes};
