//! What subscribers receive, cut into messages: WebSocket frames, Redis' replies, NATS' lines.
//!
//! Owns the framing, nothing else: pure, so that one client reads every server's bytes with as little work.
//! Invariant: what is not whole yet is left where it is, and looked at again from its beginning.

use anyhow::{Context, Result, bail, ensure};

use crate::payload::{BODY_BYTES, MARKER, Stamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    WebSocket,
    Redis,
    Nats,
}

/// One frame, reply or line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Data(&'a [u8]),
    /// To be answered with [`Framing::pong`].
    Ping(&'a [u8]),
    /// Nothing that a subscriber would look at.
    Other,
    Closed(String),
}

impl Framing {
    /// The part at the beginning of `received`, and its length; `None` until it is whole.
    pub(crate) fn part(self, received: &[u8]) -> Result<Option<(Part<'_>, usize)>> {
        match self {
            Framing::WebSocket => frame(received),
            Framing::Redis => reply(received),
            Framing::Nats => line(received),
        }
    }

    pub(crate) fn pong(self, payload: &[u8]) -> Vec<u8> {
        match self {
            Framing::WebSocket => client_frame(10, payload),
            Framing::Redis | Framing::Nats => b"PONG\r\n".to_vec(),
        }
    }
}

fn frame(received: &[u8]) -> Result<Option<(Part<'_>, usize)>> {
    let [first, second, rest @ ..] = received else { return Ok(None) };
    ensure!(first & 0x80 != 0 && second & 0x80 == 0, "a frame in parts, or masked");
    let (head, length) = match second & 0x7f {
        126 => match rest {
            [high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            _ => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (10, usize::try_from(u64::from_be_bytes(*bytes)).context("a frame is too long")?),
            None => return Ok(None),
        },
        short => (2, usize::from(short)),
    };
    let Some(payload) = received.get(head..head + length) else { return Ok(None) };
    let part = match first & 0x0f {
        1 | 2 => Part::Data(payload),
        8 => Part::Closed(close_text(payload)),
        9 => Part::Ping(payload),
        10 => Part::Other,
        opcode => bail!("a frame with opcode {opcode}"),
    };
    Ok(Some((part, head + length)))
}

fn close_text(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "without a code".to_owned(),
    }
}

/// A client's frame. Masked with zeros, as the protocol allows: the client's work is not what is measured.
pub(crate) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(payload.len()) {
        Ok(short @ 0..=125) => frame.push(0x80 | short as u8),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// A list of texts and numbers; its last text is what a subscriber wants.
fn reply(received: &[u8]) -> Result<Option<(Part<'_>, usize)>> {
    let Some((list, mut at)) = text_line(received, 0)? else { return Ok(None) };
    let count: usize = list.strip_prefix('*').and_then(|count| count.parse().ok()).context("no list of Redis")?;
    let mut last: &[u8] = &[];
    for _ in 0..count {
        let Some((head, after)) = text_line(received, at)? else { return Ok(None) };
        at = after;
        if let Some(length) = head.strip_prefix('$') {
            let length: usize = length.parse().context("a length of Redis")?;
            let Some(text) = received.get(at..at + length) else { return Ok(None) };
            (last, at) = (text, at + length + 2);
        } else {
            last = &[];
        }
    }
    Ok((at <= received.len()).then_some((Part::Data(last), at)))
}

fn line(received: &[u8]) -> Result<Option<(Part<'_>, usize)>> {
    let Some((text, after)) = text_line(received, 0)? else { return Ok(None) };
    let word = text.split(' ').next().unwrap_or_default();
    let part = match word {
        "MSG" => {
            let length = text.rsplit(' ').next().and_then(|length| length.parse::<usize>().ok());
            let length = length.context("a message of NATS without a length")?;
            if received.len() < after + length + 2 {
                return Ok(None);
            }
            return Ok(Some((Part::Data(&received[after..after + length]), after + length + 2)));
        }
        "PING" => Part::Ping(&[]),
        "-ERR" => Part::Closed(text.to_owned()),
        _ => Part::Other,
    };
    Ok(Some((part, after)))
}

/// The line that begins at `from`, and where the next one does.
fn text_line(received: &[u8], from: usize) -> Result<Option<(&str, usize)>> {
    let Some(rest) = received.get(from..) else { return Ok(None) };
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = rest[..end].strip_suffix(b"\r").context("a line without its carriage return")?;
    Ok(Some((std::str::from_utf8(line).context("a line is not UTF-8")?, from + end + 1)))
}

/// A stamped body within a message, and what follows it there: a row's `_seq`, further rows.
pub(crate) struct Bodies<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Bodies<'a> {
    type Item = (Stamp, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.0.iter().position(|byte| *byte == MARKER[0])?;
            self.0 = &self.0[at..];
            if self.0.starts_with(MARKER)
                && let Some(body) = self.0.get(..BODY_BYTES)
                && let Some(stamp) = std::str::from_utf8(body).ok().and_then(Stamp::read_marked)
            {
                self.0 = &self.0[BODY_BYTES..];
                return Some((stamp, self.0));
            }
            self.0 = &self.0[1..];
        }
    }
}

/// The `_seq` of the row whose body ended where `rest` begins (JSON).
pub(crate) fn position_behind(rest: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"_seq\":\"";
    let at = rest.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = rest[at..].split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    fn whole_or_nothing(framing: Framing, wire: &[u8], expected: Part<'_>) {
        for cut in 0..wire.len() {
            assert_eq!(framing.part(&wire[..cut]).expect("a part can be read"), None, "cut at {cut}");
        }
        let more = [wire, b"more"].concat();
        assert_eq!(framing.part(&more).expect("it can be read"), Some((expected, wire.len())));
    }

    #[test]
    fn messages_of_every_server() {
        whole_or_nothing(Framing::WebSocket, b"\x81\x02hi", Part::Data(b"hi"));
        whole_or_nothing(Framing::WebSocket, b"\x82\x7e\x00\x02hi", Part::Data(b"hi"));
        whole_or_nothing(Framing::WebSocket, b"\x82\x7f\0\0\0\0\0\0\0\x02hi", Part::Data(b"hi"));
        whole_or_nothing(Framing::WebSocket, b"\x89\x01x", Part::Ping(b"x"));
        whole_or_nothing(Framing::WebSocket, b"\x88\x04\x11\x38no", Part::Closed("4408 no".to_owned()));
        whole_or_nothing(Framing::Redis, b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", Part::Data(b"hi"));
        whole_or_nothing(Framing::Redis, b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", Part::Data(b""));
        whole_or_nothing(Framing::Nats, b"MSG room 1 2\r\nhi\r\n", Part::Data(b"hi"));
        whole_or_nothing(Framing::Nats, b"PING\r\n", Part::Ping(b""));
        whole_or_nothing(Framing::Nats, b"+OK\r\n", Part::Other);
        whole_or_nothing(Framing::Nats, b"-ERR 'no'\r\n", Part::Closed("-ERR 'no'".to_owned()));
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        for (framing, wire) in [
            (Framing::WebSocket, &b"\x01\x02hi"[..]),
            (Framing::WebSocket, b"\x83\x00"),
            (Framing::Redis, b"+OK\r\n"),
            (Framing::Nats, b"MSG\r\n"),
            (Framing::Nats, b"PING\n"),
        ] {
            assert!(framing.part(wire).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn frames_of_a_client_say_their_length() {
        assert_eq!(client_frame(1, b"hi"), b"\x81\x82\0\0\0\0hi");
        assert_eq!(client_frame(2, &[7; 200])[..8], [0x82, 0xfe, 0, 200, 0, 0, 0, 0]);
        assert_eq!(client_frame(2, &[7; 70_000])[..10], [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }

    #[test]
    fn bodies_are_found_wherever_they_stand() {
        let payload = Payload::new();
        let body = |number| payload.marked(Stamp { number, due_ns: 5 });
        let row = |number: u64| format!(r#"{{"body":"{}","_seq":"{number}7"}}"#, body(number));
        let frame = format!(r#"~!~ {{"rows":[{},{}]}}"#, row(1), row(2));
        let found: Vec<_> =
            Bodies(frame.as_bytes()).map(|(stamp, rest)| (stamp.number, position_behind(rest))).collect();
        assert_eq!(found, [(1, Some(17)), (2, Some(27))]);
    }
}
