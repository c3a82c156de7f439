//! The integration tests, in one binary: each that links DataFusion would be half a gigabyte.

mod layers;
