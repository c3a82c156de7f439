//! May this be appended, and what is the stream then?
//!
//! Owns the order of the checks: a fenced producer is told first, a closed stream before anything else about the request,
//! a request that was done before is done, also where its other conditions do not hold any more.
//! Invariant: one request of a producer is appended once, in its order.

use super::content_type;
use super::expiry::whole_number;
use super::offset::Offset;
use super::record::{ClosedBy, Producer, ProducerState, Stream, StreamState};
use crate::error::{Error, Result, StreamFault};
use crate::model::Seq;

/// The greatest number that JavaScript tells apart.
const NUMBER_MAX: u64 = (1 << 53) - 1;
const PRODUCER_ID_MAX: usize = 256;
const STREAM_SEQ_MAX: usize = 256;

/// What a request to append says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Append {
    pub content_type: Option<String>,
    /// Does it bring anything?
    pub has_body: bool,
    /// Is the stream closed behind it?
    pub closes: bool,
    pub producer: Option<Producer>,
    pub stream_seq: Option<String>,
    /// The tail that the stream must have.
    pub expected: Option<Seq>,
}

/// Headers as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct AppendHeaders<'a> {
    pub content_type: Option<&'a str>,
    pub closed: Option<&'a str>,
    pub producer_id: Option<&'a str>,
    pub producer_epoch: Option<&'a str>,
    pub producer_seq: Option<&'a str>,
    pub stream_seq: Option<&'a str>,
    pub expected: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Append what it brings, and remember this.
    Write { state: StreamState, producer: Option<ProducerState> },
    /// It was done before.
    Done { producer: Option<ProducerState> },
}

/// `Stream-Closed`: any other value is as good as none.
pub fn closes(header: Option<&str>) -> bool {
    header.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

impl Append {
    /// # Errors
    /// `INVALID_INPUT`.
    pub fn parse(headers: AppendHeaders<'_>, has_body: bool) -> Result<Self> {
        let closes = closes(headers.closed);
        if !has_body && !closes {
            let text = "There is nothing to append: send a body, or Stream-Closed: true to close the stream";
            return Err(Error::InvalidInput(text.to_owned()));
        }
        if has_body && headers.content_type.is_none() {
            return Err(Error::InvalidInput("An append names its Content-Type, which is the stream's".to_owned()));
        }
        let too_long = |text: &str| text.len() > STREAM_SEQ_MAX;
        if headers.stream_seq.is_some_and(too_long) {
            return Err(Error::InvalidInput(format!("Stream-Seq is longer than {STREAM_SEQ_MAX} bytes")));
        }
        Ok(Self {
            content_type: headers.content_type.map(str::to_owned),
            has_body,
            closes,
            producer: producer(headers.producer_id, headers.producer_epoch, headers.producer_seq)?,
            stream_seq: headers.stream_seq.map(str::to_owned),
            expected: headers.expected.map(Offset::parse).transpose()?.map(|offset| offset.0),
        })
    }
}

fn producer(id: Option<&str>, epoch: Option<&str>, seq: Option<&str>) -> Result<Option<Producer>> {
    let (id, epoch, seq) = match (id, epoch, seq) {
        (None, None, None) => return Ok(None),
        (Some(id), Some(epoch), Some(seq)) => (id, epoch, seq),
        _ => {
            let text = "Producer-Id, Producer-Epoch and Producer-Seq come together";
            return Err(Error::InvalidInput(text.to_owned()));
        }
    };
    if id.is_empty() || id.len() > PRODUCER_ID_MAX {
        return Err(Error::InvalidInput(format!("Producer-Id has 1 to {PRODUCER_ID_MAX} bytes")));
    }
    let number = |name: &str, text: &str| {
        whole_number(text)
            .filter(|number| *number <= NUMBER_MAX)
            .ok_or_else(|| Error::InvalidInput(format!("{name} '{text}' is no whole number up to {NUMBER_MAX}")))
    };
    let (epoch, seq) = (number("Producer-Epoch", epoch)?, number("Producer-Seq", seq)?);
    Ok(Some(Producer { id: id.to_owned(), epoch, seq }))
}

/// `known`: what is remembered of the request's producer.
///
/// # Errors
/// `STREAM_CLOSED`, `STREAM_CONFLICT`, `PRODUCER_FENCED`, `PRODUCER_GAP`, `INVALID_INPUT`.
pub fn decide(stream: &Stream, known: Option<ProducerState>, append: &Append, now_us: i64) -> Result<Decision> {
    let stale = known.filter(|known| append.producer.as_ref().is_some_and(|producer| producer.epoch < known.epoch));
    if let Some(known) = stale {
        return Err(StreamFault::Fenced { epoch: known.epoch }.into());
    }
    if let Some(closed) = &stream.state.closed {
        let again = match &append.producer {
            Some(producer) => closed.producer.as_ref() == Some(producer),
            None => append.closes && !append.has_body,
        };
        let closed = StreamFault::Closed { tail: stream.tail };
        return if again { Ok(Decision::Done { producer: known }) } else { Err(closed.into()) };
    }
    let given = append.content_type.as_deref().filter(|_| append.has_body);
    if given.is_some_and(|given| !content_type::alike(given, &stream.state.content_type)) {
        return Err(StreamFault::conflict(format!("The stream's content type is {}", stream.state.content_type)).into());
    }
    let producer = match &append.producer {
        None => None,
        Some(producer) => match next_state(known, producer)? {
            Some(next) => Some(next),
            None => return Ok(Decision::Done { producer: known }),
        },
    };
    let conflict = |text: String| Err(StreamFault::Conflict { text, tail: Some(stream.tail) }.into());
    if let (Some(last), Some(given)) = (&stream.state.stream_seq, &append.stream_seq)
        && given <= last
    {
        return conflict(format!("Stream-Seq '{given}' is not above '{last}'"));
    }
    if let Some(expected) = append.expected
        && expected != stream.tail
    {
        return conflict(format!("The stream ends at {}, not at {}", Offset(stream.tail), Offset(expected)));
    }
    let mut state = stream.state.clone();
    state.touched_us = now_us;
    if append.stream_seq.is_some() {
        state.stream_seq.clone_from(&append.stream_seq);
    }
    if append.closes {
        state.closed = Some(ClosedBy { producer: append.producer.clone() });
    }
    Ok(Decision::Write { state, producer })
}

/// What is remembered behind a producer's request; `None`: it was done before.
fn next_state(known: Option<ProducerState>, producer: &Producer) -> Result<Option<ProducerState>> {
    let next = ProducerState { epoch: producer.epoch, seq: producer.seq };
    match known {
        Some(known) if producer.epoch == known.epoch => match producer.seq {
            seq if seq <= known.seq => Ok(None),
            seq if seq == known.seq + 1 => Ok(Some(next)),
            seq => Err(StreamFault::Gap { expected: known.seq + 1, received: seq }.into()),
        },
        // A stale one was fenced before.
        Some(_) if producer.seq != 0 => {
            Err(Error::InvalidInput(format!("The first request of epoch {} has Producer-Seq 0", producer.epoch)))
        }
        None if producer.seq != 0 => Err(StreamFault::Gap { expected: 0, received: producer.seq }.into()),
        Some(_) | None => Ok(Some(next)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{seq, stream};
    use super::*;

    fn by(id: &str, epoch: u64, seq: u64) -> Producer {
        Producer { id: id.into(), epoch, seq }
    }

    fn body(producer: Option<Producer>) -> Append {
        Append { content_type: Some("text/plain".into()), has_body: true, producer, ..Append::default() }
    }

    fn known(epoch: u64, seq: u64) -> Option<ProducerState> {
        Some(ProducerState { epoch, seq })
    }

    fn outcome(decision: Result<Decision>) -> String {
        match decision {
            Ok(Decision::Write { producer, .. }) => format!("write {:?}", producer.map(|p| (p.epoch, p.seq))),
            Ok(Decision::Done { producer }) => format!("done {:?}", producer.map(|p| (p.epoch, p.seq))),
            Err(error) => error.code().wire().to_owned(),
        }
    }

    #[test]
    fn a_producers_request_is_appended_once_and_in_its_order() {
        let cases: &[(Option<ProducerState>, u64, u64, &str)] = &[
            (None, 0, 0, "write Some((0, 0))"),
            (None, 7, 0, "write Some((7, 0))"),
            (None, 0, 1, "PRODUCER_GAP"),
            (known(0, 0), 0, 0, "done Some((0, 0))"),
            (known(0, 4), 0, 2, "done Some((0, 4))"),
            (known(0, 4), 0, 5, "write Some((0, 5))"),
            (known(0, 4), 0, 6, "PRODUCER_GAP"),
            (known(0, 4), 1, 0, "write Some((1, 0))"),
            (known(0, 4), 1, 1, "INVALID_INPUT"),
            (known(2, 0), 1, 0, "PRODUCER_FENCED"),
            (known(2, 0), 1, 9, "PRODUCER_FENCED"),
        ];
        for (state, epoch, number, expected) in cases {
            let decided = decide(&stream("text/plain", 0, 5), *state, &body(Some(by("p", *epoch, *number))), 9);
            assert_eq!(outcome(decided), *expected, "{state:?} {epoch} {number}");
        }
    }

    #[test]
    fn a_closed_stream_takes_nothing_but_what_closed_it() {
        let close = |producer| Append { closes: true, producer, ..Append::default() };
        let mut closed = stream("text/plain", 0, 5);
        closed.state.closed = Some(ClosedBy { producer: Some(by("p", 1, 3)) });
        let cases: &[(Option<ProducerState>, Append, &str)] = &[
            (None, body(None), "STREAM_CLOSED"),
            (None, Append { closes: true, ..body(None) }, "STREAM_CLOSED"),
            (None, Append { content_type: Some("x/y".into()), ..body(None) }, "STREAM_CLOSED"),
            (None, close(None), "done None"),
            (known(1, 3), close(Some(by("p", 1, 3))), "done Some((1, 3))"),
            (known(1, 3), body(Some(by("p", 1, 3))), "done Some((1, 3))"),
            (known(1, 3), body(Some(by("p", 1, 2))), "STREAM_CLOSED"),
            (known(1, 3), body(Some(by("p", 1, 4))), "STREAM_CLOSED"),
            (known(1, 3), body(Some(by("p", 0, 3))), "PRODUCER_FENCED"),
            (None, close(Some(by("q", 1, 3))), "STREAM_CLOSED"),
        ];
        for (state, append, expected) in cases {
            assert_eq!(outcome(decide(&closed, *state, append, 9)), *expected, "{append:?}");
        }
        let Ok(Decision::Write { state, .. }) = decide(&stream("a/b", 0, 5), None, &close(None), 9) else { panic!() };
        assert_eq!((state.closed, state.touched_us), (Some(ClosedBy { producer: None }), 9));
    }

    #[test]
    fn the_other_conditions_come_behind_the_producers() {
        let mut there = stream("text/plain", 0, 5);
        there.state.stream_seq = Some("09".into());
        let with = |stream_seq: Option<&str>, expected: Option<i64>, producer| Append {
            stream_seq: stream_seq.map(str::to_owned),
            expected: expected.map(seq),
            ..body(producer)
        };
        let again = || Some(by("p", 0, 0));
        let cases: &[(Append, &str)] = &[
            (with(Some("10"), None, None), "write None"),
            (with(Some("1"), None, None), "write None"),
            (with(Some("09"), None, None), "STREAM_CONFLICT"),
            (with(Some("0"), None, None), "STREAM_CONFLICT"),
            (with(None, None, None), "write None"),
            (with(None, Some(5), None), "write None"),
            (with(None, Some(4), None), "STREAM_CONFLICT"),
            (with(Some("09"), Some(4), again()), "done Some((0, 0))"),
            (Append { content_type: Some("TEXT/plain;q=1".into()), ..body(None) }, "write None"),
            (Append { content_type: Some("text/html".into()), ..body(None) }, "STREAM_CONFLICT"),
            (Append { content_type: Some("text/html".into()), closes: true, ..Append::default() }, "write None"),
        ];
        for (append, expected) in cases {
            let state = append.producer.as_ref().and(known(0, 0));
            assert_eq!(outcome(decide(&there, state, append, 9)), *expected, "{append:?}");
        }
    }

    #[test]
    fn headers_are_read_strictly() {
        let good = AppendHeaders { content_type: Some("text/plain"), ..AppendHeaders::default() };
        let producer =
            |id, epoch, seq| AppendHeaders { producer_id: Some(id), producer_epoch: epoch, producer_seq: seq, ..good };
        assert!(Append::parse(good, true).is_ok());
        assert!(Append::parse(good, false).is_err(), "nothing to do");
        assert!(Append::parse(AppendHeaders::default(), true).is_err(), "no content type");
        for closed in ["true", "TRUE"] {
            let headers = AppendHeaders { closed: Some(closed), ..AppendHeaders::default() };
            assert!(Append::parse(headers, false).unwrap().closes);
        }
        assert!(!Append::parse(AppendHeaders { closed: Some("yes"), ..good }, true).unwrap().closes);
        let read = Append::parse(producer("p", Some("0"), Some("9007199254740991")), true).unwrap();
        assert_eq!(read.producer, Some(by("p", 0, NUMBER_MAX)));
        for bad in [
            producer("p", None, None),
            producer("p", Some("0"), None),
            producer("", Some("0"), Some("0")),
            producer("p", Some("-1"), Some("0")),
            producer("p", Some("1e3"), Some("0")),
            producer("p", Some("0"), Some("1abc")),
            producer("p", Some("0"), Some("9007199254740992")),
            AppendHeaders { producer_epoch: Some("0"), ..good },
            AppendHeaders { expected: Some("x"), ..good },
        ] {
            assert!(Append::parse(bad, true).is_err(), "{bad:?}");
        }
    }
}
