//! One subscription over all tables of a namespace: `SELECT … FROM ns.*`.
//!
//! Owns which of its tables is loaded or replayed when, and what the whole tells of itself: one acknowledgement, one
//! count of batches, `ready` when the last table is. Each table is a [`Subscription`] of its own, so that the order of its
//! `_seq`, and LQ-1, hold in each. Between tables there is no order: `_seq` is a table's own.
//! Never performs I/O. Invariant: LQ-5, what all tables hold back together is bounded as one subscription's is.
//! Start at [`NamespaceFeed::opened`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::LiveEvent;
use super::frames::BatchControl;
use super::outbox::OutboxLimits;
use super::pages::{Page, PageRequest};
use super::subscription::{Start, Step, Subscription, VIEW_LIFE_US};
use crate::error::{Error, SubscriptionFault};
use crate::model::{Seq, TableId};

/// A table that is attached, and where its part begins.
#[derive(Debug)]
pub struct FeedTable {
    pub id: TableId,
    /// As `_table` has it.
    pub name: String,
    pub start: Start,
    /// Where its view ends; without one, the head at attaching.
    pub cut: Seq,
}

/// A table that went out of the feed.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftTable {
    pub name: String,
    /// Everything of it up to here was told. `None`: its load or replay had not ended.
    pub told: Option<Seq>,
}

pub type TableStep = (TableId, Step);

#[derive(Debug)]
pub struct NamespaceFeed {
    /// In the order in which they are loaded.
    parts: Vec<Part>,
    held: OutboxLimits,
    batches: u32,
    /// The client asked for a batch while the next table's first was being read.
    asked_again: bool,
    opened_at: i64,
    /// Tables on their way in, and what came of them before they were here.
    joining: usize,
    strays: Vec<Arc<LiveEvent>>,
}

#[derive(Debug)]
struct Part {
    table: FeedTable,
    stage: Stage,
    subscription: Subscription,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Others come first.
    Waiting,
    /// Its first page is being read.
    Asked,
    Open,
}

impl Part {
    fn new(table: FeedTable, stage: Stage, held: OutboxLimits, now_us: i64) -> Self {
        let subscription = Subscription::new(table.start, held, now_us);
        Self { table, stage, subscription }
    }

    fn is_live(&self) -> bool {
        self.subscription.is_live()
    }

    /// Is the client to ask for batches of it?
    fn loads(&self) -> bool {
        !self.is_live() && self.table.start.loads()
    }

    fn delivered(&self) -> Seq {
        self.subscription.last_delivered().or(self.table.start.from()).unwrap_or(Seq::ZERO)
    }
}

impl NamespaceFeed {
    /// All tables are attached; `first` is the first page of the first one, where its start asks for one. `early`: what
    /// was delivered meanwhile.
    ///
    /// # Errors
    /// `SLOW_CONSUMER` where too much came meanwhile, `INTERNAL` where the page is another one.
    pub fn opened(
        tables: Vec<FeedTable>,
        first: Option<Page>,
        early: impl IntoIterator<Item = Arc<LiveEvent>>,
        held: OutboxLimits,
        now_us: i64,
    ) -> Result<(Self, BatchControl, Vec<TableStep>), Error> {
        let parts = tables.into_iter().map(|table| Part::new(table, Stage::Waiting, held, now_us)).collect();
        let mut feed =
            Self { parts, held, batches: 0, asked_again: false, opened_at: now_us, joining: 0, strays: Vec::new() };
        for event in early {
            feed.event(event)?;
        }
        let mut steps = Vec::new();
        for at in 0..feed.parts.len() {
            if feed.parts[at].table.start == Start::Changes {
                steps.extend(feed.open(at, None, now_us)?);
            }
        }
        if let (Some(first), false) = (first, feed.parts.is_empty()) {
            steps.extend(feed.open(0, Some(first), now_us)?);
        }
        let more = feed.parts.iter().any(Part::loads);
        Ok((feed, BatchControl::new(0, more, None, None), steps))
    }

    /// A page of one of its tables. One of a table that has left is nothing.
    ///
    /// # Errors
    /// `INTERNAL` where the page is another one.
    pub fn page(&mut self, table: TableId, page: Page, now_us: i64) -> Result<Vec<TableStep>, Error> {
        let Some(at) = self.position(table) else { return Ok(Vec::new()) };
        if self.parts[at].stage != Stage::Asked {
            let steps = self.parts[at].subscription.page(page)?;
            return Ok(self.translated(at, steps));
        }
        let mut steps = self.open(at, Some(page), now_us)?;
        if std::mem::take(&mut self.asked_again) {
            steps.extend(self.next_batch(now_us)?);
        }
        Ok(steps)
    }

    /// The client asks for the next batch: of the table whose load has not ended, or the first of the next table.
    ///
    /// # Errors
    /// `INTERNAL` where a table is out of order.
    pub fn next_batch(&mut self, now_us: i64) -> Result<Vec<TableStep>, Error> {
        let Some(at) = self.parts.iter().position(Part::loads) else { return Ok(Vec::new()) };
        match self.parts[at].stage {
            Stage::Open => {
                let steps = self.parts[at].subscription.next_batch(now_us)?;
                Ok(self.translated(at, steps))
            }
            Stage::Waiting => Ok(self.ask(at).map(|(table, page)| (table, Step::Fetch(page))).into_iter().collect()),
            Stage::Asked => {
                self.asked_again = true;
                Ok(Vec::new())
            }
        }
    }

    /// The session has sent all it had: a replay reads on, of one table after the other.
    pub fn has_room(&mut self, now_us: i64) -> Option<(TableId, PageRequest)> {
        for at in 0..self.parts.len() {
            let part = &mut self.parts[at];
            match part.stage {
                Stage::Open if part.is_live() => {}
                Stage::Open => {
                    if let Some(page) = part.subscription.has_room(now_us) {
                        return Some((part.table.id, page));
                    }
                }
                // A load's next table begins when the client asks.
                Stage::Asked | Stage::Waiting if part.table.start.loads() => {}
                Stage::Asked => return None,
                Stage::Waiting => return self.ask(at),
            }
        }
        None
    }

    /// A live event: gives it back when it is to be told now.
    ///
    /// # Errors
    /// `SLOW_CONSUMER` where more would have to be held back than allowed; `INTERNAL` where it is out of order.
    pub fn event(&mut self, event: Arc<LiveEvent>) -> Result<Option<Arc<LiveEvent>>, Error> {
        let Some(at) = self.position(event.table) else {
            if self.joining > 0 {
                self.strays.push(event);
                self.check_held()?;
            }
            return Ok(None);
        };
        let part = &mut self.parts[at];
        if part.is_live() {
            return part.subscription.event(event);
        }
        let told = part.subscription.event(event)?;
        self.check_held()?;
        Ok(told)
    }

    /// A table is on its way in: what comes of one that is not known waits for it.
    pub fn joins(&mut self) {
        self.joining += 1;
    }

    /// What was on its way is here, or does not come.
    ///
    /// # Errors
    /// `SLOW_CONSUMER`, `INTERNAL`.
    pub fn joined(&mut self, table: Option<(FeedTable, Page)>, now_us: i64) -> Result<Vec<TableStep>, Error> {
        self.joining = self.joining.saturating_sub(1);
        let mut steps = Vec::new();
        if let Some((table, page)) = table
            && self.position(table.id).is_none()
        {
            let id = table.id;
            self.parts.push(Part::new(table, Stage::Asked, self.held, now_us));
            let (own, others) = std::mem::take(&mut self.strays).into_iter().partition(|event| event.table == id);
            self.strays = others;
            let own: Vec<_> = own;
            for event in own {
                self.event(event)?;
            }
            steps = self.open(self.parts.len() - 1, Some(page), now_us)?;
        }
        if self.joining == 0 {
            self.strays = Vec::new();
        }
        Ok(steps)
    }

    /// A table goes out of the feed. A client that waits for a batch of it gets an empty one.
    pub fn left(&mut self, table: TableId) -> Option<(LeftTable, Vec<TableStep>)> {
        let at = self.position(table)?;
        let part = self.parts.remove(at);
        let mut steps = Vec::new();
        if part.loads() && part.stage != Stage::Waiting {
            steps.push((table, Step::Batch { rows: None, control: self.control(false), reached: None }));
        }
        let told = part.is_live().then(|| part.subscription.told());
        Some((LeftTable { name: part.table.name, told }, steps))
    }

    /// A row or change of a table went out.
    pub fn sent(&mut self, table: TableId, seq: Seq) {
        if let Some(at) = self.position(table) {
            self.parts[at].subscription.sent(seq);
        }
    }

    /// Where each table stands by what went out: coming back with it misses nothing.
    pub fn delivered(&self) -> BTreeMap<String, Seq> {
        self.parts.iter().map(|part| (part.table.name.clone(), part.delivered())).collect()
    }

    /// The same, by table.
    pub fn delivered_of(&self) -> impl Iterator<Item = (TableId, &str, Seq)> {
        self.parts.iter().map(|part| (part.table.id, part.table.name.as_str(), part.delivered()))
    }

    /// Where each table stands once the acknowledged beginning has been told.
    pub fn begins_at(&self) -> BTreeMap<String, Seq> {
        let of = |part: &Part| match part.table.start.from() {
            Some(from) => from.min(part.table.cut),
            None => part.table.cut,
        };
        self.parts.iter().map(|part| (part.table.name.clone(), of(part))).collect()
    }

    pub fn has_table(&self, table: TableId) -> bool {
        self.position(table).is_some()
    }

    /// Are all its tables live?
    pub fn is_live(&self) -> bool {
        self.parts.iter().all(Part::is_live)
    }

    /// That of the table which is not live yet.
    pub fn phase(&self) -> &'static str {
        let busy = self.parts.iter().find(|part| !part.is_live());
        busy.map_or("live", |part| part.subscription.phase())
    }

    /// Events and bytes that are held back.
    pub fn held(&self) -> (usize, usize) {
        let strays = (self.strays.len(), self.strays.iter().map(|event| event.weight()).sum::<usize>());
        self.parts.iter().map(|part| part.subscription.held()).fold(strays, |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// Does it need its view longer than a view may live?
    pub fn expired(&self, now_us: i64) -> Option<SubscriptionFault> {
        if self.is_live() {
            return None;
        }
        if now_us - self.opened_at > VIEW_LIFE_US {
            return Some(SubscriptionFault::SlowFeed { positions: self.delivered() });
        }
        let expired = self.parts.iter().find_map(|part| part.subscription.expired(now_us))?;
        Some(match expired {
            SubscriptionFault::SlowConsumer { .. } => SubscriptionFault::SlowFeed { positions: self.delivered() },
            other => other,
        })
    }

    fn position(&self, table: TableId) -> Option<usize> {
        self.parts.iter().position(|part| part.table.id == table)
    }

    fn ask(&mut self, at: usize) -> Option<(TableId, PageRequest)> {
        let part = &mut self.parts[at];
        let page = part.table.start.first_page(part.table.cut)?;
        part.stage = Stage::Asked;
        Some((part.table.id, page))
    }

    fn open(&mut self, at: usize, first: Option<Page>, now_us: i64) -> Result<Vec<TableStep>, Error> {
        let part = &mut self.parts[at];
        part.stage = Stage::Open;
        let steps = part.subscription.opened(part.table.cut, first, now_us)?;
        Ok(self.translated(at, steps))
    }

    /// What a table's own subscription says, as the whole says it.
    fn translated(&mut self, at: usize, steps: Vec<Step>) -> Vec<TableStep> {
        let table = self.parts[at].table.id;
        let mut translated = Vec::with_capacity(steps.len());
        for step in steps {
            let step = match step {
                // The whole has been acknowledged.
                Step::Ack(_) => continue,
                Step::Batch { rows, control, reached } => {
                    Step::Batch { rows, control: self.control(control.has_more), reached }
                }
                other => other,
            };
            translated.push((table, step));
        }
        translated
    }

    /// Of the next batch; `more`: of its own table.
    fn control(&mut self, more: bool) -> BatchControl {
        let more = more || self.parts.iter().any(Part::loads);
        let control = BatchControl::new(self.batches, more, None, None);
        self.batches += 1;
        control
    }

    fn check_held(&self) -> Result<(), Error> {
        let (events, bytes) = self.held();
        if events > self.held.events || bytes > self.held.bytes {
            return Err(SubscriptionFault::SlowFeed { positions: self.delivered() }.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
