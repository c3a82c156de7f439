//! One subscription's state: loading, replaying, live.
//!
//! Owns the order in which a subscriber is told things: acknowledgement, initial rows, what changed meanwhile, live
//! events. Holds live events back until it is their turn, within a bound.
//! Never performs I/O: it says which page to read and is handed the page; `now` comes in.
//! Invariants: LQ-1 (through [`Merge`]), LQ-5 (what is held back is bounded: beyond, SLOW_CONSUMER).
//! Start at [`Subscription::opened`].

use std::collections::VecDeque;
use std::sync::Arc;

use super::LiveEvent;
use super::change_batch::Known;
use super::encoding::Tail;
use super::frames::{BatchControl, SubscribeOptions};
use super::outbox::OutboxLimits;
use super::pages::{ChangesPage, Page, PageRequest, RowsPage};
use super::position::Position;
use super::resume::{Merge, OutOfOrder};
use crate::error::{Error, SubscriptionFault};
use crate::model::Seq;

pub(crate) const DEFAULT_BATCH: u32 = 1_000;
pub(crate) const MAX_BATCH: u32 = 10_000;

/// A load that does not go on for this long gives up its view, which keeps old versions of rows from going away.
const PAGE_WAIT_US: i64 = 60_000_000;
/// No load or replay keeps its view longer than this.
pub(super) const VIEW_LIFE_US: i64 = 15 * 60_000_000;

/// What comes first, as the client's options ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing: only changes from now on.
    Changes,
    /// All rows, in batches.
    Load { batch: usize },
    /// The newest rows, in one batch.
    Newest { rows: usize },
    /// What changed above a position. `at_least`: the client may have heard more than that.
    Resume { from: Seq, at_least: bool },
    /// An unfinished load goes on to its end; then what changed above that.
    Continue { from: Seq, end: Seq, batch: usize },
}

impl Start {
    pub fn of(options: Option<&SubscribeOptions>) -> Start {
        // A map names tables: of which one this is about is known when it is opened.
        let from = options.and_then(|options| options.from.as_ref()).map(|from| from.seq().unwrap_or(Seq::ZERO));
        Self::with_from(options, from, false)
    }

    /// What comes first of this table, for a client that stands at `from`, or further where it says so.
    pub fn of_table(options: Option<&SubscribeOptions>, from: Option<&(Position, bool)>, table: &str) -> Start {
        let at_least = from.is_some_and(|(_, at_least)| *at_least);
        Self::with_from(options, from.map(|(from, _)| from.of(table)), at_least)
    }

    fn with_from(options: Option<&SubscribeOptions>, from: Option<Seq>, at_least: bool) -> Start {
        let Some(options) = options else { return Start::Changes };
        let size = |asked: u32| usize::try_from(asked.clamp(1, MAX_BATCH)).unwrap_or(1);
        let batch = size(options.batch_size.unwrap_or(DEFAULT_BATCH));
        match (from, options.snapshot_end_seq, options.last_rows) {
            (Some(from), Some(end), _) if end > from => Start::Continue { from, end, batch },
            (Some(from), _, _) => Start::Resume { from, at_least },
            (None, _, Some(0)) => Start::Newest { rows: 0 },
            (None, _, Some(rows)) => Start::Newest { rows: size(rows) },
            (None, _, None) => Start::Load { batch },
        }
    }

    /// Do its rows come in batches that the client asks for?
    pub fn loads(self) -> bool {
        matches!(self, Start::Load { .. } | Start::Newest { .. } | Start::Continue { .. })
    }

    /// The position that the client says it knows.
    pub fn from(self) -> Option<Seq> {
        match self {
            Start::Resume { from, .. } | Start::Continue { from, .. } => Some(from),
            Start::Changes | Start::Load { .. } | Start::Newest { .. } => None,
        }
    }

    /// What to read of a view that ends at `cut` before the subscription is acknowledged.
    pub fn first_page(self, cut: Seq) -> Option<PageRequest> {
        match self {
            Start::Changes => None,
            Start::Load { batch } => Some(PageRequest::Rows { after: Seq::ZERO, until: cut, limit: batch }),
            Start::Newest { rows } => Some(PageRequest::Newest { until: cut, limit: rows }),
            Start::Resume { from, at_least } => {
                let known = Known { upto: from, perhaps_more: at_least };
                Some(PageRequest::Changes { after: from.min(cut), until: cut, known })
            }
            Start::Continue { from, end, batch } => {
                Some(PageRequest::Rows { after: from, until: end.min(cut), limit: batch })
            }
        }
    }
}

/// What to do for a subscription, in this order.
#[derive(Debug)]
pub enum Step {
    Ack(BatchControl),
    /// `rows`: the list of rows; `None` is an empty one. `reached`: everything up to here is told with it.
    Batch {
        rows: Option<Tail>,
        control: BatchControl,
        reached: Option<Seq>,
    },
    Change(Arc<LiveEvent>),
    /// Read this page and hand it to [`Subscription::page`].
    Fetch(PageRequest),
    /// The view is not needed any more.
    ReleaseView,
}

#[derive(Debug)]
pub struct Subscription {
    merge: Merge,
    /// Position of the last row or change that went out.
    delivered: Option<Seq>,
    /// Until it is live; most are, and have no memory for it.
    beginning: Option<Box<Beginning>>,
}

/// What there is of a subscription until it is live.
#[derive(Debug)]
struct Beginning {
    start: Start,
    phase: Phase,
    held: Held,
    /// When the view was opened, and when it was last asked for a page.
    opened_at: i64,
    asked_at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Loading(Load),
    Replaying { after: Seq, known: Known, fetching: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Load {
    batch_num: u32,
    after: Seq,
    last: Option<Seq>,
    /// A page is being read.
    fetching: bool,
    /// The client asked for another one meanwhile.
    asked_again: bool,
}

/// Live events whose turn has not come.
#[derive(Debug)]
struct Held {
    events: VecDeque<Arc<LiveEvent>>,
    bytes: usize,
    limits: OutboxLimits,
}

impl Subscription {
    pub fn new(start: Start, held: OutboxLimits, now_us: i64) -> Self {
        let held = Held { events: VecDeque::new(), bytes: 0, limits: held };
        let beginning = Beginning { start, phase: Phase::Opening, held, opened_at: now_us, asked_at: now_us };
        Self { merge: Merge::new(Seq::ZERO, Seq::ZERO), delivered: None, beginning: Some(Box::new(beginning)) }
    }

    /// What it begins with, where that is known only now.
    pub fn begin_with(&mut self, start: Start) {
        if let Some(beginning) = &mut self.beginning {
            beginning.start = start;
        }
    }

    /// Is everything told but what happens from now on?
    pub fn is_live(&self) -> bool {
        self.beginning.is_none()
    }

    /// `opening`, `loading`, `replaying` or `live`.
    pub fn phase(&self) -> &'static str {
        match self.beginning.as_ref().map(|beginning| beginning.phase) {
            Some(Phase::Opening) => "opening",
            Some(Phase::Loading(_)) => "loading",
            Some(Phase::Replaying { .. }) => "replaying",
            None => "live",
        }
    }

    /// Everything up to here has been handed on.
    pub fn told(&self) -> Seq {
        self.merge.told()
    }

    /// Events and bytes that are held back.
    pub fn held(&self) -> (usize, usize) {
        self.beginning.as_ref().map_or((0, 0), |beginning| (beginning.held.events.len(), beginning.held.bytes))
    }

    /// What was held back, for whoever goes on with it.
    pub fn into_held(self) -> impl Iterator<Item = Arc<LiveEvent>> {
        self.beginning.into_iter().flat_map(|beginning| beginning.held.events)
    }

    /// It is attached, with a view that ends at `cut`; `first` is what [`Start::first_page`] asked for.
    ///
    /// # Errors
    /// `INTERNAL` where the page is another one, or out of order.
    pub fn opened(&mut self, cut: Seq, first: Option<Page>, now_us: i64) -> Result<Vec<Step>, Error> {
        let beginning = self.beginning.as_mut().ok_or_else(|| Error::internal("a subscription was opened twice"))?;
        (beginning.opened_at, beginning.asked_at) = (now_us, now_us);
        let mut steps = Vec::new();
        match (beginning.start, first) {
            (Start::Changes, None) => {
                self.merge = Merge::new(cut, cut);
                self.delivered = Some(cut);
                // The position lets a client resume from here though it has seen no change yet.
                steps.push(Step::Ack(BatchControl::new(0, false, Some(cut), None)));
                self.go_live(&mut steps)?;
            }
            (Start::Resume { from, at_least }, Some(Page::Changes(page))) => {
                let known = Known { upto: from, perhaps_more: at_least };
                beginning.phase = Phase::Replaying { after: from.min(cut), known, fetching: true };
                self.merge = Merge::new(from, cut);
                // A client may claim more than there is.
                self.delivered = Some(from.min(cut));
                steps.push(Step::Ack(BatchControl::new(0, false, Some(from), None)));
                self.replay(page, &mut steps)?;
            }
            (start, Some(Page::Rows(page))) if start != Start::Changes => {
                self.merge = Merge::new(Seq::ZERO, cut);
                self.delivered = start.from();
                let load =
                    Load { batch_num: 0, after: Seq::ZERO, last: start.from(), fetching: true, asked_again: false };
                let end = load_end(start, self.merge);
                steps.push(Step::Ack(BatchControl::new(0, page.more, page.last.or(load.last), Some(end))));
                self.load(load, page, &mut steps)?;
            }
            _ => return Err(Error::internal("a subscription opened with a page it did not ask for")),
        }
        Ok(steps)
    }

    /// The client asks for the next batch. Its own idea of the position is not used: JavaScript rounds it.
    pub fn next_batch(&mut self, now_us: i64) -> Result<Vec<Step>, Error> {
        let Some(beginning) = &mut self.beginning else { return Ok(Vec::new()) };
        let Phase::Loading(mut load) = beginning.phase else { return Ok(Vec::new()) };
        let mut steps = Vec::new();
        beginning.asked_at = now_us;
        if load.fetching {
            load.asked_again = true;
            beginning.phase = Phase::Loading(load);
        } else if matches!(beginning.start, Start::Newest { .. }) {
            // The newest rows are one batch; what the client waits for is the word that no more follow.
            let end = load_end(beginning.start, self.merge);
            let control = BatchControl::new(load.batch_num + 1, false, load.last, Some(end));
            steps.push(Step::Batch { rows: None, control, reached: Some(end) });
            self.loaded(&mut steps)?;
        } else {
            steps.push(Step::Fetch(beginning.fetch_rows(load, self.merge)));
        }
        Ok(steps)
    }

    /// A page that a [`Step::Fetch`] asked for.
    ///
    /// # Errors
    /// `INTERNAL` where it is out of order.
    pub fn page(&mut self, page: Page) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        match (self.beginning.as_ref().map(|beginning| beginning.phase), page) {
            (Some(Phase::Loading(mut load)), Page::Rows(page)) => {
                load.batch_num += 1;
                self.load(load, page, &mut steps)?;
            }
            (Some(Phase::Replaying { .. }), Page::Changes(page)) => self.replay(page, &mut steps)?,
            _ => return Err(Error::internal("a subscription was handed a page it did not ask for")),
        }
        Ok(steps)
    }

    /// The session has sent all it had: a replay reads on.
    pub fn has_room(&mut self, now_us: i64) -> Option<PageRequest> {
        let beginning = self.beginning.as_mut()?;
        let Phase::Replaying { after, known, fetching: false } = beginning.phase else { return None };
        beginning.phase = Phase::Replaying { after, known, fetching: true };
        beginning.asked_at = now_us;
        Some(PageRequest::Changes { after, until: self.merge.cut(), known })
    }

    /// A live event: gives it back when it is to be told now.
    ///
    /// # Errors
    /// `SLOW_CONSUMER` where more would have to be held back than allowed; `INTERNAL` where it is out of order.
    pub fn event(&mut self, event: Arc<LiveEvent>) -> Result<Option<Arc<LiveEvent>>, Error> {
        let Some(beginning) = &mut self.beginning else {
            return Ok(self.merge.live(event.seq).map_err(fault)?.then_some(event));
        };
        let is_double = beginning.phase != Phase::Opening && self.merge.is_double(event.seq);
        if !is_double && !beginning.held.push(event) {
            return Err(SubscriptionFault::SlowConsumer { last_delivered: self.delivered }.into());
        }
        Ok(None)
    }

    /// A row or change at `seq` went out.
    pub fn sent(&mut self, seq: Seq) {
        self.delivered = Some(seq);
    }

    /// What a SLOW_CONSUMER error names: coming back with it as `from` misses nothing.
    pub fn last_delivered(&self) -> Option<Seq> {
        self.delivered
    }

    /// Does it need its view longer than a view may live?
    pub fn expired(&self, now_us: i64) -> Option<SubscriptionFault> {
        let Beginning { phase, opened_at, asked_at, .. } = **self.beginning.as_ref()?;
        let waits = match phase {
            Phase::Opening => return None,
            Phase::Loading(load) => !load.fetching,
            Phase::Replaying { fetching, .. } => !fetching,
        };
        let too_late = now_us - opened_at > VIEW_LIFE_US || waits && now_us - asked_at > PAGE_WAIT_US;
        if !too_late {
            return None;
        }
        Some(match phase {
            // The server sets the pace of a replay: if it stands still, the client does not read.
            Phase::Replaying { .. } => SubscriptionFault::SlowConsumer { last_delivered: self.delivered },
            _ => SubscriptionFault::BatchFetchFailed(
                "The initial load took too long; subscribe again with \"from\" and \"snapshot_end_seq\"".into(),
            ),
        })
    }

    fn load(&mut self, mut load: Load, page: RowsPage, steps: &mut Vec<Step>) -> Result<(), Error> {
        let Some(beginning) = &mut self.beginning else { return Ok(()) };
        load.last = page.last.or(load.last);
        load.after = page.last.unwrap_or(load.after);
        let end = load_end(beginning.start, self.merge);
        let control = BatchControl::new(load.batch_num, page.more, load.last, Some(end));
        // With the last batch, the load's end: rows above the last one may have gone before the view was opened.
        let reached = if page.more { load.last } else { Some(end) };
        steps.push(Step::Batch { rows: Some(page.rows), control, reached });
        if !page.more {
            return self.loaded(steps);
        }
        load.fetching = false;
        beginning.phase = Phase::Loading(load);
        if std::mem::take(&mut load.asked_again) {
            steps.push(Step::Fetch(beginning.fetch_rows(load, self.merge)));
        }
        Ok(())
    }

    fn loaded(&mut self, steps: &mut Vec<Step>) -> Result<(), Error> {
        if let Some(beginning) = &mut self.beginning
            && let Start::Continue { from, end, .. } = beginning.start
            && end < self.merge.cut()
        {
            // Rows that changed after the load's end were not in its pages: the replay above it tells them.
            beginning.phase = Phase::Replaying { after: end, known: from.into(), fetching: false };
            self.merge = Merge::new(end, self.merge.cut());
            return Ok(());
        }
        self.merge.replay_done();
        steps.push(Step::ReleaseView);
        self.go_live(steps)
    }

    fn replay(&mut self, page: ChangesPage, steps: &mut Vec<Step>) -> Result<(), Error> {
        let Some(beginning) = &mut self.beginning else { return Ok(()) };
        let Phase::Replaying { known, .. } = beginning.phase else { return Ok(()) };
        for event in page.events {
            self.merge.replayed(event.seq).map_err(fault)?;
            steps.push(Step::Change(event));
        }
        if page.reached < self.merge.cut() {
            beginning.phase = Phase::Replaying { after: page.reached, known, fetching: false };
            return Ok(());
        }
        self.merge.replay_done();
        steps.push(Step::ReleaseView);
        self.go_live(steps)
    }

    fn go_live(&mut self, steps: &mut Vec<Step>) -> Result<(), Error> {
        for event in self.beginning.take().into_iter().flat_map(|beginning| beginning.held.events) {
            if self.merge.live(event.seq).map_err(fault)? {
                steps.push(Step::Change(event));
            }
        }
        Ok(())
    }
}

impl Beginning {
    fn fetch_rows(&mut self, mut load: Load, merge: Merge) -> PageRequest {
        let batch = match self.start {
            Start::Load { batch } | Start::Continue { batch, .. } => batch,
            Start::Changes | Start::Newest { .. } | Start::Resume { .. } => 1,
        };
        load.fetching = true;
        load.asked_again = false;
        self.phase = Phase::Loading(load);
        PageRequest::Rows { after: load.after, until: load_end(self.start, merge), limit: batch }
    }
}

/// Where the load ends: what clients know as `snapshot_end_seq`.
fn load_end(start: Start, merge: Merge) -> Seq {
    match start {
        Start::Continue { end, .. } => end.min(merge.cut()),
        _ => merge.cut(),
    }
}

impl Held {
    /// Says whether there was room.
    fn push(&mut self, event: Arc<LiveEvent>) -> bool {
        let bytes = self.bytes + event.weight();
        if self.events.len() >= self.limits.events || bytes > self.limits.bytes {
            return false;
        }
        self.bytes = bytes;
        self.events.push_back(event);
        true
    }
}

fn fault(fault: OutOfOrder) -> Error {
    Error::internal(fault)
}

#[cfg(test)]
mod tests;
