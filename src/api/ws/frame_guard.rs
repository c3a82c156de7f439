//! Holds a socket's messages to their size while their bytes come in.
//!
//! actix-http's codec looks at a frame's size when all of the frame is there: until then it gathers what the peer sends,
//! however much that is. This guard stands before it, reads the heads of frames and ends the stream where one announces
//! more than is allowed, so nothing beyond the limit is ever held (LQ-5).
//! Owns nothing else of the protocol: what is no frame is the codec's to refuse.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::dev;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;

/// Two bytes, up to eight of length, four of the mask.
const HEAD_MAX: usize = 14;

/// The bytes of a request that became a socket, as far as its messages are not too long.
pub(super) struct GuardedFrames {
    payload: dev::Payload,
    frames: FrameSizes,
    ended: bool,
}

impl GuardedFrames {
    pub(super) fn new(payload: dev::Payload, max_message_bytes: usize) -> Self {
        Self { payload, frames: FrameSizes::new(max_message_bytes as u64), ended: false }
    }
}

impl Stream for GuardedFrames {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let chunk = std::task::ready!(Pin::new(&mut self.payload).poll_next(cx));
        let Some(Ok(bytes)) = &chunk else { return Poll::Ready(chunk) };
        if self.frames.admit(bytes).is_err() {
            self.ended = true;
            return Poll::Ready(Some(Err(PayloadError::Overflow)));
        }
        Poll::Ready(chunk)
    }
}

/// A message is longer than allowed, by its own account.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

/// Where in its frames a byte stream stands.
#[derive(Debug)]
struct FrameSizes {
    max_message: u64,
    /// Of the frames before this one that belong to the same message.
    message: u64,
    /// Payload of this frame that has not come yet.
    rest: u64,
    head: [u8; HEAD_MAX],
    head_length: usize,
}

impl FrameSizes {
    fn new(max_message: u64) -> Self {
        Self { max_message, message: 0, rest: 0, head: [0; HEAD_MAX], head_length: 0 }
    }

    fn admit(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        loop {
            let skipped = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len());
            self.rest -= skipped as u64;
            bytes = &bytes[skipped..];
            let [next, behind @ ..] = bytes else { return Ok(()) };
            self.head[self.head_length] = *next;
            self.head_length += 1;
            bytes = behind;
            if let Some(payload) = self.head_payload() {
                self.begin(payload)?;
            }
        }
    }

    /// The payload's size, once the head is complete.
    fn head_payload(&self) -> Option<u64> {
        let head = &self.head[..self.head_length];
        let (length_bytes, short) = match *head.get(1)? & 0x7f {
            126 => (2, None),
            127 => (8, None),
            short => (0, Some(u64::from(short))),
        };
        let mask_bytes = if head[1] & 0x80 == 0 { 0 } else { 4 };
        if head.len() < 2 + length_bytes + mask_bytes {
            return None;
        }
        let long = || head[2..2 + length_bytes].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        Some(short.unwrap_or_else(long))
    }

    fn begin(&mut self, payload: u64) -> Result<(), TooLong> {
        let (last, control) = (self.head[0] & 0x80 != 0, self.head[0] & 0x08 != 0);
        self.head_length = 0;
        self.rest = payload;
        let length = if control { payload } else { self.message.saturating_add(payload) };
        if length > self.max_message {
            return Err(TooLong);
        }
        if !control {
            self.message = if last { 0 } else { length };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(0x80 | length as u8),
            126..=65_535 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0xff; 4]);
        frame.extend(vec![0x81; length]);
        frame
    }

    /// Fed in pieces of any size, the answer is the same.
    fn check(stream: &[u8], expected: Result<(), TooLong>) {
        for piece in [1, 2, 3, 7, 100, stream.len()] {
            let mut frames = FrameSizes::new(1_000);
            let outcome = stream.chunks(piece).try_for_each(|bytes| frames.admit(bytes));
            assert_eq!(outcome, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn messages_up_to_the_limit_pass() {
        let mut stream = Vec::new();
        for length in [0, 1, 125, 126, 999, 1_000] {
            stream.extend(frame(0x81, length));
        }
        // In parts, with a ping between.
        for (first, length) in [(0x01, 400), (0x89, 100), (0x00, 300), (0x80, 300), (0x82, 1_000)] {
            stream.extend(frame(first, length));
        }
        check(&stream, Ok(()));
    }

    #[test]
    fn longer_ones_are_refused_by_their_head_alone() {
        check(&frame(0x81, 1_001)[..8], Err(TooLong));
        check(&frame(0x82, 70_000)[..14], Err(TooLong));
        check(&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4], Err(TooLong));
        check(&[frame(0x01, 600), frame(0x80, 401)].concat(), Err(TooLong));
        check(&[frame(0x81, 1_000), frame(0x81, 1_001)].concat(), Err(TooLong));
    }
}
