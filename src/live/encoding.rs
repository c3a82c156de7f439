//! How a frame becomes bytes: JSON or MessagePack, plain or gzipped.
//!
//! Owns the two formats, the 512-byte rule of compression, and the bound on what a client's gzip may expand to.
//! Never knows what a frame says.
//! Start at [`MapWriter`] and [`pack`].

use std::cell::RefCell;
use std::io::Read;
use std::sync::OnceLock;

use bytes::Bytes;
use bytestring::ByteString;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use serde::Serialize;

use crate::error::{Error, Result};

/// How data frames of a session are written. Agreed on when the session authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    Json,
    MsgPack,
}

/// How a session's frames are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    pub format: Format,
    pub compress: bool,
}

/// Which formats an event must be encoded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Formats {
    pub json: bool,
    pub msgpack: bool,
}

impl Formats {
    pub fn only(format: Format) -> Self {
        let mut formats = Self::default();
        formats.add(format);
        formats
    }

    pub fn add(&mut self, format: Format) {
        match format {
            Format::Json => self.json = true,
            Format::MsgPack => self.msgpack = true,
        }
    }
}

/// What goes into one WebSocket message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireFrame {
    Text(ByteString),
    Binary(Bytes),
}

impl WireFrame {
    pub fn len(&self) -> usize {
        match self {
            WireFrame::Text(text) => text.len(),
            WireFrame::Binary(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Frames below this many bytes are sent plain.
const COMPRESS_FROM: usize = 512;

const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Serializes `value` behind `out`.
pub(crate) fn encode<T: Serialize + ?Sized>(format: Format, value: &T, out: &mut Vec<u8>) -> Result<()> {
    match format {
        Format::Json => serde_json::to_writer(out, value).map_err(Error::internal),
        Format::MsgPack => {
            value.serialize(&mut rmp_serde::Serializer::new(out).with_struct_map()).map_err(Error::internal)
        }
    }
}

/// Writes one named map, entry by entry, so that parts encoded earlier (rows, shared tails) are copied, not parsed.
#[derive(Debug)]
pub(crate) struct MapWriter {
    format: Format,
    out: Vec<u8>,
    first: bool,
}

impl MapWriter {
    /// A map of exactly `entries` entries, at most 15.
    pub(crate) fn new(format: Format, entries: u8) -> Self {
        debug_assert!(entries < 16, "a longer map has another MessagePack header");
        let head = match format {
            Format::Json => b'{',
            Format::MsgPack => 0x80 | entries,
        };
        Self { format, out: vec![head], first: true }
    }

    /// The later entries of a map whose beginning is written elsewhere.
    pub(crate) fn tail(format: Format) -> Self {
        Self { format, out: Vec::with_capacity(256), first: false }
    }

    pub(crate) fn entry<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<()> {
        self.name(name)?;
        encode(self.format, value, &mut self.out)
    }

    /// An entry whose value is already encoded in this map's format.
    pub(crate) fn entry_raw(&mut self, name: &str, value: &[u8]) -> Result<()> {
        self.name(name)?;
        self.out.extend_from_slice(value);
        Ok(())
    }

    fn name(&mut self, name: &str) -> Result<()> {
        if self.format == Format::Json && !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
        encode(self.format, name, &mut self.out)?;
        if self.format == Format::Json {
            self.out.push(b':');
        }
        Ok(())
    }

    /// The beginning of a map whose [`MapWriter::tail`] comes from elsewhere.
    pub(crate) fn into_head(self) -> Vec<u8> {
        self.out
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.format == Format::Json {
            self.out.push(b'}');
        }
        self.out
    }
}

/// A list of rows, encoded one by one; their number need not be known before.
#[derive(Debug)]
pub(crate) struct ListWriter {
    format: Format,
    rows: Vec<u8>,
    ends: Vec<usize>,
}

impl ListWriter {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, rows: Vec::new(), ends: Vec::new() }
    }

    pub(crate) fn push<T: Serialize + ?Sized>(&mut self, row: &T) -> Result<()> {
        encode(self.format, row, &mut self.rows)?;
        self.ends.push(self.rows.len());
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rows.len()
    }

    /// The list; `reversed`: the last row pushed comes first.
    pub(crate) fn finish(self, reversed: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.rows.len() + self.ends.len() + 5);
        match self.format {
            Format::Json => out.push(b'['),
            Format::MsgPack => list_header(self.ends.len(), &mut out),
        }
        let rows = self.ends.len();
        for nth in 0..rows {
            if nth > 0 && self.format == Format::Json {
                out.push(b',');
            }
            let row = if reversed { rows - 1 - nth } else { nth };
            let start = if row == 0 { 0 } else { self.ends[row - 1] };
            out.extend_from_slice(&self.rows[start..self.ends[row]]);
        }
        if self.format == Format::Json {
            out.push(b']');
        }
        out
    }
}

fn list_header(rows: usize, out: &mut Vec<u8>) {
    match (u8::try_from(rows), u16::try_from(rows)) {
        (Ok(few), _) if few < 16 => out.push(0x90 | few),
        (_, Ok(many)) => {
            out.push(0xdc);
            out.extend_from_slice(&many.to_be_bytes());
        }
        _ => {
            out.push(0xdd);
            out.extend_from_slice(&u32::try_from(rows).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

/// Makes a frame of encoded bytes.
pub(crate) fn pack(wire: Wire, bytes: Vec<u8>) -> WireFrame {
    if wire.compress && bytes.len() >= COMPRESS_FROM {
        let packed = gzip(&[], &Deflated::new(&bytes));
        if packed.len() < bytes.len() {
            return WireFrame::Binary(packed.into());
        }
    }
    plain(wire.format, bytes.into())
}

/// The last entries of a frame's map: shared by frames that differ in their first ones, and compressed at most once.
#[derive(Debug)]
pub struct Tail {
    bytes: Bytes,
    deflated: OnceLock<Deflated>,
}

impl Tail {
    pub(crate) fn new(map: MapWriter) -> Self {
        Self { bytes: map.finish().into(), deflated: OnceLock::new() }
    }

    /// Compresses it now, on this thread, where its frames will need it.
    pub(crate) fn compressed(self, wire: Wire) -> Self {
        if wire.compress && self.bytes.len() >= COMPRESS_FROM {
            self.deflated();
        }
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The frame that begins with `head`.
    pub(crate) fn frame(&self, wire: Wire, head: Vec<u8>) -> WireFrame {
        let len = head.len() + self.bytes.len();
        if wire.compress && len >= COMPRESS_FROM {
            let packed = gzip(&head, self.deflated());
            if packed.len() < len {
                return WireFrame::Binary(packed.into());
            }
        }
        let mut bytes = head;
        bytes.extend_from_slice(&self.bytes);
        plain(wire.format, bytes.into())
    }

    fn deflated(&self) -> &Deflated {
        self.deflated.get_or_init(|| Deflated::new(&self.bytes))
    }
}

fn plain(format: Format, bytes: Bytes) -> WireFrame {
    match format {
        // The encoder writes nothing but UTF-8; a client would read the bytes either way.
        Format::Json => ByteString::try_from(bytes.clone()).map_or(WireFrame::Binary(bytes), WireFrame::Text),
        Format::MsgPack => WireFrame::Binary(bytes),
    }
}

/// A raw deflate stream and the checksum of what it holds.
#[derive(Debug)]
struct Deflated {
    stream: Vec<u8>,
    crc: Crc,
}

thread_local! {
    /// The compressor's tables take some 300 KB: making them for each frame costs more than compressing it does.
    /// Reset before each use, so nothing of one frame reaches the next.
    static COMPRESSOR: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
}

impl Deflated {
    fn new(bytes: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(bytes);
        let mut stream = Vec::with_capacity(bytes.len() / 2 + 64);
        COMPRESSOR.with_borrow_mut(|compressor| {
            compressor.reset();
            loop {
                let read = usize::try_from(compressor.total_in()).unwrap_or(bytes.len());
                match compressor.compress_vec(&bytes[read..], &mut stream, FlushCompress::Finish) {
                    Ok(Status::StreamEnd) => break,
                    // `Finish` asks for nothing but room: an error does not occur, and would only end an endless loop.
                    Ok(Status::Ok | Status::BufError) => stream.reserve(stream.capacity().max(64)),
                    Err(_) => break,
                }
            }
        });
        Self { stream, crc }
    }
}

/// One gzip member of `head` (as a stored block) and what `tail` holds.
///
/// A deflate stream is a sequence of blocks, each byte-aligned where a stored block ends: so the expensive part is
/// compressed once for all subscribers, though each has another head.
fn gzip(head: &[u8], tail: &Deflated) -> Vec<u8> {
    let mut out = Vec::with_capacity(GZIP_HEADER.len() + head.len() + tail.stream.len() + 16);
    out.extend_from_slice(&GZIP_HEADER);
    let mut crc = Crc::new();
    for block in head.chunks(usize::from(u16::MAX)) {
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(block);
        crc.update(block);
    }
    out.extend_from_slice(&tail.stream);
    crc.combine(&tail.crc);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
    out
}

/// A client's message, unpacked where it is gzipped; `None` where it is no gzip or longer than `max` bytes.
pub(crate) fn unpack(bytes: &[u8], max: usize) -> Option<Vec<u8>> {
    if !bytes.starts_with(&GZIP_MAGIC) {
        return (bytes.len() <= max).then(|| bytes.to_vec());
    }
    let mut out = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    flate2::read::GzDecoder::new(bytes).take(limit).read_to_end(&mut out).ok()?;
    (out.len() <= max).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(frame: &WireFrame) -> Vec<u8> {
        match frame {
            WireFrame::Text(text) => text.as_bytes().to_vec(),
            WireFrame::Binary(bytes) => unpack(bytes, usize::MAX).unwrap(),
        }
    }

    #[test]
    fn maps_and_lists_read_back_in_both_formats() {
        for format in [Format::Json, Format::MsgPack] {
            for rows in [0, 1, 15, 16, 70_000] {
                let mut list = ListWriter::new(format);
                for row in 0..rows {
                    list.push(&row).unwrap();
                }
                let mut map = MapWriter::new(format, 2);
                map.entry("n", &rows).unwrap();
                map.entry_raw("rows", &list.finish(true)).unwrap();
                let bytes = map.finish();
                let value: serde_json::Value = match format {
                    Format::Json => serde_json::from_slice(&bytes).unwrap(),
                    Format::MsgPack => rmp_serde::from_slice(&bytes).unwrap(),
                };
                let expected: Vec<i32> = (0..rows).rev().collect();
                assert_eq!(value, serde_json::json!({"n": rows, "rows": expected}));
            }
        }
    }

    #[test]
    fn small_frames_stay_plain_and_large_ones_are_packed() {
        let small = vec![b'a'; COMPRESS_FROM - 1];
        let wire = |format, compress| Wire { format, compress };
        assert!(matches!(pack(wire(Format::Json, true), small), WireFrame::Text(_)));
        let large = vec![b'a'; COMPRESS_FROM];
        let packed = pack(wire(Format::Json, true), large.clone());
        assert!(matches!(&packed, WireFrame::Binary(bytes) if bytes.len() < 100), "{packed:?}");
        assert_eq!(read(&packed), large);
        assert!(matches!(pack(wire(Format::Json, false), large.clone()), WireFrame::Text(_)));
        assert!(matches!(pack(wire(Format::MsgPack, false), large), WireFrame::Binary(_)));
    }

    #[test]
    fn a_clients_gzip_is_bounded() {
        let bomb = gzip(&[], &Deflated::new(&vec![0; 1_000_000]));
        assert!(bomb.len() < 10_000);
        assert_eq!(unpack(&bomb, 999_999), None);
        assert_eq!(unpack(&bomb, 1_000_000).map(|out| out.len()), Some(1_000_000));
        assert_eq!(unpack(&[0x1f, 0x8b, 8, 0, 1], 100), None, "torn gzip");
        assert_eq!(unpack(b"plain", 4), None);
    }

    proptest! {
        #[test]
        fn a_shared_tail_unpacks_behind_any_head(
            head in proptest::collection::vec(any::<u8>(), 0..400),
            tail in proptest::collection::vec(0u8..8, 0..3_000),
        ) {
            let tail = Tail { bytes: tail.into(), deflated: OnceLock::new() };
            let expected = [&head[..], &tail.bytes[..]].concat();
            prop_assert_eq!(unpack(&gzip(&head, tail.deflated()), usize::MAX), Some(expected.clone()));
            let frame = tail.frame(Wire { format: Format::MsgPack, compress: true }, head);
            // A frame that compression would lengthen is sent as it is; then it may begin like gzip only by chance.
            if frame.len() < expected.len() {
                prop_assert_eq!(read(&frame), expected);
            }
        }
    }
}
