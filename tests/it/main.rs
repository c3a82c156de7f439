//! The integration tests, in one binary: each that links DataFusion would be half a gigabyte.

#![expect(clippy::disallowed_methods, reason = "tests play the outside: its environment, its threads, its clock")]

mod alter;
mod api;
mod attacks;
mod audit;
mod backup;
mod cold;
mod crash;
mod dba;
mod demo;
mod durable_streams;
mod event_stream;
mod everything;
mod export;
mod failpoints;
mod follower;
mod fuzz;
mod http;
mod inspect;
mod jobs;
mod layers;
mod live;
mod moving;
mod objects;
mod observed;
mod program;
mod proxy;
mod random;
mod retention;
mod roles;
mod server;
mod slt;
mod socket;
mod sql_page;
mod storages;
mod streams;
mod tls;
mod token;
mod topics;
mod upsert;
