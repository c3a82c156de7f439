//! InboxDB: a streaming SQL database in which every user has a mailbox.
//!
//! ARCHITECTURE.md is the map. [`Database`](database::Database) is the middle boundary: everything goes through it.

pub mod actors;
pub mod api;
pub mod auth;
pub mod cli;
pub mod config;
pub mod database;
pub mod demo;
pub mod error;
pub mod failpoint;
pub mod fuzz;
pub mod inspect;
pub mod jobs;
pub mod live;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod partition;
pub mod restore;
pub mod server;
#[cfg(test)]
mod sim;
pub mod sql;
pub mod storage;
pub mod streams;
pub mod time;
pub mod topics;
