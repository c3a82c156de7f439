//! May a stream be made here, is it there already, and what is a fork of it?

use super::append::closes;
use super::content_type;
use super::expiry::{Expiry, whole_number};
use super::offset::Offset;
use super::record::{ClosedBy, Origin, Presence, Stream, StreamState, Stretch, check_key};
use crate::error::{Error, Result, StreamFault};
use crate::model::Seq;

/// A fork of a fork of a fork… has at most this many stretches of others.
const INHERITED_MAX: usize = 64;

/// What a request to make a stream says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Create {
    pub content_type: Option<String>,
    pub expiry: Option<Expiry>,
    pub closed: bool,
    pub fork: Option<Fork>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// Key of the stream that it is forked from, in the same table of the same owner.
    pub source: String,
    pub offset: Option<Seq>,
    /// Bytes of the next row, or messages, that are taken along.
    pub sub_offset: u64,
}

/// Headers as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct CreateHeaders<'a> {
    pub content_type: Option<&'a str>,
    pub ttl: Option<&'a str>,
    pub expires_at: Option<&'a str>,
    pub closed: Option<&'a str>,
    pub forked_from: Option<&'a str>,
    pub fork_offset: Option<&'a str>,
    pub fork_sub_offset: Option<&'a str>,
}

impl Create {
    /// `root`: the path of the table's streams, with a slash at its end. A source's path begins with it, or is what stands
    /// behind it.
    ///
    /// # Errors
    /// `INVALID_INPUT`.
    pub fn parse(headers: CreateHeaders<'_>, root: &str) -> Result<Self> {
        headers.content_type.map_or(Ok(()), content_type::check)?;
        let fork = match headers.forked_from {
            Some(source) => {
                let path = source.strip_prefix(root).unwrap_or(source.trim_start_matches('/'));
                let source = decoded(path)
                    .ok_or_else(|| Error::InvalidInput(format!("Stream-Forked-From '{source}' is no path")))?;
                check_key(&source)?;
                let sub_offset = headers.fork_sub_offset.map_or(Some(0), whole_number).ok_or_else(|| {
                    Error::InvalidInput("Stream-Fork-Sub-Offset is no whole number, such as 4".to_owned())
                })?;
                let offset = headers.fork_offset.map(Offset::parse).transpose()?.map(|offset| offset.0);
                Some(Fork { source, offset, sub_offset })
            }
            None if headers.fork_offset.or(headers.fork_sub_offset).is_some() => {
                let text = "Stream-Fork-Offset and Stream-Fork-Sub-Offset need Stream-Forked-From";
                return Err(Error::InvalidInput(text.to_owned()));
            }
            None => None,
        };
        Ok(Self {
            content_type: headers.content_type.map(str::to_owned),
            expiry: Expiry::parse(headers.ttl, headers.expires_at)?,
            closed: closes(headers.closed),
            fork,
        })
    }
}

/// A path without its percent signs; `None` where it is none.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut out = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        out.push(if byte == b'%' { digit(bytes.next())? << 4 | digit(bytes.next())? } else { byte });
    }
    String::from_utf8(out).ok()
}

/// Is the key free? `false`: the stream is there, as asked for.
///
/// # Errors
/// `STREAM_CONFLICT`: another one is there, or forks of one hold the key.
pub fn is_free(existing: Option<&Stream>, create: &Create, ttl_us: i64, now_us: i64) -> Result<bool> {
    let Some(existing) = existing else { return Ok(true) };
    match existing.presence(ttl_us, now_us) {
        Presence::Absent => return Ok(true),
        Presence::Held => {
            let text = "A stream of this key was deleted, and streams that were forked from it still hold it";
            return Err(StreamFault::conflict(text).into());
        }
        Presence::There => {}
    }
    let state = &existing.state;
    let differs = match () {
        () if !same_content_type(state, create) => "content type",
        () if !same_expiry(state, create) => "TTL or expiry",
        () if create.closed != existing.is_closed() => "state (open or closed)",
        () if !same_origin(state, create.fork.as_ref()) => "fork",
        () => return Ok(false),
    };
    Err(StreamFault::conflict(format!("The stream is there with another {differs}")).into())
}

fn same_content_type(state: &StreamState, create: &Create) -> bool {
    match (&create.content_type, &create.fork) {
        (Some(given), _) => content_type::alike(given, &state.content_type),
        // A fork has its source's.
        (None, Some(_)) => true,
        (None, None) => content_type::alike(content_type::DEFAULT, &state.content_type),
    }
}

fn same_expiry(state: &StreamState, create: &Create) -> bool {
    match (create.expiry, &create.fork) {
        (Some(given), _) => given == state.expiry,
        (None, Some(_)) => true,
        (None, None) => state.expiry == Expiry::WithItsRows,
    }
}

fn same_origin(state: &StreamState, fork: Option<&Fork>) -> bool {
    match (&state.origin, fork) {
        (None, None) => true,
        (Some(origin), Some(fork)) => {
            origin.key == fork.source
                && fork.offset.is_none_or(|offset| offset == origin.offset)
                && fork.sub_offset == origin.sub_offset
        }
        _ => false,
    }
}

/// The state of a new stream that is no fork.
pub fn new_state(create: &Create, now_us: i64) -> StreamState {
    StreamState {
        content_type: create.content_type.clone().unwrap_or_else(|| content_type::DEFAULT.to_owned()),
        expiry: create.expiry.unwrap_or_default(),
        touched_us: now_us,
        closed: create.closed.then_some(ClosedBy { producer: None }),
        stream_seq: None,
        inherited: Vec::new(),
        origin: None,
        forks: 0,
        deleted: false,
    }
}

/// Where a fork branches off its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    /// As the request said; the source's tail, where it said nothing.
    pub offset: Seq,
    /// Where the fork's own rows begin to differ: behind whole messages of the sub-offset.
    pub until: Seq,
}

/// May `fork` be made of `source`, and at which offset?
///
/// # Errors
/// `STREAM_NOT_FOUND`, `STREAM_CONFLICT`, `INVALID_INPUT`.
pub fn branch(source: Option<&Stream>, create: &Create, fork: &Fork, ttl_us: i64, now_us: i64) -> Result<Branch> {
    let presence = source.map_or(Presence::Absent, |source| source.presence(ttl_us, now_us));
    let source = match (source, presence) {
        (Some(source), Presence::There) => source,
        (_, Presence::Held) => {
            return Err(StreamFault::conflict(format!("Stream '{}' was deleted", fork.source)).into());
        }
        _ => return Err(StreamFault::NotFound(fork.source.clone()).into()),
    };
    let given = create.content_type.as_deref();
    if given.is_some_and(|given| !content_type::alike(given, &source.state.content_type)) {
        let text = format!("The content type of '{}' is {}", fork.source, source.state.content_type);
        return Err(StreamFault::conflict(text).into());
    }
    let offset = fork.offset.unwrap_or(source.tail);
    if offset > source.tail {
        let text = format!("Stream '{}' ends at {}, before the fork's offset", fork.source, Offset(source.tail));
        return Err(Error::InvalidInput(text));
    }
    if source.state.inherited.len() >= INHERITED_MAX {
        return Err(Error::InvalidInput(format!("A fork has at most {INHERITED_MAX} streams before it")));
    }
    Ok(Branch { offset, until: offset })
}

/// The state of a fork of `source`, and of the source with one fork more.
pub fn forked(
    create: &Create,
    fork: &Fork,
    source: &Stream,
    branch: Branch,
    now_us: i64,
) -> (StreamState, StreamState) {
    let clip = |stretch: Stretch| Stretch { until: stretch.until.min(branch.until), ..stretch };
    let inherited = source.stretches(&fork.source, Seq::ZERO).into_iter().map(clip);
    let origin =
        Origin { key: fork.source.clone(), start: source.start, offset: branch.offset, sub_offset: fork.sub_offset };
    let state = StreamState {
        content_type: create.content_type.clone().unwrap_or_else(|| source.state.content_type.clone()),
        expiry: create.expiry.unwrap_or(source.state.expiry),
        inherited: inherited.filter(|stretch| stretch.above < stretch.until).collect(),
        origin: Some(origin),
        ..new_state(create, now_us)
    };
    let source =
        StreamState { forks: source.state.forks.saturating_add(1), touched_us: now_us, ..source.state.clone() };
    (state, source)
}

/// A fork of `source` is gone: its state then, `None` where nothing holds it any more.
pub fn released(source: &Stream, ttl_us: i64, now_us: i64) -> Option<StreamState> {
    let state = StreamState { forks: source.state.forks.saturating_sub(1), ..source.state.clone() };
    let left = Stream { state, ..source.clone() };
    (left.presence(ttl_us, now_us) != Presence::Absent).then_some(left.state)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{seq, stream};
    use super::*;

    const ROOT: &str = "/v1/streams/chat/answers/";

    fn create(content_type: Option<&str>) -> Create {
        Create { content_type: content_type.map(str::to_owned), ..Create::default() }
    }

    fn fork(offset: Option<i64>, sub_offset: u64) -> Fork {
        Fork { source: "a".into(), offset: offset.map(seq), sub_offset }
    }

    #[test]
    fn a_stream_is_made_once_and_then_there() {
        let text = stream("text/plain", 0, 5);
        let closed = Stream {
            state: StreamState { closed: Some(ClosedBy { producer: None }), ..text.state.clone() },
            ..text.clone()
        };
        let idle = Stream { state: StreamState { expiry: Expiry::Idle(9), ..text.state.clone() }, ..text.clone() };
        let held = Stream { state: StreamState { forks: 1, deleted: true, ..text.state.clone() }, ..text.clone() };
        let bytes = stream(content_type::DEFAULT, 0, 0);
        let plain = || create(Some("text/plain"));
        let cases: Vec<(Option<&Stream>, Create, Result<bool, ()>)> = vec![
            (None, plain(), Ok(true)),
            (Some(&text), plain(), Ok(false)),
            (Some(&text), create(Some("TEXT/PLAIN; charset=utf-8")), Ok(false)),
            (Some(&text), create(Some("text/html")), Err(())),
            (Some(&text), create(None), Err(())),
            (Some(&bytes), create(None), Ok(false)),
            (Some(&text), Create { expiry: Some(Expiry::Idle(9)), ..plain() }, Err(())),
            (Some(&idle), Create { expiry: Some(Expiry::Idle(9)), ..plain() }, Ok(false)),
            (Some(&idle), plain(), Err(())),
            (Some(&text), Create { closed: true, ..plain() }, Err(())),
            (Some(&closed), Create { closed: true, ..plain() }, Ok(false)),
            (Some(&closed), plain(), Err(())),
            (Some(&text), Create { fork: Some(fork(None, 0)), ..plain() }, Err(())),
            (Some(&held), plain(), Err(())),
        ];
        for (existing, create, expected) in cases {
            assert_eq!(is_free(existing, &create, 1_000, 5).map_err(|_| ()), expected, "{existing:?} {create:?}");
        }
        assert!(is_free(Some(&text), &plain(), 5, 5).unwrap(), "it has expired");
    }

    #[test]
    fn a_fork_takes_what_lies_before_its_branch() {
        let mut source = stream("text/plain", 10, 40);
        source.state.inherited = vec![Stretch { key: "z".into(), above: seq(0), until: seq(8) }];
        source.state.expiry = Expiry::Idle(7);
        let at =
            |create: &Create, fork: &Fork| branch(Some(&source), create, fork, 1_000, 5).map_err(|e| e.code().wire());
        let open = create(None);
        assert_eq!(at(&open, &fork(None, 0)), Ok(Branch { offset: seq(40), until: seq(40) }));
        assert_eq!(at(&open, &fork(Some(41), 0)), Err("INVALID_INPUT"));
        assert_eq!(at(&create(Some("a/b")), &fork(None, 0)), Err("STREAM_CONFLICT"));
        let absent = branch(None, &open, &fork(None, 0), 1, 1).unwrap_err();
        assert_eq!(absent.code().wire(), "STREAM_NOT_FOUND");

        let cut = |until: i64| {
            let branch = Branch { offset: seq(until), until: seq(until) };
            let (fork, source) = forked(&open, &fork(Some(until), 0), &source, branch, 5);
            assert_eq!((source.forks, fork.forks, fork.expiry), (1, 0, Expiry::Idle(7)));
            let made = Stream { start: seq(99), tail: seq(99), state: fork.clone() };
            let again = |offset| Create { fork: Some(self::fork(offset, 0)), ..create(None) };
            assert!(!is_free(Some(&made), &again(None), 1_000, 5).unwrap());
            assert!(!is_free(Some(&made), &again(Some(until)), 1_000, 5).unwrap());
            assert!(is_free(Some(&made), &again(Some(until + 1)), 1_000, 5).is_err());
            fork.inherited.iter().map(|s| (s.key.clone(), s.above.get(), s.until.get())).collect::<Vec<_>>()
        };
        assert_eq!(cut(40), [("z".to_owned(), 0, 8), ("a".to_owned(), 10, 40)]);
        assert_eq!(cut(20), [("z".to_owned(), 0, 8), ("a".to_owned(), 10, 20)]);
        assert_eq!(cut(8), [("z".to_owned(), 0, 8)]);
        assert_eq!(cut(3), [("z".to_owned(), 0, 3)]);
        assert_eq!(cut(0), []);
    }

    #[test]
    fn the_last_fork_lets_go() {
        let mut source = stream("text/plain", 0, 5);
        source.state.forks = 2;
        source.state.deleted = true;
        let left = released(&source, 1_000, 5).unwrap();
        assert_eq!(left.forks, 1);
        source.state = left;
        assert_eq!(released(&source, 1_000, 5), None);
        source.state.deleted = false;
        assert_eq!(released(&source, 1_000, 5).unwrap().forks, 0, "it was not deleted");
    }

    #[test]
    fn headers_say_what_to_make() {
        let read = |headers| Create::parse(headers, ROOT);
        let from = |source| CreateHeaders { forked_from: Some(source), ..CreateHeaders::default() };
        for source in ["/v1/streams/chat/answers/a/b", "/a/b", "a/b"] {
            assert_eq!(read(from(source)).unwrap().fork.unwrap().source, "a/b");
        }
        assert_eq!(read(from("/a%20b%2Fc")).unwrap().fork.unwrap().source, "a b/c");
        for bad in ["/", "/a%", "/a%2", "/a%zz", "/%ff", "/a%00"] {
            assert!(read(from(bad)).is_err(), "{bad}");
        }
        let sub = |text| CreateHeaders { fork_sub_offset: Some(text), ..from("a") };
        assert_eq!(read(sub("3")).unwrap().fork.unwrap().sub_offset, 3);
        for bad in ["-1", "abc", "1.5", "05", "+1", ""] {
            assert!(read(sub(bad)).is_err(), "{bad}");
        }
        assert!(read(CreateHeaders { fork_sub_offset: Some("0"), ..CreateHeaders::default() }).is_err());
        assert!(read(CreateHeaders { fork_offset: Some("x"), ..from("a") }).is_err());
        assert!(read(CreateHeaders { content_type: Some("x"), ..CreateHeaders::default() }).is_err());
        assert!(read(CreateHeaders { closed: Some("TRUE"), ..CreateHeaders::default() }).unwrap().closed);
    }
}
