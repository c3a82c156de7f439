//! Reading a subscription's past: pages of a load, and pages of a replay.
//!
//! Owns how rows of a view become a page: only live rows that match, or what each row is to someone who was away.
//! Blocks on the disk through [`LiveReader`]: called on a thread for blocking work, never on an arbiter.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::change_batch::{Known, StoredRows, replayed_events};
use super::encoding::{Formats, ListWriter, MapWriter, Tail, Wire};
use super::rows::{LiveRows, holds, seqs, take, tombstones};
use super::{LiveEvent, LiveQuery};
use crate::error::Result;
use crate::model::Seq;

/// In which `_seq` order rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanOrder {
    OldestFirst,
    NewestFirst,
}

/// The rows of one partition (or of all owners of a table) at one moment.
pub trait LiveReader: Send + Sync {
    /// Position of the last change that the view contains.
    fn head(&self) -> Seq;

    /// Above this position nothing is missing; below it, retention may have removed tombstones. A tombstone above it
    /// stays although its key is inserted again: the new row may not match, and then only the tombstone tells that the
    /// old one is gone.
    fn replayable_from(&self) -> Seq;

    /// The stored rows with `_seq` in `range`, tombstones included, in `order`, in batches of some hundred rows.
    fn scan(
        &self,
        range: RangeInclusive<Seq>,
        order: ScanOrder,
    ) -> Box<dyn Iterator<Item = Result<StoredRows>> + Send + '_>;
}

/// What to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageRequest {
    /// Rows above `after` up to `until`, the oldest first.
    Rows { after: Seq, until: Seq, limit: usize },
    /// The newest rows up to `until`.
    Newest { until: Seq, limit: usize },
    /// What changed above `after` up to `until`, for a subscriber that was told what `known` says.
    Changes { after: Seq, until: Seq, known: Known },
}

/// What was read.
#[derive(Debug)]
pub enum Page {
    Rows(RowsPage),
    Changes(ChangesPage),
}

#[derive(Debug)]
pub struct RowsPage {
    /// The last entry of the page's frame: its rows, ascending, encoded as the session reads them.
    pub rows: Tail,
    pub count: usize,
    /// Position of the newest row.
    pub last: Option<Seq>,
    /// Are there rows beyond the page?
    pub more: bool,
}

#[derive(Debug)]
pub struct ChangesPage {
    pub events: Vec<Arc<LiveEvent>>,
    /// Everything up to here has been read.
    pub reached: Seq,
}

/// A page of rows ends here, though fewer rows than asked for are in it; one row is always.
const ROWS_PAGE_BYTES: usize = 1 << 20;
/// The newest rows come in one page: so it may be larger.
const NEWEST_PAGE_BYTES: usize = 8 << 20;
/// A replay page is read while the session has room, so a small one suffices.
const CHANGES_PAGE_EVENTS: usize = 1_024;
const CHANGES_PAGE_BYTES: usize = 256 << 10;

/// The list of no rows.
///
/// # Errors
/// `INTERNAL`, never in practice: an empty list is always encodable.
pub(crate) fn no_rows(wire: Wire) -> Result<Tail> {
    rows_tail(wire, &ListWriter::new(wire.format).finish(false))
}

fn rows_tail(wire: Wire, list: &[u8]) -> Result<Tail> {
    let mut map = MapWriter::tail(wire.format);
    map.entry_raw("rows", list)?;
    Ok(Tail::new(map).compressed(wire))
}

/// One page to be read, by whoever has a thread that may block.
pub struct PageJob {
    pub query: Arc<dyn LiveQuery>,
    pub reader: Arc<dyn LiveReader>,
    pub request: PageRequest,
    pub wire: Wire,
}

impl PageJob {
    /// Reads, filters, encodes and compresses the page.
    ///
    /// # Errors
    /// `EXECUTION` where the query can not be computed on a row; what the reader gives.
    pub fn run(&self) -> Result<Page> {
        read_page(&*self.query, &*self.reader, self.request, self.wire)
    }
}

fn read_page(query: &dyn LiveQuery, reader: &dyn LiveReader, request: PageRequest, wire: Wire) -> Result<Page> {
    match request {
        PageRequest::Rows { after, until, limit } => {
            let scan = Scan { query, wire, limit, max_bytes: ROWS_PAGE_BYTES, order: ScanOrder::OldestFirst };
            scan.rows(reader, after.after()..=until).map(Page::Rows)
        }
        PageRequest::Newest { until, limit } => {
            let scan = Scan { query, wire, limit, max_bytes: NEWEST_PAGE_BYTES, order: ScanOrder::NewestFirst };
            scan.rows(reader, Seq::ZERO..=until).map(Page::Rows)
        }
        PageRequest::Changes { after, until, known } => {
            changes(query, reader, (after, until, known), Formats::only(wire.format)).map(Page::Changes)
        }
    }
}

struct Scan<'a> {
    query: &'a dyn LiveQuery,
    wire: Wire,
    limit: usize,
    max_bytes: usize,
    order: ScanOrder,
}

impl Scan<'_> {
    fn rows(&self, reader: &dyn LiveReader, range: RangeInclusive<Seq>) -> Result<RowsPage> {
        let mut list = ListWriter::new(self.wire.format);
        let (mut first, mut last) = (None, None);
        let mut more = false;
        'page: for stored in reader.scan(range, self.order) {
            // One more than fits, to know whether there is more.
            let Some((rows, seqs)) = self.matching(&stored?, self.limit - list.len() + 1)? else { continue };
            for (row, seq) in seqs.iter().enumerate() {
                let full = list.len() >= self.limit || (list.len() > 0 && list.bytes() >= self.max_bytes);
                if full {
                    more = true;
                    break 'page;
                }
                list.push(&rows.shown(row))?;
                first = first.or(Some(*seq));
                last = Some(*seq);
            }
        }
        let newest_first = self.order == ScanOrder::NewestFirst;
        let last = if newest_first { first } else { last };
        let count = list.len();
        Ok(RowsPage { count, rows: rows_tail(self.wire, &list.finish(newest_first))?, last, more })
    }

    /// The first `max` rows that are there and match, projected.
    fn matching(&self, stored: &StoredRows, max: usize) -> Result<Option<(LiveRows, Vec<Seq>)>> {
        let rows = if self.query.sees_tombstones() { stored.rows.clone() } else { there(&stored.rows)? };
        let answer = self.query.matches(&rows)?;
        let matching: Vec<u32> =
            (0u32..).take(rows.num_rows()).filter(|row| holds(&answer, *row as usize)).take(max).collect();
        if matching.is_empty() {
            return Ok(None);
        }
        let rows = take(&rows, &matching)?;
        let seqs = seqs(&rows)?;
        Ok(Some((LiveRows::project(self.query, &rows)?, seqs)))
    }
}

/// As SELECT does: the filter never meets a row that is gone.
fn there(rows: &RecordBatch) -> Result<RecordBatch> {
    let deleted = tombstones(rows)?;
    let there: Vec<u32> = (0u32..).zip(deleted.values()).filter(|(_, gone)| !gone).map(|(row, _)| row).collect();
    take(rows, &there)
}

fn changes(
    query: &dyn LiveQuery,
    reader: &dyn LiveReader,
    (after, until, known): (Seq, Seq, Known),
    formats: Formats,
) -> Result<ChangesPage> {
    let mut events = Vec::new();
    let mut bytes = 0;
    for stored in reader.scan(after.after()..=until, ScanOrder::OldestFirst) {
        let stored = stored?;
        let Some(reached) = seqs(&stored.rows)?.last().copied() else { continue };
        let told = replayed_events(query, &stored, known, formats)?;
        bytes += told.iter().map(|event| event.weight()).sum::<usize>();
        events.extend(told);
        if events.len() >= CHANGES_PAGE_EVENTS || bytes >= CHANGES_PAGE_BYTES {
            return Ok(ChangesPage { events, reached });
        }
    }
    Ok(ChangesPage { events, reached: until })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Format;
    use crate::live::testing::{Note, ScoreQuery, StoredNotes, event_text, note, rows_text, seq};

    const UNTIL: Seq = Seq::MAX;
    const JSON: Wire = Wire { format: Format::Json, compress: false };

    fn stored() -> StoredNotes {
        let rows: Vec<Note> = vec![
            note(1, 1, 9, 10),
            note(2, 1, 1, 20),
            note(3, 1, 9, 30).deleted(),
            note(4, 1, 9, 40),
            note(5, 1, 9, 50),
            note(6, 1, -1, 60).deleted(),
            note(7, 1, 9, 70),
        ];
        StoredNotes::new(rows.into_iter().map(|row| (row, row.seq)).collect())
    }

    fn read(request: PageRequest) -> (String, Option<i64>, bool) {
        let query = ScoreQuery::new(&[0], Some(5));
        let Page::Rows(page) = read_page(&query, &stored(), request, JSON).unwrap() else { panic!() };
        (rows_text(&page.rows), page.last.map(Seq::get), page.more)
    }

    #[test]
    fn tombstones_are_rows_to_a_query_that_sees_them() {
        let query = ScoreQuery::new(&[0], Some(5)).with_tombstones();
        let request = PageRequest::Rows { after: seq(20), until: seq(40), limit: 9 };
        let Page::Rows(page) = read_page(&query, &stored(), request, JSON).unwrap() else { panic!() };
        let (three, four) = (r#"{"id":"3","_seq":"30","_deleted":true}"#, r#"{"id":"4","_seq":"40","_deleted":false}"#);
        assert_eq!(rows_text(&page.rows), format!("[{three},{four}]"));
    }

    #[test]
    fn a_page_holds_the_next_rows_that_match() {
        let rows = |after: i64, limit| read(PageRequest::Rows { after: seq(after), until: UNTIL, limit });
        let (one, four) = (r#"{"id":"1","_seq":"10"}"#, r#"{"id":"4","_seq":"40"}"#);
        let (five, seven) = (r#"{"id":"5","_seq":"50"}"#, r#"{"id":"7","_seq":"70"}"#);
        assert_eq!(rows(0, 2), (format!("[{one},{four}]"), Some(40), true));
        assert_eq!(
            rows(40, 2),
            (format!("[{five},{seven}]"), Some(70), false),
            "no more: known without a further page"
        );
        assert_eq!(rows(0, 100), (format!("[{one},{four},{five},{seven}]"), Some(70), false));
        assert_eq!(rows(70, 2), ("[]".into(), None, false));
        assert_eq!(
            read(PageRequest::Rows { after: seq(0), until: seq(49), limit: 9 }),
            (format!("[{one},{four}]"), Some(40), false)
        );
    }

    #[test]
    fn the_newest_rows_come_oldest_first() {
        let newest = |limit| read(PageRequest::Newest { until: UNTIL, limit });
        let (five, seven) = (r#"{"id":"5","_seq":"50"}"#, r#"{"id":"7","_seq":"70"}"#);
        assert_eq!(newest(2), (format!("[{five},{seven}]"), Some(70), true));
        assert!(!newest(4).2, "there are just four");
        assert_eq!(newest(0), ("[]".into(), None, true));
    }

    #[test]
    fn a_page_ends_at_its_bytes_but_holds_a_row() {
        let query = ScoreQuery::new(&[0], None);
        let scan = Scan { query: &query, wire: JSON, limit: 100, max_bytes: 1, order: ScanOrder::OldestFirst };
        let page = scan.rows(&StoredNotes::new(vec![(note(1, 1, 1, 1), 1), (note(2, 1, 1, 2), 2)]), seq(0)..=UNTIL);
        let page = page.unwrap();
        assert_eq!((page.count, page.last, page.more), (1, Some(seq(1)), true));
    }

    #[test]
    fn changes_come_with_how_far_they_reach() {
        let query = ScoreQuery::new(&[0], Some(5));
        let reader = StoredNotes::new(vec![(note(1, 1, 9, 10), 10), (note(2, 1, 9, 20).deleted(), 3)]);
        let request = PageRequest::Changes { after: seq(5), until: seq(25), known: seq(5).into() };
        let Page::Changes(page) = read_page(&query, &reader, request, JSON).unwrap() else { panic!() };
        assert_eq!(page.reached, seq(25));
        let told: Vec<String> = page.events.iter().map(|event| event_text(event)).collect();
        assert_eq!(
            told,
            [
                r#""insert","rows":[{"id":"1","_seq":"10"}]"#,
                r#""delete","old_values":[{"id":"2","_seq":"20","_deleted":true}]"#
            ]
        );
    }

    #[test]
    fn a_long_replay_is_read_in_parts() {
        let query = ScoreQuery::new(&[0], None);
        let reader = StoredNotes::new((1..=3_000).map(|at| (note(at, 1, 1, at), at)).collect());
        let (mut after, mut told) = (seq(0), Vec::new());
        let mut pages = 0;
        while after < seq(3_000) {
            let request = PageRequest::Changes { after, until: seq(3_000), known: seq(0).into() };
            let Page::Changes(page) = read_page(&query, &reader, request, JSON).unwrap() else { panic!() };
            told.extend(page.events.iter().map(|event| event.seq.get()));
            after = page.reached;
            pages += 1;
        }
        assert!(pages > 1);
        assert_eq!(told, (1..=3_000).collect::<Vec<_>>());
    }
}
