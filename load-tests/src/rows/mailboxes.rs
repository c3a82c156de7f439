//! B5: ten thousand users with a mailbox each, half of whom listen; random writes in an open loop.
//!
//! Sixteen publishers write to random users at one rate together. A message's time is from when it was due until the
//! mailbox's owner has it. What is written to those who do not listen costs the server, and is not looked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use tokio::task::JoinSet;

use super::LIVE;
use crate::bench::{Bench, latencies};
use crate::crowd::{Channel, Crowd, Outcome, Size};
use crate::drive::{Phases, Tally};
use crate::options::Options;
use crate::pacer::Pacer;
use crate::payload::{Payload, Stamp};
use crate::peers::{Failure, Format, PeerKind};
use crate::report::{Limit, Measure};
use crate::wire::Bodies;
use crate::zipf::Random;

const RATE: f64 = 2_000.0;
const PUBLISHERS: usize = 16;
/// How far the publishers may fall behind before the turn ends.
const OVERDUE: Duration = Duration::from_secs(10);
const LAST_CALL: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
const P99_MICROSECONDS: f64 = 50_000.0;

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b5", "mailboxes: thousands of users, random writes").await?;
    let rate = options.rate.unwrap_or(RATE);
    let size = Size { users: 2 * options.crowd, listeners: options.crowd };
    bench.configure("users", format!("{}, of whom {} listen on a socket each", size.users, size.listeners));
    bench.configure("writes", format!("{rate:.0} a second by {PUBLISHERS} publishers, buffered; users evenly drawn"));
    let workload = format!("{} sockets, {rate:.0} writes/s", size.listeners);
    let mut crowds = Vec::new();
    for kind in options.of_these(&LIVE) {
        crowds.push((Crowd::start(kind, &mut bench, options, size).await?, Outcome::default()));
    }
    let mut next_id = 1;
    for round in 1..=options.rounds {
        for (crowd, outcome) in &mut crowds {
            let turn = Mailboxes { size, rate, first_id: next_id, phases: options.phases() };
            let mut rest = None;
            let payload = Arc::clone(bench.payload());
            let work = async {
                let (figures, published, found) = turn.run(crowd, payload).await?;
                rest = Some((published, found));
                Ok(figures)
            };
            bench.observe((round, &workload, crowd.kind()), work).await?;
            let (published, found) = rest.context("the turn ended early")?;
            next_id += published;
            outcome.add(found);
        }
    }
    if let Some(p99) = bench.report().median(Measure::P99Microseconds, &workload, PeerKind::InboxDb) {
        bench.limit(Limit::new("p99 of delivery, µs", p99, P99_MICROSECONDS));
    }
    for (crowd, outcome) in crowds {
        crowd.close(&mut bench, outcome)?;
    }
    bench.close().await
}

struct Mailboxes {
    size: Size,
    rate: f64,
    first_id: i64,
    phases: Phases,
}

impl Mailboxes {
    async fn run(&self, crowd: &Crowd, payload: Arc<Payload>) -> Result<(BTreeMap<Measure, f64>, i64, Outcome)> {
        let messages = (self.rate * (self.phases.warm_up + self.phases.measured).as_secs_f64()) as usize;
        let board = Arc::new(Mutex::new(Board {
            origin: Instant::now(),
            warm_up: self.phases.warm_up,
            messages: vec![Message::default(); messages],
            tally: Tally::new(self.phases.measured)?,
        }));
        let mut readers = JoinSet::new();
        for user in 0..self.size.listeners {
            let mut line = crowd.connect(user, Format::Json).await?;
            crowd.subscribe(&mut line, Channel::Mailbox(user), (0, Format::Json)).await?;
            let board = Arc::clone(&board);
            readers.spawn(async move {
                loop {
                    let read = line.receive(|message| {
                        Bodies(message).try_for_each(|(stamp, _)| lock(&board).received(user, stamp))
                    });
                    read.await?;
                }
            });
        }
        let publishing = self.publish(crowd, &board, &payload);
        let mut outcome = tokio::select! {
            outcome = publishing => outcome?,
            broken = readers.join_next() => {
                let broken: Result<()> = broken.context("nobody listens")?.context("a subscriber's task")?;
                broken.context("a subscriber")?;
                bail!("a subscriber ended")
            }
        };
        let give_up = Instant::now() + LAST_CALL;
        while lock(&board).lost(self.size.listeners) > 0 && Instant::now() < give_up {
            tokio::time::sleep(LOOK).await;
        }
        readers.shutdown().await;
        let board = lock(&board);
        outcome.lost = board.lost(self.size.listeners);
        outcome.doubled = board.messages.iter().map(|message| u64::from(message.came.saturating_sub(1))).sum();
        let mut figures = latencies(&board.tally);
        figures
            .insert(Measure::DeliveredPerSecond, board.tally.latency.len() as f64 / self.phases.measured.as_secs_f64());
        Ok((figures, messages as i64, outcome))
    }

    async fn publish(&self, crowd: &Crowd, board: &Mutex<Board>, payload: &Payload) -> Result<Outcome> {
        let mut publishers = Vec::new();
        for _ in 0..PUBLISHERS {
            publishers.push(crowd.publisher().await?);
        }
        let messages = lock(board).messages.len();
        lock(board).origin = Instant::now();
        let apart = Duration::from_secs_f64(1.0 / self.rate);
        let period = apart.mul_f64(PUBLISHERS as f64);
        let all = publishers.into_iter().enumerate().map(async |(index, mut publisher)| {
            let mut outcome = Outcome::default();
            let mut random = Random::new(self.first_id.unsigned_abs() + index as u64);
            let mut pacer = Pacer::start(apart.mul_f64(index as f64), period)?;
            for number in (index..messages).step_by(PUBLISHERS) {
                let due = pacer.beat().await?;
                if due.elapsed() > OVERDUE {
                    bail!("the server is more than {OVERDUE:?} behind {} writes/s", self.rate);
                }
                let user = random.below(self.size.users);
                let stamp = {
                    let mut board = lock(board);
                    board.messages[number].owner = Some(user);
                    let due_ns = u64::try_from(due.saturating_duration_since(board.origin).as_nanos())?;
                    Stamp { number: number as u64, due_ns }
                };
                let id = self.first_id + number as i64;
                match publisher.publish(Channel::Mailbox(user), id, &payload.marked(stamp)).await {
                    Ok(()) => {
                        outcome.acknowledged += 1;
                        lock(board).messages[number].acknowledged = true;
                    }
                    Err(Failure::Broken(error)) => return Err(error.context("a publisher's connection")),
                    Err(failure) => outcome.fail(&failure),
                }
            }
            Ok(outcome)
        });
        let mut sum = Outcome::default();
        for outcome in try_join_all(all).await? {
            sum.add(outcome);
        }
        Ok(sum)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Message {
    owner: Option<usize>,
    acknowledged: bool,
    came: u8,
}

struct Board {
    origin: Instant,
    warm_up: Duration,
    messages: Vec<Message>,
    tally: Tally,
}

fn lock(board: &Mutex<Board>) -> std::sync::MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    fn received(&mut self, user: usize, stamp: Stamp) -> Result<()> {
        let now = self.origin.elapsed();
        let found = usize::try_from(stamp.number).ok().and_then(|number| self.messages.get_mut(number));
        let message = found.with_context(|| format!("message {} was never published", stamp.number))?;
        if message.owner != Some(user) {
            bail!("message {} of user {:?} came to user {user}", stamp.number, message.owner);
        }
        message.came = message.came.saturating_add(1);
        let due = Duration::from_nanos(stamp.due_ns);
        if due >= self.warm_up && message.came == 1 {
            self.tally.record(now.saturating_sub(due));
        }
        Ok(())
    }

    /// Acknowledged, for somebody who listens, and not there.
    fn lost(&self, listeners: usize) -> u64 {
        let listens = |message: &Message| message.owner.is_some_and(|owner| owner < listeners);
        self.messages.iter().filter(|&message| message.acknowledged && listens(message) && message.came == 0).count()
            as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_may_receive_and_what_did_not_come_is_lost() {
        let message = |owner| Message { owner: Some(owner), acknowledged: true, came: 0 };
        let mut board = Board {
            origin: Instant::now(),
            warm_up: Duration::ZERO,
            messages: vec![message(0), message(1), message(9)],
            tally: Tally::new(Duration::from_secs(1)).expect("a tally"),
        };
        board.received(0, Stamp { number: 0, due_ns: 0 }).expect("their own");
        assert!(board.received(0, Stamp { number: 1, due_ns: 0 }).is_err(), "another's");
        assert!(board.received(0, Stamp { number: 3, due_ns: 0 }).is_err(), "never published");
        assert_eq!((board.lost(2), board.tally.latency.len()), (1, 1));
    }
}
