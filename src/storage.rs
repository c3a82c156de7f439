//! The only code that knows bytes on disk.
//!
//! Owns keys, the row codec, the committer's log, the read view, recovery, and the files of cold rows.
//! `docs/on-disk-format.md` documents the layout.
//! Never knows SQL, sockets or roles.

pub mod backup;
pub mod cold;
pub mod cold_store;
pub mod cold_stores;
pub mod commit_log;
pub mod erase;
pub mod export_file;
pub mod exports;
mod feed_scan;
pub mod flushed;
pub mod homes;
mod hot_stats;
pub mod journal_sync;
pub mod keys;
pub mod manifest;
mod notes;
mod partition_rows;
pub mod path_template;
pub mod read_view;
pub mod records;
mod row_block;
pub mod row_codec;
mod row_scan;
pub mod segment;
mod shares;
pub mod store;
pub mod stream_buckets;
mod stream_rows;
mod stream_trim;
pub mod survey;
#[cfg(test)]
pub(crate) mod testing;
mod tombstones;
pub mod topic_log;
mod topic_view;
mod upgrade;
mod varint;
mod views;

/// The rows that a stored value holds: for whoever looks at bytes of which nothing is known.
///
/// # Errors
/// `INTERNAL` where they are none.
pub fn parse_row_value(
    seq: crate::model::Seq,
    value: bytes::Bytes,
) -> crate::error::Result<Vec<crate::model::StoredRow>> {
    match row_block::parse(seq, value)? {
        row_block::RowValue::One(row) => Ok(vec![row]),
        row_block::RowValue::Block(block) => block.rows(),
    }
}

pub use cold::{Cold, ColdLookup};
pub use cold_store::ColdStore;
pub use cold_stores::{ColdStores, RemoteIo, StoreCheck};
pub use commit_log::{ColdCommit, CommitEntry, CommitLog, CommitReceipt, FjallLog};
pub use erase::{EraseScope, ErasedKeys, Eraser};
pub use export_file::ExportWriter;
pub use exports::{ExportFolder, ExportId};
pub use feed_scan::FeedScan;
pub use homes::{Homes, UserStorages};
pub use journal_sync::{JournalSync, LogSync};
pub use manifest::{PartitionManifest, ShownManifest};
pub use partition_rows::{PartitionRows, RowsPart};
pub use path_template::PathTemplate;
pub use read_view::{Found, ReadView};
pub use records::{RecordKind, RecordWrite};
pub use row_codec::BatchBuilder;
pub use row_scan::{Order, RowScan};
pub use shares::Share;
pub use store::{FilePin, OpenError, Recovered, Store};
pub use stream_buckets::StreamBuckets;
pub use tombstones::ExpiredTombstones;
pub use topic_log::{TopicAppend, TopicChange};
pub use topic_view::OldEntries;
pub use views::OlderViews;
