//! B4: one room, thousands of subscribers: messages delivered a second, and how long the last of them waits.
//!
//! One publisher. *Saturated*: it publishes while fewer than [`WINDOW`] messages are on their way to somebody, so that
//! the server is never idle and never overrun. *Paced*: an open loop at a rate that every server can take; a message's
//! time is from when it was due until the last subscriber has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::LIVE;
use crate::bench::{Bench, latencies};
use crate::crowd::{Channel, Crowd, Outcome, Size};
use crate::drive::{Phases, Tally};
use crate::options::Options;
use crate::pacer::Pacer;
use crate::payload::{Payload, Stamp};
use crate::peers::{Format, PeerKind};
use crate::procfs;
use crate::report::{Limit, Measure};
use crate::wire::Bodies;

const WINDOW: usize = 16;
/// Deliveries a second of the paced half.
const PACED: f64 = 20_000.0;
const USERS: usize = 16;
/// What is not there by then is lost.
const LAST_CALL: Duration = Duration::from_secs(15);
const JSON_LEAST: f64 = 0.5;
const MESSAGE_PACK_LEAST: f64 = 1.0;

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b4", "fan-out: one room, thousands of subscribers").await?;
    bench.configure("level", "buffered (InboxDB, NATS JetStream); Redis pub/sub keeps nothing");
    bench.configure("saturated", format!("one publisher, at most {WINDOW} messages on their way"));
    bench.configure("paced", format!("{PACED:.0} deliveries a second, times until the last subscriber"));
    let mut crowds = Vec::new();
    for kind in options.of_these(&LIVE) {
        let size = Size { users: USERS, listeners: USERS };
        crowds.push((Crowd::start(kind, &mut bench, options, size).await?, Outcome::default()));
    }
    let mut next_id = 1;
    for round in 1..=options.rounds {
        for subscribers in options.subscribers.iter().copied() {
            for (crowd, outcome) in &mut crowds {
                let formats: &[Format] = match crowd.kind() {
                    PeerKind::InboxDb => &[Format::Json, Format::MessagePack],
                    _ => &[Format::Json],
                };
                for format in formats {
                    for paced in [false, true] {
                        let room = Room { subscribers, format: *format, paced, first_id: next_id };
                        let turn = (round, &*room.name(), crowd.kind());
                        let work = room.turn(crowd, options.phases(), bench.payload().clone());
                        let (published, found) = observe(&mut bench, turn, work).await?;
                        next_id += published;
                        outcome.add(found);
                    }
                }
            }
        }
    }
    limits(&mut bench, options);
    for (crowd, outcome) in crowds {
        crowd.close(&mut bench, outcome)?;
    }
    bench.close().await
}

async fn observe(
    bench: &mut Bench<'_>,
    turn: (u32, &str, PeerKind),
    work: impl Future<Output = Result<(BTreeMap<Measure, f64>, i64, Outcome)>>,
) -> Result<(i64, Outcome)> {
    let mut rest = None;
    let figures = async {
        let (figures, published, outcome) = work.await?;
        rest = Some((published, outcome));
        Ok(figures)
    };
    bench.observe(turn, figures).await?;
    rest.context("the turn ended early")
}

fn limits(bench: &mut Bench<'_>, options: &Options) {
    for subscribers in options.subscribers.iter().copied() {
        for (format, least) in [(Format::Json, JSON_LEAST), (Format::MessagePack, MESSAGE_PACK_LEAST)] {
            let ours = Room { subscribers, format, paced: false, first_id: 0 }.name();
            let theirs = Room { subscribers, format: Format::Json, paced: false, first_id: 0 }.name();
            for peer in [PeerKind::Redis, PeerKind::Nats] {
                let (ours, theirs) = ((&*ours, PeerKind::InboxDb), (&*theirs, peer));
                let Some(ratio) = bench.report().ratio(Measure::DeliveredPerSecond, ours, theirs) else { continue };
                let what = format!("delivered/s ÷ {peer}, {}", ours.0);
                if peer == PeerKind::Redis {
                    bench.limit(Limit::at_least(what.clone(), ratio.median, least));
                } else {
                    println!("  {what}: {:.2}", ratio.median);
                }
                let Some(ratio) = bench.report().ratio(Measure::CpuSecondsPerMillion, ours, theirs) else { continue };
                println!("  server CPU a delivery ÷ {peer}, {}: {:.2}", ours.0, ratio.median);
            }
        }
    }
}

struct Room {
    subscribers: usize,
    format: Format,
    paced: bool,
    first_id: i64,
}

impl Room {
    fn name(&self) -> String {
        let pace = if self.paced { "paced" } else { "saturated" };
        let format = match self.format {
            Format::Json => "",
            Format::MessagePack => ", MessagePack",
        };
        format!("{} subscribers, {pace}{format}", self.subscribers)
    }

    /// The figures, how many messages were published, and what became of them.
    async fn turn(
        &self,
        crowd: &Crowd,
        phases: Phases,
        payload: Arc<Payload>,
    ) -> Result<(BTreeMap<Measure, f64>, i64, Outcome)> {
        let mut lines = Vec::with_capacity(self.subscribers);
        for number in 0..self.subscribers {
            let mut line = crowd.connect(number, self.format).await?;
            crowd.subscribe(&mut line, Channel::Room, (0, self.format)).await?;
            lines.push(line);
        }
        let board = Arc::new(Board::new(self.subscribers, phases)?);
        let mut readers = JoinSet::new();
        for mut line in lines {
            let board = Arc::clone(&board);
            readers.spawn(async move {
                let mut expected = 0;
                loop {
                    let read = line.receive(|message| {
                        for (stamp, _) in Bodies(message) {
                            board.received(stamp.number, &mut expected)?;
                        }
                        Ok(())
                    });
                    read.await?;
                }
            });
        }
        let worked = procfs::cpu_time(crowd.process().pid())?;
        let work = self.publish(crowd, &board, &payload, phases);
        let mut outcome = tokio::select! {
            outcome = work => outcome?,
            broken = readers.join_next() => {
                // A reader only ends when it fails.
                let broken: Result<()> = broken.context("there are no subscribers")?.context("a subscriber's task")?;
                broken.context("a subscriber")?;
                bail!("a subscriber ended")
            }
        };
        readers.shutdown().await;
        let worked = procfs::cpu_time(crowd.process().pid())?.saturating_sub(worked);
        let scores = board.scores();
        outcome.lost += scores.missing(self.subscribers);
        outcome.doubled += scores.disordered;
        let mut figures = latencies(&scores.last);
        let measured = phases.measured.as_secs_f64();
        figures.insert(Measure::DeliveredPerSecond, scores.delivered as f64 / measured);
        let all: u64 = scores.received.iter().map(|(_, count)| u64::from(*count)).sum();
        if all > 0 {
            figures.insert(Measure::CpuSecondsPerMillion, worked.as_secs_f64() * 1e6 / all as f64);
        }
        Ok((figures, scores.received.len() as i64, outcome))
    }

    async fn publish(&self, crowd: &Crowd, board: &Board, payload: &Payload, phases: Phases) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut publisher = crowd.publisher().await?;
        let period = Duration::from_secs_f64(self.subscribers as f64 / PACED);
        let mut pacer = Pacer::start(period, period)?;
        let until = Instant::now() + phases.warm_up + phases.measured;
        board.begin(phases);
        let mut number = 0;
        loop {
            let due = if self.paced {
                pacer.beat().await?
            } else {
                tokio::select! {
                    () = board.fewer_than(WINDOW) => {}
                    () = tokio::time::sleep(LAST_CALL) => break,
                }
                Instant::now()
            };
            if Instant::now() >= until {
                break;
            }
            board.published(due);
            let body = payload.marked(Stamp { number, due_ns: 0 });
            match publisher.publish(Channel::Room, self.first_id + number as i64, &body).await {
                Ok(()) => outcome.acknowledged += 1,
                Err(failure) => {
                    // Its number would be waited for.
                    bail!("message {number} was not published: {failure}");
                }
            }
            number += 1;
        }
        tokio::select! {
            () = board.fewer_than(1) => {}
            () = tokio::time::sleep(LAST_CALL) => {}
        }
        Ok(outcome)
    }
}

/// Who has received what.
struct Board {
    subscribers: u32,
    scores: Mutex<Scores>,
    complete: Notify,
}

struct Scores {
    /// When each message was due, and how many have it.
    received: Vec<(Instant, u32)>,
    complete: usize,
    window: (Instant, Instant),
    delivered: u64,
    disordered: u64,
    last: Tally,
}

impl Scores {
    fn missing(&self, subscribers: usize) -> u64 {
        self.received.iter().map(|(_, count)| (subscribers as u64).saturating_sub(u64::from(*count))).sum()
    }
}

impl Board {
    fn new(subscribers: usize, phases: Phases) -> Result<Self> {
        let now = Instant::now();
        let scores = Scores {
            received: Vec::new(),
            complete: 0,
            window: (now, now),
            delivered: 0,
            disordered: 0,
            last: Tally::new(phases.measured)?,
        };
        let subscribers = u32::try_from(subscribers).context("too many subscribers")?;
        Ok(Self { subscribers, scores: Mutex::new(scores), complete: Notify::new() })
    }

    fn scores(&self) -> std::sync::MutexGuard<'_, Scores> {
        self.scores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, phases: Phases) {
        let from = Instant::now() + phases.warm_up;
        self.scores().window = (from, from + phases.measured);
    }

    fn published(&self, due: Instant) {
        self.scores().received.push((due, 0));
    }

    /// A message came to a subscriber who expects this one.
    fn received(&self, number: u64, expected: &mut u64) -> Result<()> {
        let now = Instant::now();
        let mut scores = self.scores();
        let scores = &mut *scores;
        if number < *expected {
            scores.disordered += 1;
            return Ok(());
        }
        // What was skipped stays missing.
        *expected = number + 1;
        let (from, until) = scores.window;
        let found = usize::try_from(number).ok().and_then(|number| scores.received.get_mut(number));
        let (due, count) = found.with_context(|| format!("message {number} was never published"))?;
        *count += 1;
        scores.delivered += u64::from(from <= now && now < until);
        if *count == self.subscribers {
            if from <= *due && *due < until {
                scores.last.record(now.saturating_duration_since(*due));
            }
            scores.complete += 1;
            self.complete.notify_one();
        }
        Ok(())
    }

    /// Waits until fewer messages than this are on their way.
    async fn fewer_than(&self, many: usize) {
        loop {
            {
                let scores = self.scores();
                if scores.received.len() - scores.complete < many {
                    return;
                }
            }
            self.complete.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_out_of_order_is_counted() {
        let phases = Phases { warm_up: Duration::ZERO, measured: Duration::from_secs(5) };
        let board = Board::new(2, phases).expect("a board");
        board.begin(phases);
        for _ in 0..3 {
            board.published(Instant::now());
        }
        let (mut one, mut other) = (0, 0);
        for number in 0..3 {
            board.received(number, &mut one).expect("published");
        }
        for number in [0, 2, 1] {
            board.received(number, &mut other).expect("published");
        }
        assert!(board.received(3, &mut one).is_err());
        let scores = board.scores();
        assert_eq!((scores.missing(2), scores.disordered, scores.complete, scores.delivered), (1, 1, 2, 5));
    }
}
