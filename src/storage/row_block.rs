//! Values of the `rows` keyspace: one version, or a block of the rows that one INSERT made.
//!
//! Form: `docs/on-disk-format.md`. A put into an LSM tree costs much the same for one row as for fifty, so the rows of a
//! batch share one. Rows of a block are all inserts; what becomes of one of them later stands beside the block, never
//! in it: blocks are written once.

use std::ops::Range;

use bytes::Bytes;

use super::varint;
use crate::error::{Error, Result};
use crate::model::{Change, RowBytes, RowPlace, Seq, StoredRow};

/// A block is at most this long: what a read of one of its rows has to fetch.
const BLOCK_BYTES: usize = 16 << 10;
const BLOCK_ROWS: usize = 64;

const DELETED: u8 = 1;
const CREATED_BEFORE: u8 = 2;
const BLOCK: u8 = 4;

/// The value of one version: flags, the position of the row's insert where it is another, the row.
pub(super) fn row_value(seq: Seq, created: Seq, deleted: bool, row: &RowBytes) -> Vec<u8> {
    let mut value = Vec::with_capacity(9 + row.0.len());
    let before = if created == seq { 0 } else { CREATED_BEFORE };
    value.push(before | if deleted { DELETED } else { 0 });
    if created != seq {
        value.extend_from_slice(&created.get().to_be_bytes());
    }
    value.extend_from_slice(&row.0);
    value
}

/// How many of the first changes share a block; below 2 they do not.
pub(super) fn block_len(changes: &[(Seq, Change)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, change): &&(Seq, Change)| {
        bytes += change.row.0.len() + 4;
        change.replaces.is_none() && !change.deletes && bytes <= BLOCK_BYTES
    };
    changes.iter().take(BLOCK_ROWS).take_while(fits).count()
}

/// The value of a block: flags, then each row behind its distance from the row before and its length.
pub(super) fn block_value(changes: &[(Seq, Change)]) -> Vec<u8> {
    let bytes: usize = changes.iter().map(|(_, change)| change.row.0.len() + 4).sum();
    let mut value = Vec::with_capacity(1 + bytes);
    value.push(BLOCK);
    let mut before = changes.first().map_or(Seq::ZERO, |(seq, _)| *seq);
    for (seq, change) in changes {
        varint::put(&mut value, seq.get().abs_diff(before.get()));
        varint::put(&mut value, change.row.0.len() as u64);
        value.extend_from_slice(&change.row.0);
        before = *seq;
    }
    value
}

/// What stands under a key of `rows`.
#[derive(Debug)]
pub(super) enum RowValue {
    One(StoredRow),
    Block(Block),
}

/// Rows of one INSERT, in the bytes they are stored in.
#[derive(Debug, Clone)]
pub(super) struct Block {
    first: Seq,
    rows: Bytes,
}

pub(super) fn parse(seq: Seq, value: Bytes) -> Result<RowValue> {
    let damaged = || damaged(seq);
    let flags = *value.first().ok_or_else(damaged)?;
    if flags == BLOCK {
        return Ok(RowValue::Block(Block { first: seq, rows: value.slice(1..) }));
    }
    let mut body = 1;
    let mut created = seq;
    if flags & CREATED_BEFORE != 0 {
        let raw = value.get(1..9).and_then(|b| b.try_into().ok()).ok_or_else(damaged)?;
        created = Seq::new(i64::from_be_bytes(raw)).ok_or_else(damaged)?;
        body = 9;
    }
    let row = RowBytes(value.slice(body..));
    Ok(RowValue::One(StoredRow { seq, created, deleted: flags & DELETED != 0, row, place: RowPlace::Own }))
}

impl Block {
    /// The rows in `_seq` order, those included that were changed later.
    pub(super) fn rows(&self) -> Result<Vec<StoredRow>> {
        self.places().map(|place| place.map(|(seq, bytes)| self.row_in(seq, bytes))).collect()
    }

    /// The row at `seq`; the others are passed over.
    pub(super) fn row(&self, seq: Seq) -> Result<Option<StoredRow>> {
        for place in self.places() {
            let (at, bytes) = place?;
            if at == seq {
                return Ok(Some(self.row_in(at, bytes)));
            }
        }
        Ok(None)
    }

    /// Position of the last row.
    pub(super) fn last(&self) -> Result<Seq> {
        self.places().last().map_or(Ok(self.first), |place| place.map(|(seq, _)| seq))
    }

    fn row_in(&self, seq: Seq, bytes: Range<usize>) -> StoredRow {
        let place = RowPlace::Block(self.first);
        StoredRow { seq, created: seq, deleted: false, row: RowBytes(self.rows.slice(bytes)), place }
    }

    /// Each row's position, and where its bytes are. Ends behind an error.
    fn places(&self) -> impl Iterator<Item = Result<(Seq, Range<usize>)>> {
        let (mut seq, mut at) = (self.first, 0);
        std::iter::from_fn(move || {
            let rest = self.rows.get(at..).filter(|rest| !rest.is_empty())?;
            let Some((next, bytes)) = split(rest, at, seq) else {
                at = self.rows.len();
                return Some(Err(damaged(self.first)));
            };
            (seq, at) = (next, bytes.end);
            Some(Ok((seq, bytes)))
        })
    }
}

/// The row that `rest`, the block from `at` on, begins with: its position and where its bytes are. `before`: the position
/// of the row before it.
fn split(rest: &[u8], at: usize, before: Seq) -> Option<(Seq, Range<usize>)> {
    let mut header = rest;
    let distance = varint::take(&mut header)?;
    let len = usize::try_from(varint::take(&mut header)?).ok()?;
    let start = at + rest.len() - header.len();
    let seq = Seq::new(before.get().checked_add_unsigned(distance)?)?;
    (len <= header.len()).then_some((seq, start..start + len))
}

fn damaged(seq: Seq) -> Error {
    Error::internal(format!("the row stored at {seq} is damaged"))
}

/// The value of a `pk` entry: where the live row is.
pub(super) fn pk_value(seq: Seq, place: RowPlace) -> Vec<u8> {
    let mut value = Vec::with_capacity(10);
    value.extend_from_slice(&seq.get().to_be_bytes());
    if let RowPlace::Block(first) = place {
        varint::put(&mut value, seq.get().abs_diff(first.get()));
    }
    value
}

pub(super) fn parse_pk_value(value: &[u8]) -> Result<(Seq, RowPlace)> {
    let parsed = || {
        let (seq, mut rest) = value.split_first_chunk::<8>()?;
        let seq = Seq::new(i64::from_be_bytes(*seq))?;
        if rest.is_empty() {
            return Some((seq, RowPlace::Own));
        }
        let distance = varint::take(&mut rest)?;
        let first = Seq::new(seq.get().checked_sub_unsigned(distance)?)?;
        rest.is_empty().then_some((seq, RowPlace::Block(first)))
    };
    parsed().ok_or_else(|| Error::internal("a damaged key index entry"))
}

/// The value of the mark that a row of a block is gone: where the block begins.
pub(super) fn gone_value(first: Seq) -> [u8; 8] {
    first.get().to_be_bytes()
}

pub(super) fn parse_gone(value: &[u8]) -> Result<Seq> {
    let first = value.try_into().ok().map(i64::from_be_bytes).and_then(Seq::new);
    first.ok_or_else(|| Error::internal("a damaged mark of a row that is gone"))
}

/// The row at `seq` out of what is stored where its place says.
pub(super) fn pick(value: RowValue, seq: Seq) -> Result<Option<StoredRow>> {
    match value {
        RowValue::One(row) => Ok(Some(row).filter(|row| row.seq == seq)),
        RowValue::Block(block) => block.row(seq),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::PkBytes;

    fn insert(bytes: usize) -> Change {
        let row = RowBytes(Bytes::from(vec![7; bytes]));
        Change { pk: PkBytes(Bytes::new()), row, replaces: None, deletes: false }
    }

    #[test]
    fn a_block_ends_at_its_bounds_and_at_what_is_no_insert() {
        let rows = |sizes: &[usize]| -> Vec<(Seq, Change)> { sizes.iter().map(|n| (Seq::ZERO, insert(*n))).collect() };
        assert_eq!(block_len(&rows(&[10; 100])), BLOCK_ROWS);
        assert_eq!(block_len(&rows(&[BLOCK_BYTES / 3; 5])), 2);
        assert_eq!(block_len(&rows(&[BLOCK_BYTES, 1])), 0);
        let mut mixed = rows(&[10; 4]);
        mixed[2].1.deletes = true;
        assert_eq!(block_len(&mixed), 2);
    }

    #[test]
    fn damaged_values_are_errors() {
        let seq = Seq::new(5).unwrap();
        let block = |bytes: &[u8]| match parse(seq, Bytes::copy_from_slice(bytes)).unwrap() {
            RowValue::Block(block) => block.rows(),
            RowValue::One(row) => panic!("{row:?}"),
        };
        for bytes in [&[BLOCK, 0][..], &[BLOCK, 0, 9, 1], &[BLOCK, 0x80], &[BLOCK, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]] {
            assert!(block(bytes).is_err(), "{bytes:?}");
        }
        assert!(parse(seq, Bytes::new()).is_err());
        assert!(parse(seq, Bytes::from_static(&[CREATED_BEFORE, 0, 0])).is_err());
        for bytes in [&[][..], &[0; 7], &[0; 10], &[0, 0, 0, 0, 0, 0, 0, 1, 2]] {
            assert!(parse_pk_value(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_block_comes_back(
            first in 0i64..1 << 60,
            rows in proptest::collection::vec((1u64..1 << 30, proptest::collection::vec(any::<u8>(), 0..200)), 2..20),
        ) {
            let mut seq = Seq::new(first).unwrap();
            let changes: Vec<(Seq, Change)> = rows.iter().enumerate().map(|(n, (distance, bytes))| {
                if n > 0 {
                    seq = Seq::new(seq.get() + *distance as i64).unwrap();
                }
                let change = Change { row: RowBytes(bytes.clone().into()), ..insert(0) };
                (seq, change)
            }).collect();
            let RowValue::Block(block) = parse(changes[0].0, block_value(&changes).into()).unwrap() else {
                panic!("a block")
            };
            let back: Vec<(Seq, RowBytes)> = block.rows().unwrap().into_iter().map(|r| (r.seq, r.row)).collect();
            let expected: Vec<(Seq, RowBytes)> = changes.iter().map(|(seq, c)| (*seq, c.row.clone())).collect();
            prop_assert_eq!(back, expected);
            prop_assert_eq!(block.last().unwrap(), seq);
            let place = RowPlace::Block(changes[0].0);
            prop_assert_eq!(parse_pk_value(&pk_value(seq, place)).unwrap(), (seq, place));
        }
    }
}
