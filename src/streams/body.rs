//! Messages in and out: what a request's body is in rows, and what rows are as a body or as events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::value::RawValue;

use super::content_type;
use super::offset::Offset;
use crate::error::{Error, Result};

/// The messages of a body: of JSON the elements of its outermost list, of everything else the body as it is. Each is a row.
///
/// # Errors
/// `INVALID_INPUT` where it should be JSON and is not.
pub fn messages(content_type: &str, body: &Bytes) -> Result<Vec<Bytes>> {
    if !content_type::is_json(content_type) {
        return Ok(if body.is_empty() { Vec::new() } else { vec![body.clone()] });
    }
    let invalid = |fault: serde_json::Error| Error::InvalidInput(format!("The body is no JSON: {fault}"));
    let whole: &RawValue = serde_json::from_slice(body).map_err(invalid)?;
    if !whole.get().starts_with('[') {
        return Ok(vec![body.slice_ref(whole.get().as_bytes())]);
    }
    let elements: Vec<&RawValue> = serde_json::from_str(whole.get()).map_err(invalid)?;
    Ok(elements.into_iter().map(|element| body.slice_ref(element.get().as_bytes())).collect())
}

/// Rows on their way into a body, one after the other.
#[derive(Debug)]
pub struct Joined {
    json: bool,
    empty: bool,
    out: BytesMut,
}

impl Joined {
    pub fn new(content_type: &str) -> Self {
        let json = content_type::is_json(content_type);
        let mut out = BytesMut::new();
        if json {
            out.put_u8(b'[');
        }
        Self { json, empty: true, out }
    }

    pub fn push(&mut self, message: &[u8]) {
        if self.json && !self.empty {
            self.out.put_u8(b',');
        }
        self.empty = false;
        self.out.extend_from_slice(message);
    }

    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn is_empty(&self) -> bool {
        self.empty
    }

    pub fn finish(mut self) -> Bytes {
        if self.json {
            self.out.put_u8(b']');
        }
        self.out.freeze()
    }
}

/// What stands behind each data event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    pub next: Offset,
    /// Of an open stream.
    pub cursor: u64,
    pub up_to_date: bool,
    pub closed: bool,
}

/// `payload` as one event. What is no text goes as base64; a line break of any kind begins a new line of the event, so
/// nothing in the payload can end it.
pub fn write_data(out: &mut BytesMut, content_type: &str, payload: &[u8]) {
    out.extend_from_slice(b"event: data\n");
    if content_type::is_text(content_type) {
        let text = String::from_utf8_lossy(payload);
        for line in lines(&text) {
            out.extend_from_slice(b"data:");
            // A reader takes one space away.
            if line.starts_with(' ') {
                out.put_u8(b' ');
            }
            out.extend_from_slice(line.as_bytes());
            out.put_u8(b'\n');
        }
    } else {
        out.extend_from_slice(b"data:");
        out.extend_from_slice(BASE64.encode(payload).as_bytes());
        out.put_u8(b'\n');
    }
    out.put_u8(b'\n');
}

pub fn write_control(out: &mut BytesMut, control: Control) {
    let Control { next, cursor, up_to_date, closed } = control;
    let mut text = format!("event: control\ndata:{{\"streamNextOffset\":\"{next}\"");
    if !closed {
        text += &format!(",\"streamCursor\":\"{cursor}\"");
    }
    if up_to_date {
        text += ",\"upToDate\":true";
    }
    if closed {
        text += ",\"streamClosed\":true";
    }
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"}\n\n");
}

/// The lines of a text as the readers of events tell them apart: at `\r\n`, `\n` and `\r`.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else { return rest.take() };
        let width = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[end + width..]);
        Some(&text[..end])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Seq;

    const JSON: &str = "application/json; charset=utf-8";

    fn split(content_type: &str, body: &str) -> Result<Vec<String>, String> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let messages = messages(content_type, &body).map_err(|error| error.to_string())?;
        Ok(messages.iter().map(|message| String::from_utf8(message.to_vec()).unwrap()).collect())
    }

    #[test]
    fn one_level_of_a_list_is_taken_apart() {
        let cases: &[(&str, &[&str])] = &[
            (r#"{"a":1}"#, &[r#"{"a":1}"#]),
            (r#" [ {"a":1} , {"b":[2]} ] "#, &[r#"{"a":1}"#, r#"{"b":[2]}"#]),
            ("[[1,2],[3]]", &["[1,2]", "[3]"]),
            ("[[[1]]]", &["[[1]]"]),
            ("[]", &[]),
            ("null", &["null"]),
            (r#""x""#, &[r#""x""#]),
            ("1e400", &["1e400"]),
        ];
        for (body, expected) in cases {
            assert_eq!(split(JSON, body).unwrap(), *expected, "{body}");
        }
        for bad in ["", " ", "{", "[1,]", "{}{}", "nul", "[1 2]"] {
            assert!(split(JSON, bad).unwrap_err().contains("no JSON"), "{bad}");
        }
        assert_eq!(split("text/plain", "[1,2]").unwrap(), ["[1,2]"]);
        assert_eq!(split("text/plain", "").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn rows_become_a_body() {
        let join = |content_type, parts: &[&str]| {
            let mut joined = Joined::new(content_type);
            parts.iter().for_each(|part| joined.push(part.as_bytes()));
            String::from_utf8(joined.finish().to_vec()).unwrap()
        };
        assert_eq!(join(JSON, &[]), "[]");
        assert_eq!(join(JSON, &["1", "[2]"]), "[1,[2]]");
        assert_eq!(join("text/plain", &["a", "b"]), "ab");
        assert_eq!(join("text/plain", &[]), "");
    }

    fn data(content_type: &str, payload: &[u8]) -> String {
        let mut out = BytesMut::new();
        write_data(&mut out, content_type, payload);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn events_hold_whatever_comes() {
        assert_eq!(data("text/plain", b"a\nb\r\nc\rd"), "event: data\ndata:a\ndata:b\ndata:c\ndata:d\n\n");
        assert_eq!(
            data("text/plain", b"x\n\nevent: control\n"),
            "event: data\ndata:x\ndata:\ndata:event: control\ndata:\n\n"
        );
        assert_eq!(data("text/plain", b" two words"), "event: data\ndata:  two words\n\n");
        assert_eq!(data("a/b", &[0, 255, 10]), "event: data\ndata:AP8K\n\n");
        assert_eq!(data("text/plain", b""), "event: data\ndata:\n\n");
        let control = |cursor, up_to_date, closed| {
            let mut out = BytesMut::new();
            write_control(&mut out, Control { next: Offset(Seq::ZERO), cursor, up_to_date, closed });
            String::from_utf8(out.to_vec()).unwrap()
        };
        let offset = r#""streamNextOffset":"0000000000000000_0000000000000000""#;
        assert_eq!(control(7, false, false), format!("event: control\ndata:{{{offset},\"streamCursor\":\"7\"}}\n\n"));
        let caught_up = format!("event: control\ndata:{{{offset},\"streamCursor\":\"7\",\"upToDate\":true}}\n\n");
        assert_eq!(control(7, true, false), caught_up);
        let closed = format!("event: control\ndata:{{{offset},\"upToDate\":true,\"streamClosed\":true}}\n\n");
        assert_eq!(control(7, true, true), closed);
    }

    proptest! {
        /// As a browser reads it: lines of the event joined by line feeds.
        #[test]
        fn a_text_comes_out_of_its_event(text in "[a \r\n:é]{0,40}") {
            let event = data("text/plain", text.as_bytes());
            prop_assert!(event.ends_with("\n\n") && !event[..event.len() - 2].contains("\n\n"));
            let read: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data:")).collect();
            let read: Vec<&str> = read.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
            prop_assert_eq!(read.join("\n"), text.replace("\r\n", "\n").replace('\r', "\n"));
        }
    }
}
