//! One change as a subscriber is told of it: encoded once, shared by all who have the same query.

use std::sync::Arc;

use serde::Serialize;

use super::encoding::{Format, Formats, MapWriter, Tail, Wire, WireFrame};
use crate::error::{Error, Result};
use crate::model::{Seq, TableId};

/// What the change is to the subscriber: an update that leaves the filter is a delete, one that enters an insert (A8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Insert,
    Update,
    Delete,
}

/// A `change` frame but for the subscription's id, which stands at its front: the bytes behind it are shared.
#[derive(Debug)]
pub struct LiveEvent {
    pub table: TableId,
    pub seq: Seq,
    pub kind: EventKind,
    /// Entries of the frame's map.
    entries: u8,
    json: Option<Tail>,
    msgpack: Option<Tail>,
}

impl LiveEvent {
    /// `rows` and `old_values` are the frame's entries of these names, where it has them.
    pub(crate) fn new<R: Serialize, O: Serialize>(
        (table, seq, kind): (TableId, Seq, EventKind),
        rows: Option<R>,
        old_values: Option<O>,
        formats: Formats,
    ) -> Result<Arc<Self>> {
        let tail = |format| -> Result<Tail> {
            let mut map = MapWriter::tail(format);
            map.entry("change_type", &kind)?;
            if let Some(row) = &rows {
                map.entry("rows", &[row])?;
            }
            if let Some(row) = &old_values {
                map.entry("old_values", &[row])?;
            }
            Ok(Tail::new(map))
        };
        Ok(Arc::new(Self {
            table,
            seq,
            kind,
            entries: 3 + u8::from(rows.is_some()) + u8::from(old_values.is_some()),
            json: formats.json.then(|| tail(Format::Json)).transpose()?,
            msgpack: formats.msgpack.then(|| tail(Format::MsgPack)).transpose()?,
        }))
    }

    /// The bytes that the event keeps in memory while it waits.
    pub fn weight(&self) -> usize {
        let of = |tail: &Option<Tail>| tail.as_ref().map_or(0, Tail::len);
        size_of::<Self>() + of(&self.json) + of(&self.msgpack)
    }

    /// The frame for one subscription.
    ///
    /// # Errors
    /// `INTERNAL` where the event was not encoded in the session's format.
    pub(crate) fn frame(&self, subscription_id: &str, wire: Wire) -> Result<WireFrame> {
        let tail = match wire.format {
            Format::Json => &self.json,
            Format::MsgPack => &self.msgpack,
        };
        let tail = tail.as_ref().ok_or_else(|| Error::internal("an event lacks its subscriber's format"))?;
        let mut head = MapWriter::new(wire.format, self.entries);
        head.entry("type", "change")?;
        head.entry("subscription_id", subscription_id)?;
        Ok(tail.frame(wire, head.into_head()))
    }
}
