//! The only code that knows bytes on disk.
//!
//! Owns keys, the row codec, the committer's log, the read view and recovery. `docs/on-disk-format.md` documents the
//! layout.
//! Never knows SQL, sockets or roles.

pub mod keys;
pub mod read_view;
pub mod records;
pub mod row_codec;

pub use read_view::{Order, ReadView};
pub use records::{RecordKind, RecordWrite};
pub use row_codec::BatchBuilder;
