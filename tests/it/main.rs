//! The integration tests, in one binary: each that links DataFusion would be half a gigabyte.

mod api;
mod crash;
mod demo;
mod http;
mod layers;
mod program;
mod random;
mod server;
mod slt;
