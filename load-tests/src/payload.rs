//! What the rows carry: bodies of 200 bytes, and the stamp that tells when a message was due.
//!
//! Owns [`Payload`] and [`Stamp`]. Bodies are plain letters and spaces, so that no side pays for escaping, and are
//! derived from the row's id, so that a reader can tell a right answer from a wrong one without a table of them.

use crate::zipf::Random;

pub(crate) const BODY_BYTES: usize = 200;

const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";
/// Large beside any compression window of a hot path, so that bodies that overlap do not make storage look cheap.
const TEXT_BYTES: usize = 1 << 20;

pub(crate) struct Payload {
    text: String,
}

impl Payload {
    pub(crate) fn new() -> Self {
        let mut random = Random::new(0x1B0D);
        let text = (0..TEXT_BYTES).map(|_| char::from(ALPHABET[random.below(ALPHABET.len())])).collect();
        Self { text }
    }

    pub(crate) fn body(&self, id: i64) -> &str {
        let start = Random::new(id.cast_unsigned()).below(TEXT_BYTES - BODY_BYTES);
        &self.text[start..start + BODY_BYTES]
    }

    /// The body of message `number`, due `due_ns` after the run's beginning.
    pub(crate) fn stamped(&self, stamp: Stamp) -> String {
        let mut body = format!("{:010} {:015} ", stamp.number, stamp.due_ns);
        let filler = BODY_BYTES - body.len();
        body.push_str(&self.body(stamp.number as i64)[..filler]);
        body
    }

    /// The same, to be found within a frame of whatever format.
    pub(crate) fn marked(&self, stamp: Stamp) -> String {
        let mut body = self.stamped(stamp);
        body.insert_str(0, &String::from_utf8_lossy(MARKER));
        body.truncate(BODY_BYTES);
        body
    }
}

/// What a body that is looked for among other bytes begins with.
pub(crate) const MARKER: &[u8] = b"~!~";

/// The beginning of a message's body: its number, and when it should have been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) number: u64,
    pub(crate) due_ns: u64,
}

impl Stamp {
    pub(crate) fn read(body: &str) -> Option<Self> {
        let mut words = body.split(' ');
        let number = words.next()?.parse().ok()?;
        let due_ns = words.next()?.parse().ok()?;
        Some(Self { number, due_ns })
    }

    pub(crate) fn read_marked(body: &str) -> Option<Self> {
        let words = body.as_bytes().strip_prefix(MARKER)?;
        Self::read(std::str::from_utf8(words).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_of_their_length_stable_and_different() {
        let payload = Payload::new();
        assert_eq!(payload.body(1).len(), BODY_BYTES);
        assert_eq!(payload.body(1), Payload::new().body(1));
        assert_ne!(payload.body(1), payload.body(2));
    }

    #[test]
    fn a_stamp_is_read_back() {
        let stamp = Stamp { number: 42, due_ns: 1_234_567_890 };
        let body = Payload::new().stamped(stamp);
        assert_eq!(body.len(), BODY_BYTES);
        assert_eq!(Stamp::read(&body), Some(stamp));
    }

    #[test]
    fn a_marked_stamp_is_read_back() {
        let stamp = Stamp { number: 42, due_ns: 1_234_567_890 };
        let body = Payload::new().marked(stamp);
        assert_eq!((body.len(), Stamp::read_marked(&body)), (BODY_BYTES, Some(stamp)));
        assert_eq!(Stamp::read_marked(&Payload::new().stamped(stamp)), None);
    }

    #[test]
    fn a_body_without_stamp_is_told_from_one() {
        for body in ["", "12", "x 12", "12 x"] {
            assert_eq!(Stamp::read(body), None, "{body:?}");
        }
    }
}
