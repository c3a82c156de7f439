//! One keyspace as a file: its entries in their order, in blocks that are checked before they are read.
//!
//! Form: `INBOXKS1`, then blocks of length (`u32le`) ∥ XXH3 of the payload (`u64le`) ∥ payload; behind the last one a length
//! of 0, the XXH3 of what follows, and the number of entries (`u64le`). A payload is entries: length of the key (`u32le`) ∥
//! key ∥ length of the value (`u32le`) ∥ value.
//! Owns the bound on memory: one block, which is larger than its target only where one entry is.

use std::io::{self, Read, Write};

use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"INBOXKS1";

/// A block ends behind the entry that reaches this.
const BLOCK_BYTES: usize = 256 << 10;

pub(super) struct EntryWriter<W> {
    out: W,
    block: Vec<u8>,
    entries: u64,
}

impl<W: Write> EntryWriter<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self { out, block: Vec::with_capacity(BLOCK_BYTES), entries: 0 })
    }

    /// `true`: a block went out.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<bool> {
        for part in [key, value] {
            let length = u32::try_from(part.len()).map_err(io::Error::other)?;
            self.block.extend_from_slice(&length.to_le_bytes());
            self.block.extend_from_slice(part);
        }
        self.entries += 1;
        let full = self.block.len() >= BLOCK_BYTES;
        if full {
            self.write_block()?;
        }
        Ok(full)
    }

    /// What was written to, and how many entries.
    pub(super) fn finish(mut self) -> io::Result<(W, u64)> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        let count = self.entries.to_le_bytes();
        self.out.write_all(&0u32.to_le_bytes())?;
        self.out.write_all(&xxh3_64(&count).to_le_bytes())?;
        self.out.write_all(&count)?;
        Ok((self.out, self.entries))
    }

    fn write_block(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.block.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&xxh3_64(&self.block).to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

/// Reads what [`EntryWriter`] wrote, block by block.
pub(super) struct EntryReader<R> {
    input: R,
    /// Bytes of the file that are not read yet: no block is longer, whatever it says.
    left: u64,
    entries: u64,
}

impl<R: Read> EntryReader<R> {
    pub(super) fn open(mut input: R, bytes: u64) -> io::Result<Self> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(damaged("it does not begin as a keyspace's file does"));
        }
        Ok(Self { input, left: bytes.saturating_sub(8), entries: 0 })
    }

    /// The entries of the next block; `None` behind the last, once their number is right.
    pub(super) fn next_block(&mut self) -> io::Result<Option<Block>> {
        let length = u32::from_le_bytes(self.array()?);
        let sum = u64::from_le_bytes(self.array()?);
        let is_last = length == 0;
        let length = if is_last { 8 } else { length as usize };
        if length as u64 > self.left {
            return Err(damaged("a block reaches past its end"));
        }
        let mut payload = vec![0; length];
        self.input.read_exact(&mut payload)?;
        self.left -= length as u64;
        if xxh3_64(&payload) != sum {
            return Err(damaged("a block is not what was written"));
        }
        if !is_last {
            let block = Block { payload, at: 0 };
            self.entries += block.count()?;
            return Ok(Some(block));
        }
        let count = payload.try_into().map(u64::from_le_bytes).unwrap_or_default();
        if count != self.entries || self.left != 0 {
            return Err(damaged("it does not end where its entries do"));
        }
        Ok(None)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.left = self.left.saturating_sub(N as u64);
        Ok(bytes)
    }
}

/// Entries that are in memory, and what was written.
pub(super) struct Block {
    payload: Vec<u8>,
    at: usize,
}

impl Block {
    /// Key and value; `None` at the end.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<(&[u8], &[u8])>> {
        if self.at == self.payload.len() {
            return Ok(None);
        }
        let rest = &self.payload[self.at..];
        let (key, behind) = part(rest)?;
        let (value, behind) = part(behind)?;
        self.at = self.payload.len() - behind.len();
        Ok(Some((key, value)))
    }

    fn count(&self) -> io::Result<u64> {
        let (mut rest, mut count) = (&self.payload[..], 0);
        while !rest.is_empty() {
            rest = part(part(rest)?.1)?.1;
            count += 1;
        }
        Ok(count)
    }
}

fn part(bytes: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let split = bytes.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = u32::from_le_bytes(*length) as usize;
        rest.split_at_checked(length)
    });
    split.ok_or_else(|| damaged("an entry reaches past its block"))
}

fn damaged(fault: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Entries = Vec<(Vec<u8>, Vec<u8>)>;

    fn written(entries: &Entries) -> Vec<u8> {
        let mut writer = EntryWriter::new(Vec::new()).unwrap();
        for (key, value) in entries {
            writer.push(key, value).unwrap();
        }
        let (bytes, count) = writer.finish().unwrap();
        assert_eq!(count, entries.len() as u64);
        bytes
    }

    fn read(bytes: &[u8]) -> io::Result<Entries> {
        let mut reader = EntryReader::open(bytes, bytes.len() as u64)?;
        let mut entries = Vec::new();
        while let Some(mut block) = reader.next_block()? {
            while let Some((key, value)) = block.next_entry()? {
                entries.push((key.to_vec(), value.to_vec()));
            }
        }
        Ok(entries)
    }

    fn some_entries() -> impl Strategy<Value = Entries> {
        let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max);
        proptest::collection::vec((bytes(20), bytes(300)), 0..12)
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(entries in some_entries()) {
            prop_assert_eq!(read(&written(&entries)).unwrap(), entries);
        }

        #[test]
        fn any_flipped_bit_and_any_cut_is_found(entries in some_entries(), at in any::<usize>()) {
            let bytes = written(&entries);
            let bit = at % (bytes.len() * 8);
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&flipped).is_err(), "bit {}", bit);
            prop_assert!(read(&bytes[..bit / 8]).is_err(), "cut at {}", bit / 8);
            let longer = [&bytes[..], &[0]].concat();
            prop_assert!(read(&longer).is_err());
        }
    }

    #[test]
    fn large_entries_and_many_entries_make_blocks() {
        let large = vec![7; BLOCK_BYTES * 3];
        let mut entries: Entries = (0..10_000u32).map(|i| (i.to_be_bytes().to_vec(), vec![1; 100])).collect();
        entries.push((b"z".to_vec(), large));
        assert_eq!(read(&written(&entries)).unwrap(), entries);
    }

    #[test]
    fn the_bytes_are_those_of_the_page() {
        let bytes = written(&vec![(b"k".to_vec(), b"val".to_vec())]);
        let payload = b"\x01\0\0\0k\x03\0\0\0val";
        let mut expected = b"INBOXKS1\x0c\0\0\0".to_vec();
        expected.extend_from_slice(&xxh3_64(payload).to_le_bytes());
        expected.extend_from_slice(payload);
        expected.extend_from_slice(&[0; 4]);
        expected.extend_from_slice(&xxh3_64(&1u64.to_le_bytes()).to_le_bytes());
        expected.extend_from_slice(&1u64.to_le_bytes());
        assert_eq!(bytes, expected);
    }
}
