//! Notes: small documents of a partition, beside its rows. Durable with a statement's changes, or by themselves.

use bytes::Bytes;

use super::Seq;

/// Puts (`Some`) or removes (`None`) one note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteWrite {
    /// Unique in its partition.
    pub name: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// A note as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNote {
    /// The first and the last position of the commit that put it there.
    pub commit: (Seq, Seq),
    pub value: Bytes,
}
