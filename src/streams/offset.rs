//! Offsets: positions of rows as readers hold them.
//!
//! A position's sixteen hexadecimal digits sort as it does. Behind them stands the place within a row, which is always
//! its end: so the second number is 0 today.

use std::fmt;

use crate::error::{Error, Result};
use crate::model::Seq;

/// Everything up to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(pub Seq);

/// From where a reader wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    Beginning,
    Now,
    After(Seq),
}

const DIGITS: usize = 16;

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}_{:016}", self.0.get(), 0)
    }
}

impl Offset {
    /// # Errors
    /// `INVALID_INPUT` for what no server of ours has given out.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = || Error::InvalidInput(format!("'{text}' is no offset: send what Stream-Next-Offset said"));
        let (position, within) = text.split_once('_').ok_or_else(invalid)?;
        let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let formed = position.len() == DIGITS && position.bytes().all(hexadecimal);
        if !formed || within.len() != DIGITS || within.bytes().any(|b| b != b'0') {
            return Err(invalid());
        }
        let raw = i64::from_str_radix(position, 16).ok().and_then(Seq::new);
        raw.map(Offset).ok_or_else(invalid)
    }
}

impl ReadFrom {
    /// The `offset` parameter; without one, from the beginning.
    ///
    /// # Errors
    /// `INVALID_INPUT`.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        match text {
            None | Some("-1") => Ok(ReadFrom::Beginning),
            Some("now") => Ok(ReadFrom::Now),
            Some(text) => Offset::parse(text).map(|offset| ReadFrom::After(offset.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_offset_is_refused() {
        for text in [
            "",
            "x",
            "0,1",
            "0 1",
            "-2",
            "0000000000000000",
            "0000000000000000_",
            "0000000000000000_0000000000000001",
            "000000000000000G_0000000000000000",
            "000000000000000A_0000000000000000",
            "9999999999999999_9999999999999999",
            "ffffffffffffffff_0000000000000000",
            "+000000000000001_0000000000000000",
        ] {
            assert!(ReadFrom::parse(Some(text)).is_err(), "{text}");
        }
        assert_eq!(ReadFrom::parse(None).unwrap(), ReadFrom::Beginning);
        assert_eq!(ReadFrom::parse(Some("-1")).unwrap(), ReadFrom::Beginning);
        assert_eq!(ReadFrom::parse(Some("now")).unwrap(), ReadFrom::Now);
        let first = "0000000000000000_0000000000000000";
        assert_eq!(ReadFrom::parse(Some(first)).unwrap(), ReadFrom::After(Seq::ZERO));
    }

    proptest! {
        #[test]
        fn offsets_read_back_and_sort_as_positions(a in 0..=i64::MAX, b in 0..=i64::MAX) {
            let (a, b) = (Offset(Seq::new(a).unwrap()), Offset(Seq::new(b).unwrap()));
            prop_assert_eq!(Offset::parse(&a.to_string()).unwrap(), a);
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }
    }
}
