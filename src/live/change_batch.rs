//! Committed changes, and what they are to a query: which events, with which rows.
//!
//! Owns A8 (an update across the edge of the filter is a delete or an insert) and A9 (what each kind of event carries),
//! for changes as they happen and for changes read back by a resume. A query whose filter mentions `_deleted` sees a delete as
//! the update that it is there.
//! Never sends anything, never reads storage.
//! Start at [`events`] and [`replayed_events`].

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::LiveQuery;
use super::encoding::Formats;
use super::event::{EventKind, LiveEvent};
use super::rows::{LiveRows, as_tombstones, holds, seqs, take, tombstones};
use crate::error::{Error, Result};
use crate::model::{ChangeKind, Seq, TableId};

/// The changes of one commit as a query sees them.
#[derive(Debug, Clone)]
pub struct ChangeBatch {
    seqs: Vec<Seq>,
    kinds: Vec<ChangeKind>,
    new: RecordBatch,
    old: Option<RecordBatch>,
}

impl ChangeBatch {
    /// `new`: one row per change, as it is stored at the change's `_seq` (of a delete the tombstone). `old`: the versions
    /// that the updates and deletes replace, in the same order; `None` where all are inserts. Both have the full schema
    /// of the table, or of all owners for queries over all owners.
    ///
    /// # Errors
    /// `INTERNAL` where the rows do not fit the kinds, or `_seq` does not increase.
    pub fn new(kinds: Vec<ChangeKind>, new: RecordBatch, old: Option<RecordBatch>) -> Result<Self> {
        let replaced = kinds.iter().filter(|kind| **kind != ChangeKind::Insert).count();
        if new.num_rows() != kinds.len() || old.as_ref().map_or(0, RecordBatch::num_rows) != replaced {
            return Err(Error::internal("a change batch whose rows do not fit its kinds"));
        }
        let seqs = seqs(&new)?;
        if !seqs.is_sorted_by(|a, b| a < b) {
            return Err(Error::internal("a change batch out of order"));
        }
        Ok(Self { seqs, kinds, new, old })
    }

    /// Of the changes, those at these places, which ascend. All of them are not copied.
    ///
    /// # Errors
    /// `INTERNAL` where there is no such place.
    pub(super) fn only(&self, places: &[usize]) -> Result<Cow<'_, Self>> {
        if places.len() == self.kinds.len() {
            return Ok(Cow::Borrowed(self));
        }
        let mut old_rows = Vec::new();
        let (mut kinds, mut seqs) = (Vec::with_capacity(places.len()), Vec::with_capacity(places.len()));
        let (mut replaced, mut wanted) = (0, places.iter().peekable());
        for (place, kind) in self.kinds.iter().enumerate() {
            let is_wanted = wanted.next_if(|next| **next == place).is_some();
            if is_wanted {
                kinds.push(*kind);
                seqs.push(self.seqs[place]);
            }
            if *kind != ChangeKind::Insert {
                if is_wanted {
                    old_rows.push(position(replaced));
                }
                replaced += 1;
            }
        }
        let rows: Vec<u32> = places.iter().map(|place| position(*place)).collect();
        let old = self.old.as_ref().filter(|_| !old_rows.is_empty()).map(|old| take(old, &old_rows)).transpose()?;
        Ok(Cow::Owned(Self { seqs, kinds, new: take(&self.new, &rows)?, old }))
    }

    pub fn kinds(&self) -> &[ChangeKind] {
        &self.kinds
    }

    /// One row per change.
    pub fn rows(&self) -> &RecordBatch {
        &self.new
    }

    /// The versions that updates and deletes replace, in their order.
    pub fn replaced(&self) -> Option<&RecordBatch> {
        self.old.as_ref()
    }

    /// Position of the last change.
    pub fn last(&self) -> Option<Seq> {
        self.seqs.last().copied()
    }
}

/// What the changes are to `query`, in `_seq` order. A change that it does not see gives no event.
///
/// # Errors
/// `EXECUTION` where the query can not be computed on one of the rows.
pub fn events(query: &dyn LiveQuery, batch: &ChangeBatch, formats: Formats) -> Result<Vec<Arc<LiveEvent>>> {
    let is = query.matches(&batch.new)?;
    let was = batch.old.as_ref().map(|old| query.matches(old)).transpose()?;

    let mut plan = Plan::default();
    let mut old_row = 0;
    for (row, kind) in batch.kinds.iter().enumerate() {
        let there = *kind != ChangeKind::Delete || query.sees_tombstones();
        let is = there && holds(&is, row);
        let was = *kind != ChangeKind::Insert && was.as_ref().is_some_and(|was| holds(was, old_row));
        match (was, is) {
            (false, false) => {}
            (false, true) => plan.insert(batch.seqs[row], row),
            (true, true) => plan.update(batch.seqs[row], row, old_row),
            (true, false) => plan.delete(batch.seqs[row], old_row),
        }
        old_row += usize::from(*kind != ChangeKind::Insert);
    }
    // Only rows that match are projected: an expression may not be computable on others.
    let shown = plan.project_shown(query, &batch.new)?;
    let (mut previous, mut gone) = (None, None);
    if let Some(old) = &batch.old {
        previous = project(query, old, &plan.previous)?;
        if !plan.gone.is_empty() {
            let rows = take(old, &plan.gone)?;
            gone = Some(match query.table().is_stream() {
                true => LiveRows::names(query, &rows, &self::seqs(&rows)?, plan.gone_seqs())?,
                false => LiveRows::project(query, &as_tombstones(&rows, plan.gone_seqs())?)?,
            });
        }
    }
    encode(query.table().id, &plan.told, &EventRows { shown, previous, gone }, formats)
}

/// Rows read back from storage, tombstones included, ascending.
#[derive(Debug, Clone)]
pub struct StoredRows {
    /// The full schema of the table, or of all owners for queries over all owners.
    pub rows: RecordBatch,
    /// Of each row: `_seq` of the insert that it goes back to.
    pub created: Vec<Seq>,
}

/// What a subscriber has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Everything up to here.
    pub upto: Seq,
    /// And perhaps something above, which it did not acknowledge: then what is gone since must be told all the same.
    pub perhaps_more: bool,
}

impl From<Seq> for Known {
    fn from(upto: Seq) -> Self {
        Self { upto, perhaps_more: false }
    }
}

/// What stored rows are to a subscriber of `query` that was told what `known` says: the last state of each row that
/// changed since.
///
/// # Errors
/// `EXECUTION` where the query can not be computed on one of the rows.
pub fn replayed_events(
    query: &dyn LiveQuery,
    stored: &StoredRows,
    known: Known,
    formats: Formats,
) -> Result<Vec<Arc<LiveEvent>>> {
    let seqs = seqs(&stored.rows)?;
    if stored.created.len() != seqs.len() {
        return Err(Error::internal("stored rows without the position of their insert"));
    }
    let deleted = tombstones(&stored.rows)?;
    let is = query.matches(&stored.rows)?;
    let mut plan = Plan::default();
    for (row, seq) in seqs.iter().enumerate() {
        let existed = stored.created[row] <= known.upto;
        // A version before this one may have been told, unless this is the row's first.
        let may_exist = existed || known.perhaps_more && stored.created[row] < *seq;
        let gone = holds(&deleted, row) && !query.sees_tombstones();
        match (existed, gone, holds(&is, row)) {
            (false, false, true) => plan.insert(*seq, row),
            (true, false, true) => plan.update(*seq, row, row),
            (_, true, true) => plan.delete(*seq, row),
            // The version that the subscriber knows is gone, and it may have matched. A delete too many does no harm.
            (_, _, false) if may_exist => plan.delete(*seq, row),
            (_, _, false) => {}
        }
    }
    let shown = plan.project_shown(query, &stored.rows)?;
    let mut gone = None;
    if !plan.gone.is_empty() {
        let rows = take(&stored.rows, &plan.gone)?;
        gone = Some(match query.table().is_stream() {
            true => {
                let created: Vec<Seq> = plan.gone.iter().map(|row| stored.created[*row as usize]).collect();
                LiveRows::names(query, &rows, &created, plan.gone_seqs())?
            }
            false => LiveRows::project(query, &as_tombstones(&rows, plan.gone_seqs())?)?,
        });
    }
    encode(query.table().id, &plan.told, &EventRows { shown, previous: None, gone }, formats)
}

/// Which rows to project, and which event each becomes. Positions in `told` count within the projected rows.
#[derive(Default)]
struct Plan {
    told: Vec<(Seq, Told)>,
    shown: Vec<u32>,
    previous: Vec<u32>,
    gone: Vec<u32>,
}

enum Told {
    Insert { shown: usize },
    Update { shown: usize, previous: usize },
    Delete { gone: usize },
}

impl Plan {
    fn insert(&mut self, seq: Seq, row: usize) {
        self.told.push((seq, Told::Insert { shown: self.shown.len() }));
        self.shown.push(position(row));
    }

    fn update(&mut self, seq: Seq, row: usize, old_row: usize) {
        self.told.push((seq, Told::Update { shown: self.shown.len(), previous: self.previous.len() }));
        self.shown.push(position(row));
        self.previous.push(position(old_row));
    }

    fn delete(&mut self, seq: Seq, row: usize) {
        self.told.push((seq, Told::Delete { gone: self.gone.len() }));
        self.gone.push(position(row));
    }

    fn gone_seqs(&self) -> Vec<Seq> {
        self.told.iter().filter(|(_, told)| matches!(told, Told::Delete { .. })).map(|(seq, _)| *seq).collect()
    }

    fn project_shown(&self, query: &dyn LiveQuery, rows: &RecordBatch) -> Result<Option<LiveRows>> {
        project(query, rows, &self.shown)
    }
}

fn position(row: usize) -> u32 {
    // A batch of four billion rows does not fit in memory; `take` refuses what is out of range.
    u32::try_from(row).unwrap_or(u32::MAX)
}

fn project(query: &dyn LiveQuery, rows: &RecordBatch, positions: &[u32]) -> Result<Option<LiveRows>> {
    if positions.is_empty() {
        return Ok(None);
    }
    LiveRows::project(query, &take(rows, positions)?).map(Some)
}

struct EventRows {
    shown: Option<LiveRows>,
    /// `None` for replayed changes: the older version is gone, so only its key can be told.
    previous: Option<LiveRows>,
    gone: Option<LiveRows>,
}

fn encode(table: TableId, told: &[(Seq, Told)], rows: &EventRows, formats: Formats) -> Result<Vec<Arc<LiveEvent>>> {
    let missing = || Error::internal("an event without its rows");
    let mut events = Vec::with_capacity(told.len());
    for (seq, told) in told {
        let event = match told {
            Told::Insert { shown } => {
                let row = rows.shown.as_ref().ok_or_else(missing)?.shown(*shown);
                LiveEvent::new((table, *seq, EventKind::Insert), Some(row), None::<()>, formats)
            }
            Told::Update { shown: at, previous: old_at } => {
                let shown = rows.shown.as_ref().ok_or_else(missing)?;
                let (old, columns) = match &rows.previous {
                    Some(previous) => ((previous, *old_at), previous.key_and_changed(*old_at, shown, *at)),
                    None => ((shown, *at), shown.key().to_vec()),
                };
                let old_values = old.0.of_columns(old.1, &columns);
                LiveEvent::new((table, *seq, EventKind::Update), Some(shown.shown(*at)), Some(old_values), formats)
            }
            Told::Delete { gone } => {
                let row = rows.gone.as_ref().ok_or_else(missing)?.gone(*gone);
                LiveEvent::new((table, *seq, EventKind::Delete), None::<()>, Some(row), formats)
            }
        };
        events.push(event?);
    }
    Ok(events)
}

#[cfg(test)]
mod tests;
