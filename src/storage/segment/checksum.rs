//! Checksums of a segment: of the file, of its blocks, and of the rows in it. All are XXH3, 64 bits, seed 0.
//!
//! The file's is for whoever copies or checks a whole file (`xxhsum -H3` prints the same). The blocks' let a reader check
//! the few kilobytes that it reads: Parquet's own page checksums are not written by the crate we use. The rows' stands in
//! the file itself, so that a file can be checked without its manifest entry.

use std::fmt;
use std::str::FromStr;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType as ArrowType;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes that one block checksum covers.
pub(crate) const BLOCK: u64 = 64 << 10;

/// A checksum as it is written down: `xxh3:` and 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Checksum(pub u64);

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xxh3:{:016x}", self.0)
    }
}

impl FromStr for Checksum {
    type Err = UnknownChecksum;

    fn from_str(text: &str) -> Result<Self, UnknownChecksum> {
        let digits = text.strip_prefix("xxh3:").filter(|digits| digits.len() == 16);
        let value = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        value.map(Checksum).ok_or_else(|| UnknownChecksum(text.to_owned()))
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> String {
        checksum.to_string()
    }
}

impl TryFrom<String> for Checksum {
    type Error = UnknownChecksum;

    fn try_from(text: String) -> Result<Self, UnknownChecksum> {
        text.parse()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no checksum of ours")]
pub struct UnknownChecksum(String);

/// One checksum for each [`BLOCK`] of a file; the last block may be short.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockSums(Vec<u64>);

impl BlockSums {
    /// Is this the content of block `index`?
    pub(crate) fn holds(&self, index: usize, block: &[u8]) -> bool {
        self.0.get(index) == Some(&xxh3_64(block))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|sum| sum.to_le_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sums, rest) = bytes.as_chunks::<8>();
        rest.is_empty().then(|| Self(sums.iter().map(|sum| u64::from_le_bytes(*sum)).collect()))
    }
}

/// Sums up a file while it passes.
#[derive(Default)]
pub(crate) struct FileSums {
    file: Box<Xxh3>,
    block: Box<Xxh3>,
    in_block: u64,
    blocks: Vec<u64>,
    bytes: u64,
}

impl FileSums {
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.file.update(bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK - self.in_block).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.update(now);
            self.in_block += now.len() as u64;
            if self.in_block == BLOCK {
                self.end_block();
            }
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        self.blocks.push(self.block.digest());
        self.block.reset();
        self.in_block = 0;
    }

    /// Length, checksum and block checksums.
    pub fn finish(mut self) -> (u64, Checksum, BlockSums) {
        if self.in_block > 0 {
            self.end_block();
        }
        (self.bytes, Checksum(self.file.digest()), BlockSums(self.blocks))
    }
}

/// Sums up rows column by column, so that it does not matter how they are cut into batches.
///
/// Of each column, one hash of the bytes of its values as Arrow holds them, NULLs left out, and one of its shape: the row
/// numbers of its NULLs (`u64le`), or where values differ in length, the length of each (`u32le`, `FFFFFFFF` for NULL). The
/// result is the hash of the number of rows and all those hashes.
pub(crate) struct RowSums {
    columns: Vec<ColumnSums>,
    rows: u64,
}

#[derive(Default)]
struct ColumnSums {
    shape: Xxh3,
    values: Xxh3,
}

impl RowSums {
    pub fn new(columns: usize) -> Self {
        Self { columns: (0..columns).map(|_| ColumnSums::default()).collect(), rows: 0 }
    }

    /// `false` where the batch is not of these columns, or of a type that no column has.
    pub fn update(&mut self, batch: &RecordBatch) -> bool {
        if batch.num_columns() != self.columns.len() {
            return false;
        }
        let rows = self.rows;
        self.rows += batch.num_rows() as u64;
        self.columns.iter_mut().zip(batch.columns()).all(|(sums, array)| sums.update(array.as_ref(), rows).is_some())
    }

    pub fn finish(&self) -> Checksum {
        let mut all = Xxh3::new();
        all.update(&self.rows.to_le_bytes());
        for column in &self.columns {
            all.update(&column.shape.digest().to_le_bytes());
            all.update(&column.values.digest().to_le_bytes());
        }
        Checksum(all.digest())
    }
}

impl ColumnSums {
    fn update(&mut self, array: &dyn Array, before: u64) -> Option<()> {
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        let varies = matches!(array.data_type(), ArrowType::Utf8 | ArrowType::Binary);
        if let Some(nulls) = nulls.filter(|_| !varies) {
            for row in (0..array.len()).filter(|row| nulls.is_null(*row)) {
                self.shape.update(&(before + row as u64).to_le_bytes());
            }
        }
        match array.data_type() {
            ArrowType::Boolean => {
                let bits = array.as_boolean_opt()?;
                let of = |row| u8::from(bits.value(row));
                let bytes: Vec<u8> = (0..bits.len()).filter(|row| bits.is_valid(*row)).map(of).collect();
                self.values.update(&bytes);
            }
            ArrowType::Utf8 => {
                let strings = array.as_string_opt::<i32>()?;
                self.variable(strings.value_offsets(), strings.value_data(), nulls);
            }
            ArrowType::Binary => {
                let binary = array.as_binary_opt::<i32>()?;
                self.variable(binary.value_offsets(), binary.value_data(), nulls);
            }
            ArrowType::FixedSizeBinary(width) => {
                let bytes = array.as_fixed_size_binary_opt()?;
                self.fixed(bytes.value_data(), usize::try_from(*width).ok()?, nulls);
            }
            ArrowType::FixedSizeList(_, length) => {
                let lists = array.as_fixed_size_list_opt()?;
                let width = usize::try_from(*length).ok()? * 4;
                let floats = lists.values().to_data();
                let start = floats.offset() * 4;
                self.fixed(floats.buffers().first()?.get(start..start + lists.len() * width)?, width, nulls);
            }
            ty => {
                let width = ty.primitive_width()?;
                let data = array.to_data();
                let start = data.offset() * width;
                self.fixed(data.buffers().first()?.get(start..start + data.len() * width)?, width, nulls);
            }
        }
        Some(())
    }

    fn fixed(&mut self, bytes: &[u8], width: usize, nulls: Option<&NullBuffer>) {
        match nulls {
            None => self.values.update(bytes),
            Some(nulls) => {
                for row in nulls.valid_indices() {
                    self.values.update(&bytes[row * width..(row + 1) * width]);
                }
            }
        }
    }

    fn variable(&mut self, offsets: &[i32], bytes: &[u8], nulls: Option<&NullBuffer>) {
        for (row, ends) in offsets.windows(2).enumerate() {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                self.shape.update(&[0xFF; 4]);
                continue;
            }
            self.shape.update(&(ends[1] - ends[0]).to_le_bytes());
            self.values.update(&bytes[ends[0] as usize..ends[1] as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// However the bytes arrive, each block is known and nothing else is taken for it.
        #[test]
        fn blocks_are_those_of_the_file(
            length in 0usize..200_000, cuts in proptest::collection::vec(1usize..90_000, 0..6), seed in any::<u8>()
        ) {
            let content: Vec<u8> = (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
            let mut sums = FileSums::default();
            let mut rest = &content[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                sums.update(now);
                rest = later;
            }
            sums.update(rest);
            let (bytes, checksum, blocks) = sums.finish();
            prop_assert_eq!(bytes, length as u64);
            prop_assert_eq!(checksum.0, xxh3_64(&content));
            prop_assert_eq!(blocks.len(), content.chunks(BLOCK as usize).count());
            for (i, block) in content.chunks(BLOCK as usize).enumerate() {
                prop_assert!(blocks.holds(i, block));
                prop_assert!(!blocks.holds(i, &block[1..]));
                prop_assert!(!blocks.holds(i + 1, &[]));
            }
            prop_assert_eq!(BlockSums::from_bytes(&blocks.to_bytes()), Some(blocks));
        }
    }

    #[test]
    fn a_checksum_is_what_it_prints() {
        let checksum = Checksum(0x2a);
        assert_eq!(serde_json::to_string(&checksum).unwrap(), "\"xxh3:000000000000002a\"");
        assert_eq!(serde_json::from_str::<Checksum>("\"xxh3:000000000000002a\"").unwrap(), checksum);
        for wrong in ["xxh3:2a", "crc32:000000000000002a", ""] {
            assert!(wrong.parse::<Checksum>().is_err(), "{wrong}");
        }
        assert_eq!(BlockSums::from_bytes(&[0; 9]), None);
    }
}
