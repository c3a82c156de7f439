//! Stored rows as a live query sees them: pages of a snapshot, and what a resume has to replay.
//!
//! The rows go through the query's own `matches` and `project`, as each later change does.
//! Blocks on the disk: run it with `Engine::live_page`.

use std::ops::RangeInclusive;

use arrow::array::{BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};

use crate::error::{Error, Result};
use crate::live::query::LiveQuery;
use crate::model::{ChangeKind, Owner, PartitionKey, Seq, StoredRow};
use crate::storage::{BatchBuilder, Order, ReadView};

/// Stored rows that are read and evaluated at once.
const CHUNK_ROWS: usize = 1024;

/// Which rows, and how many at most.
#[derive(Debug, Clone)]
pub struct PageSpec {
    /// Ignored by a query of all owners.
    pub owner: Owner,
    pub seqs: RangeInclusive<Seq>,
    pub rows: usize,
    pub kind: PageKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// The first live rows of the range.
    Snapshot,
    /// The last live rows of the range, in ascending order all the same.
    Newest,
    /// What a subscriber who knows everything up to this position has to be told, deletes included. Of several changes
    /// of one row the last.
    ChangesAfter(Seq),
}

/// Rows in ascending `_seq` order.
#[derive(Debug)]
pub struct LivePage {
    /// As [`LiveQuery::project`] gives them.
    pub rows: RecordBatch,
    /// One per row: `Insert` for every row of a snapshot.
    pub kinds: Vec<ChangeKind>,
    /// `_seq` of the last row; `None` where there is no row.
    pub last: Option<Seq>,
    /// Are there more rows in the range: above the page, or for [`PageKind::Newest`] below it?
    pub has_more: bool,
}

/// # Errors
/// `STORAGE_UNAVAILABLE`; `Execution` where a row makes the query fail.
pub fn read_page(query: &dyn LiveQuery, view: &ReadView, spec: &PageSpec) -> Result<LivePage> {
    let mut chunks = Chunks::new(query, view, spec);
    let mut batches = Vec::new();
    let mut kinds: Vec<Told> = Vec::new();
    // One row more than wanted tells whether there are more.
    while kinds.len() <= spec.rows {
        let Some((rows, of_rows)) = chunks.next()? else { break };
        batches.push(rows);
        kinds.extend(of_rows);
    }
    let has_more = kinds.len() > spec.rows;
    kinds.truncate(spec.rows);
    let nothing = query.project(&chunks.builder.finish()?)?;
    let rows = concat_batches(&nothing.schema(), &batches).map_err(Error::internal)?.slice(0, kinds.len());
    let rows = if spec.kind == PageKind::Newest {
        kinds.reverse();
        let backwards: UInt64Array = (0..rows.num_rows() as u64).rev().collect();
        take_record_batch(&rows, &backwards).map_err(Error::internal)?
    } else {
        rows
    };
    let last = kinds.last().map(|(seq, _)| *seq);
    Ok(LivePage { rows, kinds: kinds.into_iter().map(|(_, kind)| kind).collect(), last, has_more })
}

struct Chunks<'a> {
    query: &'a dyn LiveQuery,
    kind: PageKind,
    rows: Box<dyn Iterator<Item = Result<(Owner, StoredRow)>> + Send>,
    builder: BatchBuilder,
}

/// A row's position, and what its subscriber is told it is.
type Told = (Seq, ChangeKind);

/// What of a stored row decides which event it is.
struct RowState {
    seq: Seq,
    created: Seq,
    deleted: bool,
}

impl<'a> Chunks<'a> {
    fn new(query: &'a dyn LiveQuery, view: &ReadView, spec: &PageSpec) -> Self {
        let table = query.table();
        let order = if spec.kind == PageKind::Newest { Order::Descending } else { Order::Ascending };
        let builder = if query.all_owners() { BatchBuilder::all_owners } else { BatchBuilder::new };
        let builder = builder(table.clone(), None);
        let rows: Box<dyn Iterator<Item = _> + Send> = if spec.seqs.is_empty() {
            Box::new(std::iter::empty())
        } else if query.all_owners() {
            Box::new(view.feed(table.id, spec.seqs.clone(), order))
        } else {
            let owner = spec.owner.clone();
            let key = PartitionKey { table: table.id, owner: owner.clone() };
            Box::new(view.scan(&key, spec.seqs.clone(), order).map(move |row| row.map(|row| (owner.clone(), row))))
        };
        Self { query, kind: spec.kind, rows, builder }
    }

    /// The next rows that belong to the page, projected; `None` at the end of the range.
    fn next(&mut self) -> Result<Option<(RecordBatch, Vec<Told>)>> {
        let mut states = Vec::new();
        while states.len() < CHUNK_ROWS {
            let Some(row) = self.rows.next() else { break };
            let (owner, stored) = row?;
            if stored.deleted && !matches!(self.kind, PageKind::ChangesAfter(from) if stored.created <= from) {
                // Hidden; or made and deleted behind the subscriber's back: there is nothing to tell.
                continue;
            }
            self.builder.push(&owner, &stored)?;
            states.push(RowState { seq: stored.seq, created: stored.created, deleted: stored.deleted });
        }
        if states.is_empty() {
            return Ok(None);
        }
        let rows = self.builder.finish()?;
        let matching = self.query.matches(&rows)?;
        let told: Vec<Option<ChangeKind>> =
            states.iter().zip(matching.values()).map(|(state, matching)| self.told_as(state, matching)).collect();
        let mask: BooleanArray = told.iter().map(|kind| Some(kind.is_some())).collect();
        let rows = filter_record_batch(&rows, &mask).map_err(Error::internal)?;
        let kinds = states.iter().zip(told).filter_map(|(state, kind)| Some((state.seq, kind?))).collect();
        Ok(Some((self.query.project(&rows)?, kinds)))
    }

    fn told_as(&self, state: &RowState, matching: bool) -> Option<ChangeKind> {
        let PageKind::ChangesAfter(from) = self.kind else { return matching.then_some(ChangeKind::Insert) };
        let known = state.created <= from;
        match (matching && !state.deleted, known) {
            (true, false) => Some(ChangeKind::Insert),
            (true, true) => Some(ChangeKind::Update),
            // Gone, or moved out of the filter: an earlier version may have been in it.
            (false, true) => Some(ChangeKind::Delete),
            (false, false) => None,
        }
    }
}
