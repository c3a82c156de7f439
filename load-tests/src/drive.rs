//! The clients: closed loops for throughput, open loops for latency, and what they tallied.
//!
//! Owns when a request is sent and what of it is counted. Never knows which server it talks to.
//! All clients run on one thread, the same for every server, so a server has the rest of the machine.
//! Invariant: every row that was acknowledged is in `Tally::acknowledged`, those of the warm-up too; only what was
//! done within the measured time is in the figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::pacer::Pacer;
use crate::payload::Payload;
use crate::peers::{BATCH_ROWS, Connection, Failure};
use crate::zipf::{Random, Zipf};

const MOST_LATENCY: Duration = Duration::from_secs(120);
/// How far an open loop may fall behind before it gives up.
const OVERDUE: Duration = Duration::from_secs(10);

/// What every request of a turn does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Insert,
    InsertBatch,
    /// One of the ids from 1 to `rows`.
    Select {
        rows: usize,
    },
    /// The same, or a new one: one of the ids from 1 to twice `rows`.
    Upsert {
        rows: usize,
    },
}

/// Whose mailbox a client addresses.
#[derive(Debug, Clone)]
pub(crate) enum Owners {
    One(usize),
    Zipf(Arc<Zipf>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Phases {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) owners: Owners,
    /// The next id, shared by all clients of a server: ids increase over the whole table.
    pub(crate) ids: Arc<AtomicI64>,
    pub(crate) payload: Arc<Payload>,
    pub(crate) random: Random,
}

pub(crate) struct Tally {
    /// From when it was due (open loop) or sent (closed loop) to its answer, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Requests and rows answered within the measured time.
    pub(crate) requests: u64,
    pub(crate) rows: u64,
    pub(crate) measured: Duration,
    /// Requests and rows answered well at any time, the warm-up included.
    pub(crate) all_requests: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    /// Answers that do not match what is stored.
    pub(crate) wrong: u64,
    /// Requests whose connection broke before the answer: the row may be stored or not.
    pub(crate) unanswered: u64,
    /// Acknowledged messages that a subscriber never received, and such as it received again; where one listened.
    pub(crate) lost: u64,
    pub(crate) doubled: Option<u64>,
    pub(crate) first_failure: Option<String>,
}

impl Tally {
    pub(crate) fn new(measured: Duration) -> Result<Self> {
        let most = u64::try_from(MOST_LATENCY.as_nanos()).context("the longest latency is too long")?;
        Ok(Self {
            latency: Histogram::new_with_bounds(1, most, 3).context("make a histogram")?,
            requests: 0,
            rows: 0,
            measured,
            all_requests: 0,
            acknowledged: 0,
            refused: 0,
            wrong: 0,
            unanswered: 0,
            lost: 0,
            doubled: None,
            first_failure: None,
        })
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Whether the connection is still of use.
    pub(crate) fn fail(&mut self, failure: Failure) -> bool {
        let (count, text, usable) = match failure {
            Failure::Refused(text) => (&mut self.refused, text, true),
            Failure::Wrong(text) => (&mut self.wrong, text, true),
            Failure::Broken(error) => (&mut self.unanswered, format!("{error:#}"), false),
        };
        *count += 1;
        self.first_failure.get_or_insert(text);
        usable
    }

    /// Leaves what the audit needs: for load that is not itself measured.
    pub(crate) fn forget_figures(&mut self) {
        self.latency.reset();
        self.requests = 0;
        self.rows = 0;
    }

    pub(crate) fn add(&mut self, other: Tally) -> Result<()> {
        self.latency.add(&other.latency).context("add histograms")?;
        self.requests += other.requests;
        self.rows += other.rows;
        self.all_requests += other.all_requests;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.wrong += other.wrong;
        self.unanswered += other.unanswered;
        self.lost += other.lost;
        self.doubled = self.doubled.into_iter().chain(other.doubled).reduce(|sum, more| sum + more);
        self.first_failure = self.first_failure.take().or(other.first_failure);
        Ok(())
    }
}

/// A turn's end: the clients are still connected, so that the server's memory can be looked at under them.
pub(crate) struct Finished {
    pub(crate) tally: Tally,
    pub(crate) clients: Vec<Client>,
}

impl Client {
    fn next_owner(&mut self) -> usize {
        match &self.owners {
            Owners::One(owner) => *owner,
            Owners::Zipf(zipf) => zipf.draw(&mut self.random),
        }
    }

    /// Inserts a row that subscribers are told of. Whether it was acknowledged.
    pub(crate) async fn publish(&mut self, body: &str, tally: &mut Tally) -> bool {
        let owner = self.next_owner();
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let published = self.connection.publish(owner, id, body).await;
        tally.acknowledged += u64::from(published.is_ok());
        published.map_err(|failure| tally.fail(failure)).is_ok()
    }

    /// Does one request; tells how many rows it acknowledged.
    pub(crate) async fn perform(&mut self, work: Work) -> Result<u64, Failure> {
        let owner = self.next_owner();
        match work {
            Work::Insert => {
                let id = self.ids.fetch_add(1, Ordering::Relaxed);
                self.connection.insert(owner, id, self.payload.body(id)).await.map(|()| 1)
            }
            Work::InsertBatch => {
                let first_id = self.ids.fetch_add(BATCH_ROWS, Ordering::Relaxed);
                self.connection.insert_batch(owner, first_id, &self.payload).await.map(|()| BATCH_ROWS.unsigned_abs())
            }
            Work::Select { rows } => {
                let id = 1 + self.random.below(rows) as i64;
                self.connection.select(owner, id, self.payload.body(id)).await.map(|()| 0)
            }
            Work::Upsert { rows } => {
                let id = 1 + self.random.below(2 * rows) as i64;
                let body = self.payload.body(self.random.below(rows) as i64);
                self.connection.upsert(owner, id, body).await.map(|()| 0)
            }
        }
    }

    /// Does one request that counts as begun at `since`. Whether the connection is still of use.
    async fn step(&mut self, work: Work, since: Instant, window: &Window, tally: &mut Tally) -> bool {
        match self.perform(work).await {
            Ok(rows) => {
                let now = Instant::now();
                tally.all_requests += 1;
                tally.acknowledged += rows;
                if window.holds(now) {
                    tally.requests += 1;
                    tally.rows += rows;
                }
                if window.holds(since) {
                    tally.record(now - since);
                }
                true
            }
            Err(failure) => tally.fail(failure),
        }
    }
}

/// The measured time.
struct Window {
    from: Instant,
    until: Instant,
}

impl Window {
    fn from_now(phases: Phases) -> Self {
        let from = Instant::now() + phases.warm_up;
        Self { from, until: from + phases.measured }
    }

    fn holds(&self, at: Instant) -> bool {
        self.from <= at && at < self.until
    }
}

/// Each client sends its next request when it has the answer to the last.
pub(crate) async fn closed_loop(clients: Vec<Client>, phases: Phases, work: Work) -> Result<Finished> {
    let window = Arc::new(Window::from_now(phases));
    let mut loops = JoinSet::new();
    for mut client in clients {
        let window = Arc::clone(&window);
        loops.spawn(async move {
            let mut tally = Tally::new(phases.measured)?;
            loop {
                let now = Instant::now();
                if now >= window.until || !client.step(work, now, &window, &mut tally).await {
                    return Ok((client, tally));
                }
            }
        });
    }
    join(loops, phases).await
}

/// One client that is no [`Client`]: it acts, and acts again when it has its answer. Rows of a report of its own.
pub(crate) async fn repeat(phases: Phases, mut act: impl AsyncFnMut() -> Result<(), Failure>) -> Result<Tally> {
    let window = Window::from_now(phases);
    let mut tally = Tally::new(phases.measured)?;
    loop {
        let since = Instant::now();
        if since >= window.until {
            return Ok(tally);
        }
        if let Err(failure) = act().await {
            if !tally.fail(failure) {
                return Ok(tally);
            }
            continue;
        }
        let now = Instant::now();
        tally.all_requests += 1;
        if window.holds(now) {
            tally.requests += 1;
        }
        if window.holds(since) {
            tally.record(now - since);
        }
    }
}

/// All clients together send `rate` requests a second, evenly spaced, whatever becomes of them.
pub(crate) async fn open_loop(clients: Vec<Client>, rate: f64, phases: Phases, work: Work) -> Result<Finished> {
    let window = Arc::new(Window::from_now(phases));
    let apart = Duration::from_secs_f64(1.0 / rate);
    let period = apart.mul_f64(clients.len() as f64);
    let mut loops = JoinSet::new();
    for (index, mut client) in clients.into_iter().enumerate() {
        let window = Arc::clone(&window);
        let mut pacer = Pacer::start(apart.mul_f64(index as f64), period)?;
        loops.spawn(async move {
            let mut tally = Tally::new(phases.measured)?;
            loop {
                let due = pacer.beat().await?;
                if Instant::now() > window.until + OVERDUE {
                    bail!("the server is more than {OVERDUE:?} behind a rate of {rate:.0} requests/s");
                }
                if due >= window.until || !client.step(work, due, &window, &mut tally).await {
                    return Ok((client, tally));
                }
            }
        });
    }
    join(loops, phases).await
}

async fn join(mut loops: JoinSet<Result<(Client, Tally)>>, phases: Phases) -> Result<Finished> {
    let mut finished = Finished { tally: Tally::new(phases.measured)?, clients: Vec::with_capacity(loops.len()) };
    while let Some(ended) = loops.join_next().await {
        let (client, tally) = ended.context("a client's task ended badly")??;
        finished.tally.add(tally)?;
        finished.clients.push(client);
    }
    Ok(finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let mut tally = Tally::new(Duration::from_secs(1)).expect("a tally");
        assert!(tally.fail(Failure::Refused("busy".to_owned())));
        assert!(tally.fail(Failure::Wrong("x".to_owned())));
        assert!(!tally.fail(Failure::Broken(anyhow::anyhow!("reset"))));
        assert_eq!((tally.refused, tally.wrong, tally.unanswered), (1, 1, 1));
        assert_eq!(tally.first_failure.as_deref(), Some("busy"));
    }

    #[test]
    fn the_window_is_half_open() {
        let from = Instant::now();
        let window = Window { from, until: from + Duration::from_secs(1) };
        assert!(window.holds(from));
        assert!(!window.holds(window.until));
        assert!(!window.holds(from - Duration::from_nanos(1)));
    }

    #[test]
    fn tallies_add_up() {
        let mut sum = Tally::new(Duration::from_secs(1)).expect("a tally");
        for latency in [10, 20] {
            let mut one = Tally::new(Duration::from_secs(1)).expect("a tally");
            one.record(Duration::from_millis(latency));
            one.rows = 5;
            sum.add(one).expect("same bounds");
        }
        assert_eq!((sum.rows, sum.latency.len()), (10, 2));
    }
}
