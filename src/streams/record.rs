//! What is remembered of a stream beside its rows.
//!
//! A record is committed together with the rows of its append, so it can not name their positions: it says "where this
//! commit begins" or "ends", and is read back with both ([`Mark`]).

use serde::{Deserialize, Serialize};

use super::expiry::Expiry;
use crate::error::{Error, Result, StreamFault};
use crate::model::Seq;

/// The longest key of a stream.
pub const KEY_MAX: usize = 512;

/// A stream as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its own rows lie above.
    pub start: Seq,
    /// Its last row, or where it began.
    pub tail: Seq,
    pub state: StreamState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    pub content_type: String,
    pub expiry: Expiry,
    /// When it was last noted as read or written. Microseconds since the Unix epoch.
    pub touched_us: i64,
    /// Nothing is appended any more. The inner one: the producer's request that closed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<ClosedBy>,
    /// The last `Stream-Seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_seq: Option<String>,
    /// What a fork reads of others, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherited: Vec<Stretch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// How many streams were forked from it and are still there.
    #[serde(default)]
    pub forks: u32,
    /// Deleted, but forks of it are there.
    #[serde(default)]
    pub deleted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedBy {
    pub producer: Option<Producer>,
}

/// One request of an idempotent producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    pub id: String,
    pub epoch: u64,
    pub seq: u64,
}

/// What is remembered of a producer of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerState {
    pub epoch: u64,
    pub seq: u64,
}

/// Rows of one stream: those above one position up to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    pub key: String,
    pub above: Seq,
    pub until: Seq,
}

/// What a stream was forked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub key: String,
    /// Which stream of that key.
    pub start: Seq,
    /// As the request said.
    pub offset: Seq,
    pub sub_offset: u64,
}

/// A position of a record that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    At(Seq),
    /// Before the first position of its commit.
    Before,
    /// The last position of its commit.
    Last,
}

/// A record on its way to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredStream {
    pub start: Mark,
    pub tail: Mark,
    #[serde(flatten)]
    pub state: StreamState,
}

/// May readers and writers see it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    There,
    /// Its key is free.
    Absent,
    /// Its forks hold it: the key is taken, and nobody sees the stream.
    Held,
}

impl Mark {
    fn resolve(self, (first, last): (Seq, Seq)) -> Seq {
        match self {
            Mark::At(seq) => seq,
            Mark::Before => first.before(),
            Mark::Last => last,
        }
    }
}

impl StoredStream {
    /// # Errors
    /// `INTERNAL`, never in practice.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(Error::internal)
    }
}

impl Stream {
    /// A record, and the first and last position of its commit.
    ///
    /// # Errors
    /// `INTERNAL` where the bytes are no record.
    pub fn read(bytes: &[u8], commit: (Seq, Seq)) -> Result<Self> {
        let StoredStream { start, tail, state } = serde_json::from_slice(bytes).map_err(Error::internal)?;
        Ok(Self { start: start.resolve(commit), tail: tail.resolve(commit), state })
    }

    /// With another state; `tail`: where it ends then.
    pub fn with(&self, state: StreamState, tail: Mark) -> StoredStream {
        StoredStream { start: Mark::At(self.start), tail, state }
    }

    /// `ttl_us`: how long rows of its table live.
    pub fn presence(&self, ttl_us: i64, now_us: i64) -> Presence {
        let touched_us = self.state.touched_us;
        let over = self.state.expiry.is_over(touched_us, touched_us.saturating_add(ttl_us), now_us);
        match (self.state.deleted || over, self.state.forks) {
            (false, _) => Presence::There,
            (true, 0) => Presence::Absent,
            (true, _) => Presence::Held,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.state.closed.is_some()
    }

    /// The stretches that hold its rows above `after`, in order.
    pub fn stretches(&self, key: &str, after: Seq) -> Vec<Stretch> {
        let own = Stretch { key: key.to_owned(), above: self.start, until: self.tail };
        let all = self.state.inherited.iter().cloned().chain([own]);
        let above = all.map(|stretch| Stretch { above: stretch.above.max(after), ..stretch });
        above.filter(|stretch| stretch.above < stretch.until).collect()
    }
}

/// # Errors
/// `INVALID_INPUT`.
pub fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > KEY_MAX || key.chars().any(char::is_control) {
        let text = format!("A stream's key has 1 to {KEY_MAX} bytes and no control characters");
        return Err(Error::InvalidInput(text));
    }
    Ok(())
}

/// The stream, where it is there.
///
/// # Errors
/// `STREAM_NOT_FOUND`, `STREAM_GONE`.
pub fn there(stream: Option<Stream>, key: &str, ttl_us: i64, now_us: i64) -> Result<Stream> {
    match stream {
        Some(stream) => match stream.presence(ttl_us, now_us) {
            Presence::There => Ok(stream),
            Presence::Absent => Err(StreamFault::NotFound(key.to_owned()).into()),
            Presence::Held => Err(StreamFault::Deleted(key.to_owned()).into()),
        },
        None => Err(StreamFault::NotFound(key.to_owned()).into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn seq(raw: i64) -> Seq {
        Seq::new(raw).unwrap()
    }

    pub fn state(content_type: &str) -> StreamState {
        StreamState {
            content_type: content_type.to_owned(),
            expiry: Expiry::WithItsRows,
            touched_us: 0,
            closed: None,
            stream_seq: None,
            inherited: Vec::new(),
            origin: None,
            forks: 0,
            deleted: false,
        }
    }

    pub fn stream(content_type: &str, start: i64, tail: i64) -> Stream {
        Stream { start: seq(start), tail: seq(tail), state: state(content_type) }
    }

    #[test]
    fn a_record_learns_its_positions_from_its_commit() {
        let stored = |start, tail| StoredStream { start, tail, state: state("text/plain") }.to_bytes().unwrap();
        let read = |start, tail| {
            let stream = Stream::read(&stored(start, tail), (seq(10), seq(12))).unwrap();
            (stream.start.get(), stream.tail.get())
        };
        assert_eq!(read(Mark::Before, Mark::Last), (9, 12), "made with rows");
        assert_eq!(read(Mark::Before, Mark::Before), (9, 9), "made empty");
        assert_eq!(read(Mark::At(seq(3)), Mark::Last), (3, 12), "appended to");
        assert_eq!(read(Mark::At(seq(3)), Mark::At(seq(5))), (3, 5), "closed");
        assert!(Stream::read(b"{}", (seq(1), seq(1))).is_err());
    }

    #[test]
    fn a_fork_reads_others_and_then_its_own() {
        let mut fork = stream("text/plain", 50, 70);
        let stretch = |key: &str, above, until| Stretch { key: key.into(), above: seq(above), until: seq(until) };
        fork.state.inherited = vec![stretch("a", 0, 20), stretch("b", 20, 40)];
        let own = stretch("f", 50, 70);
        assert_eq!(fork.stretches("f", Seq::ZERO), [stretch("a", 0, 20), stretch("b", 20, 40), own.clone()]);
        assert_eq!(fork.stretches("f", seq(30)), [stretch("b", 30, 40), own.clone()]);
        assert_eq!(fork.stretches("f", seq(40)), [own]);
        assert_eq!(fork.stretches("f", seq(60)), [stretch("f", 60, 70)]);
        assert_eq!(fork.stretches("f", seq(70)), []);
    }

    #[test]
    fn a_deleted_stream_is_held_by_its_forks() {
        let mut stream = stream("text/plain", 0, 5);
        assert_eq!(stream.presence(100, 99), Presence::There);
        assert_eq!(stream.presence(100, 100), Presence::Absent, "its rows have expired");
        stream.state.forks = 1;
        assert_eq!(stream.presence(100, 100), Presence::Held);
        stream.state.deleted = true;
        assert_eq!(stream.presence(100, 0), Presence::Held);
        let code = |stream| there(stream, "k", 100, 0).unwrap_err().code().wire();
        assert_eq!(code(Some(stream)), "STREAM_GONE");
        assert_eq!(code(None), "STREAM_NOT_FOUND");
    }

    #[test]
    fn keys_have_a_form() {
        check_key("v1/answers/ä b").unwrap();
        for bad in ["", "a\0b", "a\nb", &"x".repeat(KEY_MAX + 1)] {
            check_key(bad).unwrap_err();
        }
    }
}
