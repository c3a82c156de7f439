//! The integration tests, in one binary: each that links DataFusion would be half a gigabyte.

mod http;
mod layers;
mod program;
mod server;
mod slt;
