//! Keys: typed, order-preserving, built here and nowhere else.
//!
//! Every key begins with the table's id, so that one fixed set of keyspaces serves all tables. Numbers are big-endian,
//! so that bytes sort as the values do. `docs/on-disk-format.md` documents each form.
//! Never holds a key longer than [`PK_MAX`] + a header: fjall's limit (65,535 bytes) panics.

use std::ops::Bound;

use arrow::datatypes::{Decimal128Type, DecimalType};
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::model::{
    DataType, GroupId, GroupKey, Owner, PartitionKey, PkBytes, Seq, SeqRange, TableId, TableMeta, TopicId,
    TopicPartition, Value, ValueRef,
};
use crate::storage::records::RecordKind;

/// The longest encoded primary key.
pub const PK_MAX: usize = 1024;

/// Ends an owner in a key. No user id holds a control character, so no owner is a prefix of another.
const OWNER_END: u8 = 0;

/// Ends the mark of a row that is gone.
const GONE: u8 = 0;

fn table_owner(table: TableId, owner: &Owner, room: usize) -> Vec<u8> {
    let owner = owner.as_str().as_bytes();
    let mut key = Vec::with_capacity(4 + owner.len() + 1 + room);
    key.extend_from_slice(&table.0.to_be_bytes());
    key.extend_from_slice(owner);
    key.push(OWNER_END);
    key
}

/// All keys of a table, in every keyspace whose keys begin with the table.
pub(crate) fn table_prefix(table: TableId) -> [u8; 4] {
    table.0.to_be_bytes()
}

/// All keys of a partition, in `rows` and `pk`.
pub(crate) fn partition_prefix(key: &PartitionKey) -> Vec<u8> {
    table_owner(key.table, &key.owner, 0)
}

/// The owner in a key that begins with table ∥ owner.
pub(crate) fn owner_of(key: &[u8]) -> Option<Owner> {
    let owner = key.get(4..)?;
    let end = owner.iter().position(|byte| *byte == OWNER_END)?;
    Owner::from_stored(std::str::from_utf8(&owner[..end]).ok()?)
}

/// The partition's prefix and the position of a key of `rows` that is no mark.
pub(crate) fn partition_of_row(key: &[u8]) -> Option<(&[u8], Seq)> {
    let end = 4 + key.get(4..)?.iter().position(|byte| *byte == OWNER_END)? + 1;
    let (partition, seq) = key.split_at(end);
    Some((partition, Seq::new(i64::from_be_bytes(seq.try_into().ok()?))?))
}

/// Where the keys with this prefix end.
pub(crate) fn prefix_end(prefix: &[u8]) -> Bound<Vec<u8>> {
    match prefix.iter().rposition(|byte| *byte < u8::MAX) {
        None => Bound::Unbounded,
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Bound::Excluded(end)
        }
    }
}

/// `rows`: table ∥ owner ∥ seq.
pub(crate) fn row(key: &PartitionKey, seq: Seq) -> Vec<u8> {
    let mut bytes = table_owner(key.table, &key.owner, 8);
    bytes.extend_from_slice(&seq.get().to_be_bytes());
    bytes
}

/// `rows`: the mark that a row of a block was replaced or deleted. It sorts right behind the row's own position, so
/// between its block and whatever follows the block.
pub(crate) fn gone(key: &PartitionKey, seq: Seq) -> Vec<u8> {
    let mut bytes = table_owner(key.table, &key.owner, 9);
    bytes.extend_from_slice(&seq.get().to_be_bytes());
    bytes.push(GONE);
    bytes
}

/// The position that a key of `manifest` ends with.
pub(crate) fn seq_at_end(key: &[u8]) -> Option<Seq> {
    let tail = key.len().checked_sub(8)?;
    Seq::new(i64::from_be_bytes(key[tail..].try_into().ok()?))
}

/// What a key of `rows` is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowKey {
    /// A version or a block that begins here.
    At(Seq),
    /// The row of a block at this position is gone.
    Gone(Seq),
}

/// Reads a key of `rows` of this partition.
pub(crate) fn parse_row_key(key: &PartitionKey, bytes: &[u8]) -> Option<RowKey> {
    let tail = bytes.get(4 + key.owner.as_str().len() + 1..)?;
    let (seq, rest) = tail.split_first_chunk::<8>()?;
    let seq = Seq::new(i64::from_be_bytes(*seq))?;
    match rest {
        [] => Some(RowKey::At(seq)),
        [GONE] => Some(RowKey::Gone(seq)),
        _ => None,
    }
}

/// `pk`: table ∥ owner ∥ primary key.
pub(crate) fn pk(key: &PartitionKey, pk: &PkBytes) -> Vec<u8> {
    let mut bytes = table_owner(key.table, &key.owner, pk.0.len());
    bytes.extend_from_slice(&pk.0);
    bytes
}

/// `notes`: table ∥ owner ∥ name.
pub(crate) fn note(key: &PartitionKey, name: &[u8]) -> Vec<u8> {
    let mut bytes = table_owner(key.table, &key.owner, name.len());
    bytes.extend_from_slice(name);
    bytes
}

/// `feed`: table ∥ first position of a statement's changes.
pub(crate) fn feed(table: TableId, first: Seq) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&table.0.to_be_bytes());
    bytes[4..].copy_from_slice(&first.get().to_be_bytes());
    bytes
}

/// Of a table whose feed lies beside its rows: no table has an id so high.
const FEED_IN_BUCKET: u32 = 1 << 31;

/// A bucket of STREAM rows: what `feed` is for other tables.
pub(crate) fn stream_feed(table: TableId, first: Seq) -> [u8; 12] {
    feed(TableId(table.0 | FEED_IN_BUCKET), first)
}

/// All [`stream_feed`] keys of a table.
pub(crate) fn stream_feed_prefix(table: TableId) -> [u8; 4] {
    table_prefix(TableId(table.0 | FEED_IN_BUCKET))
}

/// Of what gave way in a STREAM table: no table has an id so high.
const NOTES_IN_BUCKET: u32 = 1 << 30;

/// A bucket of STREAM rows: what is noted of one owner's rows.
pub(crate) fn stream_note(key: &PartitionKey) -> Vec<u8> {
    table_owner(TableId(key.table.0 | NOTES_IN_BUCKET), &key.owner, 0)
}

/// The same of the feed over all owners. No owner's name begins with this byte.
pub(crate) fn stream_feed_note(table: TableId) -> [u8; 5] {
    let [a, b, c, d] = stream_notes_prefix(table);
    [a, b, c, d, u8::MAX]
}

/// All [`stream_note`] keys of a table.
pub(crate) fn stream_notes_prefix(table: TableId) -> [u8; 4] {
    table_prefix(TableId(table.0 | NOTES_IN_BUCKET))
}

/// The value of a `feed` entry: last position ∥ owner.
pub(crate) fn feed_value(last: Seq, owner: &Owner) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + owner.as_str().len());
    bytes.extend_from_slice(&last.get().to_be_bytes());
    bytes.extend_from_slice(owner.as_str().as_bytes());
    bytes
}

/// The positions and the owner of a `feed` entry.
pub(crate) fn parse_feed(key: &[u8], value: &[u8]) -> Option<(SeqRange, Owner)> {
    let first = Seq::new(i64::from_be_bytes(key.get(4..12)?.try_into().ok()?))?;
    let last = Seq::new(i64::from_be_bytes(value.get(..8)?.try_into().ok()?))?;
    let owner = Owner::from_stored(std::str::from_utf8(value.get(8..)?).ok()?)?;
    Some((SeqRange { first, last }, owner))
}

/// `manifest`: table ∥ owner ∥ first position of a segment. Position 0, which no change has, is the partition's head.
pub fn manifest(key: &PartitionKey, first: Seq) -> Vec<u8> {
    row(key, first)
}

/// All `manifest` keys of a partition.
pub fn manifest_prefix(key: &PartitionKey) -> Vec<u8> {
    table_owner(key.table, &key.owner, 0)
}

/// `deletions`: table ∥ segment ∥ row position in the segment.
pub fn deletion(table: TableId, segment: u64, position: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..12].copy_from_slice(&deletions_prefix(table, segment));
    bytes[12..].copy_from_slice(&position.to_be_bytes());
    bytes
}

/// All `deletions` keys of a segment.
pub fn deletions_prefix(table: TableId, segment: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&table.0.to_be_bytes());
    bytes[4..].copy_from_slice(&segment.to_be_bytes());
    bytes
}

/// The row position in a `deletions` key.
pub fn position_of_deletion(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(12..16)?.try_into().ok()?))
}

/// What a key of `topics` is for, behind the topic.
#[repr(u8)]
enum TopicSpace {
    Head = 0,
    Group = 1,
    Log = 2,
}

/// All keys of a topic.
pub(crate) fn topic_prefix(topic: TopicId) -> [u8; 4] {
    topic.0.to_be_bytes()
}

fn topic_key(topic: TopicId, space: TopicSpace, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + room);
    key.extend_from_slice(&topic_prefix(topic));
    key.push(space as u8);
    key
}

/// `topics`: topic ∥ 0 ∥ partition.
pub(crate) fn topic_head(at: TopicPartition) -> Vec<u8> {
    let mut key = topic_key(at.topic, TopicSpace::Head, 4);
    key.extend_from_slice(&at.partition.to_be_bytes());
    key
}

/// `topics`: all groups of a topic.
pub(crate) fn topic_groups(topic: TopicId) -> Vec<u8> {
    topic_key(topic, TopicSpace::Group, 0)
}

/// `topics`: topic ∥ 1 ∥ group ∥ 0 ∥ partition.
pub(crate) fn topic_group(key: &GroupKey) -> Vec<u8> {
    let group = key.group.as_str().as_bytes();
    let mut bytes = topic_key(key.at.topic, TopicSpace::Group, group.len() + 5);
    bytes.extend_from_slice(group);
    bytes.push(OWNER_END);
    bytes.extend_from_slice(&key.at.partition.to_be_bytes());
    bytes
}

/// The group and the partition of a key of a topic's groups.
pub(crate) fn parse_topic_group(key: &[u8]) -> Option<GroupKey> {
    let (topic, rest) = key.split_first_chunk::<4>()?;
    let (group, partition) = rest.get(1..)?.split_last_chunk::<4>()?;
    let group = GroupId::parse(std::str::from_utf8(group.strip_suffix(&[OWNER_END])?).ok()?).ok()?;
    let topic = TopicId(u32::from_be_bytes(*topic));
    Some(GroupKey { at: TopicPartition { topic, partition: u32::from_be_bytes(*partition) }, group })
}

/// `topics`: topic ∥ 2 ∥ partition ∥ offset.
pub(crate) fn topic_entry(at: TopicPartition, offset: u64) -> Vec<u8> {
    let mut key = topic_key(at.topic, TopicSpace::Log, 12);
    key.extend_from_slice(&at.partition.to_be_bytes());
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

/// The offset that a key of a log ends with.
pub(crate) fn topic_offset(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|offset| u64::from_be_bytes(*offset))
}

/// `records`: kind ∥ name.
pub(crate) fn record(kind: RecordKind, name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + name.len());
    bytes.push(kind as u8);
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// The order-preserving encoding of the primary key among `values` (one value per column of `table`, in order).
///
/// # Errors
/// `NOT_NULL` where a key column is NULL (as row `row`, from 1), `INVALID_INPUT` where the key is longer than
/// [`PK_MAX`] bytes.
pub fn encode_pk(table: &TableMeta, values: &[Value], row: usize) -> Result<PkBytes> {
    encode_key_values(table, table.unique_key().iter().filter_map(|i| values.get(*i)), row)
}

/// [`encode_pk`] of the key columns alone, in key order.
///
/// # Errors
/// As [`encode_pk`].
pub fn encode_key_values<'v>(
    table: &TableMeta,
    key_values: impl Iterator<Item = &'v Value>,
    row: usize,
) -> Result<PkBytes> {
    let mut out = Vec::with_capacity(16);
    for (column, value) in table.unique_key().iter().zip(key_values) {
        let column = &table.columns[*column];
        if value.is_null() {
            return Err(Error::NotNull { column: column.name.to_string(), row });
        }
        encode_key_cell(&mut out, column.data_type, value.as_cell());
    }
    if out.len() > PK_MAX {
        let columns: Vec<&str> = table.primary_key.iter().map(|i| table.columns[*i].name.as_str()).collect();
        return Err(Error::InvalidInput(format!(
            "The primary key ({}) of row {row} takes {} bytes; {PK_MAX} are allowed",
            columns.join(", "),
            out.len()
        )));
    }
    Ok(PkBytes(Bytes::from(out)))
}

/// Appends one key column's part of [`encode_pk`].
pub(super) fn encode_key_cell(out: &mut Vec<u8>, ty: DataType, cell: ValueRef<'_>) {
    match cell {
        // Refused by the caller, and by `DataType::can_be_key` when the table was made.
        ValueRef::Null | ValueRef::Vector(_) => {}
        ValueRef::Bool(v) => out.push(u8::from(v)),
        ValueRef::Int(v) => {
            // Flipping the sign bit makes negative numbers sort before positive ones.
            let bytes = (v ^ i64::MIN).to_be_bytes();
            match ty {
                DataType::SmallInt => out.extend_from_slice(&((v as i16) ^ i16::MIN).to_be_bytes()),
                DataType::Int | DataType::Date => out.extend_from_slice(&((v as i32) ^ i32::MIN).to_be_bytes()),
                _ => out.extend_from_slice(&bytes),
            }
        }
        ValueRef::Float(v) => {
            // One zero; then the usual trick: flip all bits of negatives, the sign bit of the others.
            let bits = (if v == 0.0 { 0.0 } else { v }).to_bits();
            let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        ValueRef::Text(v) => encode_key_bytes(out, v.as_bytes()),
        ValueRef::Bytes(v) => encode_key_bytes(out, v),
        ValueRef::Uuid(v) => out.extend_from_slice(v),
        ValueRef::Decimal(v) => out.extend_from_slice(&(v ^ i128::MIN).to_be_bytes()),
    }
}

/// 00 becomes 00 FF, and 00 00 ends: so that "a" sorts before "a\0" and before "ab", also in a composite key.
fn encode_key_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// The key columns' values that [`encode_pk`] encoded, in `table.primary_key` order; `None` where the bytes are no key.
pub fn decode_pk(table: &TableMeta, pk: &PkBytes) -> Option<Vec<Value>> {
    let mut rest: &[u8] = &pk.0;
    let mut values = Vec::with_capacity(table.primary_key.len());
    for column in &table.primary_key {
        let (value, after) = decode_key_value(rest, table.columns[*column].data_type)?;
        values.push(value);
        rest = after;
    }
    rest.is_empty().then_some(values)
}

fn decode_key_value(bytes: &[u8], ty: DataType) -> Option<(Value, &[u8])> {
    fn fixed<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
        bytes.split_first_chunk::<N>().map(|(head, rest)| (*head, rest))
    }
    Some(match ty {
        DataType::Boolean => fixed::<1>(bytes).map(|(b, rest)| (Value::Bool(b[0] != 0), rest))?,
        DataType::SmallInt => {
            fixed(bytes).map(|(b, rest)| (Value::Int(i64::from(i16::from_be_bytes(b) ^ i16::MIN)), rest))?
        }
        DataType::Int | DataType::Date => {
            fixed(bytes).map(|(b, rest)| (Value::Int(i64::from(i32::from_be_bytes(b) ^ i32::MIN)), rest))?
        }
        DataType::BigInt | DataType::Time | DataType::Timestamp | DataType::DateTime => {
            fixed(bytes).map(|(b, rest)| (Value::Int(i64::from_be_bytes(b) ^ i64::MIN), rest))?
        }
        DataType::Float | DataType::Double => {
            let (b, rest) = fixed(bytes)?;
            let ordered = u64::from_be_bytes(b);
            let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
            (Value::Float(f64::from_bits(bits)), rest)
        }
        DataType::Uuid => fixed(bytes).map(|(b, rest)| (Value::Uuid(b), rest))?,
        DataType::Decimal { .. } => {
            fixed(bytes).map(|(b, rest)| (Value::Decimal(i128::from_be_bytes(b) ^ i128::MIN), rest))?
        }
        DataType::Text => {
            let (raw, rest) = decode_key_bytes(bytes)?;
            (Value::Text(String::from_utf8(raw).ok()?), rest)
        }
        DataType::Bytes => {
            let (raw, rest) = decode_key_bytes(bytes)?;
            (Value::Bytes(raw), rest)
        }
        DataType::Json | DataType::File | DataType::Embedding(_) => return None,
    })
}

fn decode_key_bytes(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut raw = Vec::with_capacity(bytes.len());
    let mut at = 0;
    loop {
        let byte = *bytes.get(at)?;
        if byte != 0 {
            raw.push(byte);
            at += 1;
            continue;
        }
        match *bytes.get(at + 1)? {
            0 => return Some((raw, &bytes[at + 2..])),
            0xFF => raw.push(0),
            _ => return None,
        }
        at += 2;
    }
}

/// A key as an error message shows it: `7`, or `7, alice` of a composite key.
pub fn display_pk(table: &TableMeta, pk: &PkBytes) -> String {
    let Some(values) = decode_pk(table, pk) else { return "?".to_owned() };
    let texts: Vec<String> = table
        .primary_key
        .iter()
        .zip(&values)
        .map(|(column, value)| display_value(table.columns[*column].data_type, value))
        .collect();
    texts.join(", ")
}

fn display_value(ty: DataType, value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(v) => v.to_string(),
        Value::Int(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Text(v) => v.clone(),
        Value::Bytes(v) => format!("{} bytes", v.len()),
        Value::Uuid(v) => uuid::Uuid::from_bytes(*v).to_string(),
        Value::Decimal(v) => match ty {
            DataType::Decimal { precision, scale } => {
                <Decimal128Type as DecimalType>::format_decimal(*v, precision, scale)
            }
            _ => v.to_string(),
        },
        Value::Vector(v) => format!("a vector of {}", v.len()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::row_codec::tests::table_with;

    fn key_type() -> impl Strategy<Value = DataType> {
        prop_oneof![
            Just(DataType::Boolean),
            Just(DataType::SmallInt),
            Just(DataType::Int),
            Just(DataType::BigInt),
            Just(DataType::Double),
            Just(DataType::Text),
            Just(DataType::Bytes),
            Just(DataType::Date),
            Just(DataType::Timestamp),
            Just(DataType::Uuid),
            Just(DataType::Decimal { precision: 38, scale: 4 }),
        ]
    }

    /// Two values of one type.
    fn pair(ty: DataType) -> BoxedStrategy<(Value, Value)> {
        let one = crate::storage::row_codec::tests::value_of(ty);
        (one.clone(), one).boxed()
    }

    fn order(a: &Value, b: &Value) -> std::cmp::Ordering {
        match (a, b) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
            (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
            _ => panic!("values of one type"),
        }
    }

    proptest! {
        #[test]
        fn composite_keys_come_back_and_sort_as_their_values(
            ((ty1, ty2), (a1, b1), (a2, b2)) in (key_type(), key_type())
                .prop_flat_map(|(t1, t2)| (Just((t1, t2)), pair(t1), pair(t2)))
        ) {
            let table = table_with(&[ty1, ty2], &[0, 1]);
            let (a, b) = (vec![a1, a2], vec![b1, b2]);
            let (ka, kb) = (encode_pk(&table, &a, 1).unwrap(), encode_pk(&table, &b, 1).unwrap());
            let back = decode_pk(&table, &ka).unwrap();
            prop_assert!(a.iter().zip(&back).all(|(x, y)| order(x, y).is_eq()), "{a:?} came back as {back:?}");
            let expected = order(&a[0], &b[0]).then(order(&a[1], &b[1]));
            prop_assert_eq!(ka.cmp(&kb), expected, "{:?} and {:?}", a, b);
        }

        #[test]
        fn a_feed_entry_comes_back(first in 0i64.., last in 0i64.., owner in "[a-z]{0,9}") {
            let (first, last) = (Seq::new(first).unwrap(), Seq::new(last).unwrap());
            let owner = Owner::from_stored(&owner).unwrap();
            let parsed = parse_feed(&feed(TableId(7), first), &feed_value(last, &owner));
            prop_assert_eq!(parsed, Some((SeqRange { first, last }, owner)));
        }
    }

    #[test]
    fn one_owners_keys_are_never_anothers() {
        let of = |owner: &str| PartitionKey { table: TableId(1), owner: Owner::from_stored(owner).unwrap() };
        let a = row(&of("al"), Seq::MAX);
        let b = row(&of("alice"), Seq::ZERO);
        assert!(!b.starts_with(&a[..4 + 3]), "'al' must not be a prefix of 'alice'");
        assert_eq!(parse_row_key(&of("al"), &a), Some(RowKey::At(Seq::MAX)));
        let mark = gone(&of("al"), Seq::ZERO);
        assert_eq!(parse_row_key(&of("al"), &mark), Some(RowKey::Gone(Seq::ZERO)));
        assert!(row(&of("al"), Seq::ZERO) < mark && mark < row(&of("al"), Seq::ZERO.after()));
    }

    #[test]
    fn a_prefix_ends_before_its_neighbour() {
        let cases: [(&[u8], Bound<Vec<u8>>); 3] = [
            (&[0, 0, 0, 7], Bound::Excluded(vec![0, 0, 0, 8])),
            (&[0, 0, 1, 255], Bound::Excluded(vec![0, 0, 2])),
            (&[255, 255], Bound::Unbounded),
        ];
        for (prefix, end) in cases {
            assert_eq!(prefix_end(prefix), end);
        }
    }

    #[test]
    fn keys_of_the_cold_half_sort_as_what_they_name() {
        let key = PartitionKey { table: TableId(7), owner: Owner::from_stored("al").unwrap() };
        assert_eq!(manifest(&key, Seq::ZERO)[..], *b"\0\0\0\x07al\0\0\0\0\0\0\0\0\0");
        assert!(manifest(&key, Seq::ZERO).starts_with(&manifest_prefix(&key)));
        assert!(manifest(&key, Seq::ZERO) < manifest(&key, Seq::new(1).unwrap()));
        let deleted = deletion(TableId(7), 258, 5);
        assert_eq!(deleted, *b"\0\0\0\x07\0\0\0\0\0\0\x01\x02\0\0\0\x05");
        assert!(deleted.starts_with(&deletions_prefix(TableId(7), 258)) && deleted < deletion(TableId(7), 258, 256));
        assert_eq!(position_of_deletion(&deleted), Some(5));
        assert_eq!(position_of_deletion(&deleted[..14]), None);
    }

    #[test]
    fn refuses_null_and_overlong_keys() {
        let table = table_with(&[DataType::Text], &[0]);
        assert!(matches!(encode_pk(&table, &[Value::Null], 3), Err(Error::NotNull { row: 3, .. })));
        let long = Value::Text("x".repeat(PK_MAX));
        assert!(matches!(encode_pk(&table, &[long], 1), Err(Error::InvalidInput(_))));
    }
}
