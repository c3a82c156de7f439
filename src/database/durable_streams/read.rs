//! Reading a stream: pages of it, and waiting for the next one.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{StreamAddress, StreamScope, stream_in};
use crate::database::Database;
use crate::error::{Error, Result, StreamFault};
use crate::model::{Principal, Seq, StoredRow};
use crate::storage::{Order, ReadView};
use crate::streams::body::Joined;
use crate::streams::expiry::Expiry;
use crate::streams::offset::{Offset, ReadFrom};
use crate::streams::record::{Stream, StreamState, Stretch, there};

/// A page ends here; one message is always in it.
const PAGE_BYTES: usize = 256 << 10;
/// Rows read at once.
const SCAN_ROWS: usize = 256;

/// A part of a stream, and what is to be known of it.
#[derive(Debug, Clone)]
pub struct StreamPage {
    pub content_type: String,
    pub expiry: Expiry,
    /// Which stream of its key: changes when it is deleted and made again.
    pub id: Seq,
    pub from: Offset,
    pub next: Offset,
    pub body: Bytes,
    pub is_empty: bool,
    /// Is that all there is?
    pub up_to_date: bool,
    /// Nothing comes behind it, ever.
    pub ended: bool,
    /// When it was read. Microseconds since the Unix epoch.
    pub read_at_us: i64,
}

/// What is to be known of a stream without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHead {
    pub content_type: String,
    pub expiry: Expiry,
    pub tail: Offset,
    pub closed: bool,
}

impl Database {
    /// Does not count as reading it.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`, `STREAM_GONE`, and those of who may not read.
    pub fn stream_head(&self, caller: &Principal, address: &StreamAddress) -> Result<StreamHead> {
        let (scope, view) = self.stream_to_read(caller, address)?;
        let stream = stream_in(&view, &scope.partition, &address.key)?;
        let stream = there(stream, &address.key, scope.ttl_us, scope.now_us)?;
        let closed = stream.is_closed();
        let StreamState { content_type, expiry, .. } = stream.state;
        Ok(StreamHead { content_type, expiry, tail: Offset(stream.tail), closed })
    }
}

/// Reads one stream on and on.
pub struct StreamReader {
    database: Arc<Database>,
    caller: Principal,
    address: StreamAddress,
    from: ReadFrom,
}

impl StreamReader {
    pub fn new(database: Arc<Database>, caller: Principal, address: StreamAddress, from: ReadFrom) -> Self {
        Self { database, caller, address, from }
    }

    /// What follows, as it is now; empty where nothing does. Who reads, and what they may, is looked at anew each time.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`, `STREAM_GONE`, `INVALID_INPUT`, and those of who may not read.
    pub async fn page(&mut self) -> Result<StreamPage> {
        let (scope, view) = self.database.stream_to_read(&self.caller, &self.address)?;
        let stream = there(
            stream_in(&view, &scope.partition, &self.address.key)?,
            &self.address.key,
            scope.ttl_us,
            scope.now_us,
        )?;
        if stream.state.expiry.is_worth_noting(stream.state.touched_us, scope.now_us) {
            self.database.touch_stream(&scope, &self.address.key).await?;
        }
        let from = match self.from {
            ReadFrom::Beginning => Seq::ZERO,
            ReadFrom::Now => stream.tail,
            ReadFrom::After(seq) => seq,
        };
        if from > stream.tail {
            let text = format!("The stream ends at {}, before offset {}", Offset(stream.tail), Offset(from));
            return Err(Error::InvalidInput(text));
        }
        let stretches = stream.stretches(&self.address.key, from);
        // From its beginning whoever asks has what is there.
        if from != Seq::ZERO && !stretches.is_empty() {
            let (_, gone) = view.reach(&scope.shape.table, Some(scope.owner()))?;
            if stretches.iter().any(|stretch| stretch.above < gone) {
                return Err(StreamFault::Expired.into());
            }
        }
        let page = read_page(&view, &scope, &stream, (from, stretches)).await?;
        self.from = ReadFrom::After(page.next.0);
        Ok(page)
    }

    /// What follows; where nothing does, waits for it, up to `patience`. Then the page is empty.
    ///
    /// # Errors
    /// As [`StreamReader::page`]; `SHUTTING_DOWN`.
    pub async fn next(&mut self, patience: Duration) -> Result<StreamPage> {
        let deadline = Instant::now() + patience;
        let bell = {
            let scope = self.database.stream_scope(&self.caller, &self.address)?;
            self.database.turns.bell(&scope.partition)
        };
        loop {
            // Before the look: a write that ends between the two rings.
            let mut rung = pin!(bell.notified());
            rung.as_mut().enable();
            let page = self.page().await?;
            if !page.is_empty || page.ended || Instant::now() >= deadline {
                return Ok(page);
            }
            // An error: the time is over, and the next look is the last.
            let _ = tokio::time::timeout_at(deadline, rung).await;
        }
    }
}

async fn read_page(
    view: &ReadView,
    scope: &StreamScope,
    stream: &Stream,
    (from, stretches): (Seq, Vec<Stretch>),
) -> Result<StreamPage> {
    let mut joined = Joined::new(&stream.state.content_type);
    let mut rest = None;
    let mut read = from;
    'page: for stretch in &stretches {
        let mut rows = StretchRows::open(view, scope, stretch)?;
        while let Some((seq, message)) = rows.next().await? {
            if !joined.is_empty() && joined.len() + message.len() > PAGE_BYTES {
                rest = Some(read);
                break 'page;
            }
            joined.push(&message);
            read = seq;
        }
    }
    let up_to_date = rest.is_none();
    let is_empty = joined.is_empty();
    Ok(StreamPage {
        content_type: stream.state.content_type.clone(),
        expiry: stream.state.expiry,
        id: stream.start,
        from: Offset(from),
        next: Offset(rest.unwrap_or(stream.tail)),
        body: joined.finish(),
        is_empty,
        up_to_date,
        ended: up_to_date && stream.is_closed(),
        read_at_us: scope.now_us,
    })
}

/// The messages of one stretch of a stream, in order.
pub(super) struct StretchRows<'a> {
    scope: &'a StreamScope,
    key: &'a str,
    rows: crate::storage::PartitionRows,
    ready: std::vec::IntoIter<StoredRow>,
}

impl<'a> StretchRows<'a> {
    pub(super) fn open(view: &ReadView, scope: &'a StreamScope, stretch: &'a Stretch) -> Result<Self> {
        let range: RangeInclusive<Seq> = stretch.above.after()..=stretch.until;
        let rows = view.rows(&scope.shape.table, scope.owner(), range, Order::Ascending)?;
        Ok(Self { scope, key: &stretch.key, rows, ready: Vec::new().into_iter() })
    }

    pub(super) async fn next(&mut self) -> Result<Option<(Seq, Vec<u8>)>> {
        loop {
            for row in self.ready.by_ref().filter(|row| !row.deleted) {
                if let Some(message) = self.scope.shape.message(&row.row, self.key)? {
                    return Ok(Some((row.seq, message)));
                }
            }
            // Rows of other streams between those of this one must not hold up the thread.
            tokio::task::yield_now().await;
            match self.rows.next(SCAN_ROWS).await? {
                Some(rows) => self.ready = rows.into_iter(),
                None => return Ok(None),
            }
        }
    }
}
