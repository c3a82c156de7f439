//! Cold segments: a partition's rows of one range of positions in one immutable Parquet file.
//!
//! Owns the file's form, its manifest entry, and reading it: by range of positions, by key, as a whole to check it.
//! Never decides what is flushed, merged or deleted, and never changes a file: rows that went are in `deletions`.
//! Invariants: rows strictly increase by `_seq` within a file, so file order is `_seq` order; nothing is answered from bytes
//! whose checksum is not the entry's.
//! Start at [`SegmentWriter`] and [`SegmentReader`]. The form is in `docs/on-disk-format.md`.

mod checksum;
mod copying;
mod entry;
mod footer;
mod input;
mod key_columns;
mod key_filter;
mod lookup;
mod page_pruning;
mod projection;
mod properties;
mod reader;
mod scan;
mod stats;
mod verify;
mod writer;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use checksum::{BlockSums, Checksum};
pub use copying::CopyTarget;
pub use entry::{SegmentEntry, SegmentId, SegmentMeta, parse_file_name};
pub use footer::dictionary_of_texts;
pub use input::SegmentCache;
pub use key_filter::KeyFilter;
pub use lookup::FoundRow;
pub use page_pruning::{MayHold, PageFilter, PageStats};
pub use projection::{Evaluate, RowPredicate};
pub use reader::SegmentReader;
pub use scan::{SegmentBatch, SegmentScan};
pub use stats::{BOUND_MAX, ColumnStats};
pub(super) use writer::check_decimals;
pub use writer::{DraftSegment, SegmentSpec, SegmentTarget, SegmentWriter};
