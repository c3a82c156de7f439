//! Which keys a segment may hold: a split block Bloom filter over encoded primary keys, about 10 bits a key.
//!
//! Kept with the manifest entry, so that a key that is nowhere opens no file, and one that is somewhere opens about one.

use std::fmt;

use parquet::bloom_filter::Sbbf;

/// Of a hundred keys that are not in the segment, about one seems to be.
const FALSE_POSITIVES: f64 = 0.01;

#[derive(Clone)]
pub struct KeyFilter(Sbbf);

impl KeyFilter {
    /// The filter of these encoded keys.
    pub fn build<'k>(keys: impl ExactSizeIterator<Item = &'k [u8]>) -> Self {
        let mut builder = KeyFilterBuilder::new(keys.len());
        keys.for_each(|key| builder.insert(key));
        builder.finish()
    }

    /// May a row with this encoded key be in the segment? Never `false` for one that is.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.0.check(key)
    }

    /// As Parquet writes its bloom filters: header, then bits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing into memory does not fail, and a filter of ours has a header that can be written.
        let _ = self.0.write(&mut bytes);
        bytes
    }

    /// `None` where the bytes are no filter.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Sbbf::from_bytes(bytes).ok().filter(|filter| filter.num_blocks() > 0).map(Self)
    }

    pub fn size(&self) -> usize {
        self.0.num_blocks() * 32
    }
}

impl fmt::Debug for KeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFilter({} bytes)", self.size())
    }
}

/// Takes keys whose number is not known before the end.
pub(crate) struct KeyFilterBuilder(Sbbf);

impl KeyFilterBuilder {
    /// For at most `keys` keys; with fewer, the filter is folded to their number.
    pub fn new(keys: usize) -> Self {
        // The bits for `k` = 8 hashes, by the formula of Parquet's specification: 9.68 a key. Rounded up to a power of two.
        let bits_per_key = -8.0 / (1.0 - FALSE_POSITIVES.powf(1.0 / 8.0)).ln();
        Self(Sbbf::new_with_num_of_bytes((keys as f64 * bits_per_key / 8.0) as usize))
    }

    pub fn insert(&mut self, key: &[u8]) {
        self.0.insert(key);
    }

    pub fn finish(mut self) -> KeyFilter {
        self.0.fold_to_target_fpp(FALSE_POSITIVES);
        KeyFilter(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(from: u64, count: u64) -> Vec<[u8; 8]> {
        (from..from + count).map(u64::to_be_bytes).collect()
    }

    #[test]
    fn knows_all_its_keys_and_few_others() {
        for count in [0, 1, 1_000, 20_000] {
            let held = keys(0, count);
            let filter = KeyFilter::build(held.iter().map(|key| &key[..]));
            assert!(held.iter().all(|key| filter.contains(key)));
            let strangers = keys(1 << 40, 10_000);
            let taken = strangers.iter().filter(|key| filter.contains(&key[..])).count();
            assert!(taken < 300, "{taken} of 10,000 strangers, with {count} keys");
            assert!(filter.size() <= 32 + 4 * usize::try_from(count).unwrap(), "{filter:?} for {count} keys");
        }
    }

    #[test]
    fn comes_back_from_its_bytes() {
        let held = keys(7, 500);
        let mut builder = KeyFilterBuilder::new(100_000);
        held.iter().for_each(|key| builder.insert(key));
        let filter = builder.finish();
        assert!(filter.size() <= 1_024, "folded to its 500 keys: {filter:?}");
        let bytes = filter.to_bytes();
        let back = KeyFilter::from_bytes(&bytes).unwrap();
        assert!(held.iter().all(|key| back.contains(key)));
        assert_eq!(back.to_bytes(), bytes);
        for damaged in [&bytes[..bytes.len() - 1], &[][..], b"no filter"] {
            assert!(KeyFilter::from_bytes(damaged).is_none());
        }
    }
}
