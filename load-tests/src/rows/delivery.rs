//! B3: how long a message takes from when it was due to be published until its subscriber has it.
//!
//! One writer, one subscriber of its mailbox, both here, so one clock serves both; the due time travels in the body.
//! Idle, and while sixteen others write to their own mailboxes at half of what the slowest server can take: the same
//! rate for every server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;

use super::EVERYONE;
use crate::bench::{Bench, TurnSpec};
use crate::drive::{Client, Finished, Phases, Tally, Work, closed_loop, open_loop};
use crate::options::Options;
use crate::pacer::Pacer;
use crate::payload::{Payload, Stamp};
use crate::peers::{Durability, Population, Subscription};

/// Messages a second whose delivery is timed.
const RATE: f64 = 100.0;
/// User 0 is written to and listened to; these write the load.
const BACKGROUND: std::ops::RangeInclusive<usize> = 1..=16;
const CALIBRATION: Phases = Phases { warm_up: Duration::from_secs(1), measured: Duration::from_secs(4) };
/// A message that is not there by then is lost.
const LAST_CALL: Duration = Duration::from_secs(5);

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b3", "publish → receive latency, one writer and one subscriber").await?;
    bench.configure("timed messages", format!("{RATE} a second"));
    bench.start(&EVERYONE, Population::Pool(BACKGROUND.count() + 1)).await?;
    for level in [Durability::Sync, Durability::Buffered] {
        let half_load = half_of_the_slowest(&mut bench, level).await?;
        let name = if level == Durability::Sync { "half load, sync" } else { "half load, buffered" };
        bench.configure(name, format!("{half_load:.0} rows/s by {} others, for every server", BACKGROUND.count()));
        for round in 1..=options.rounds {
            for (load, rate) in [("idle", None), ("half load", Some(half_load))] {
                for index in bench.peers() {
                    let delivery = Delivery::prepare(&bench, index, level, rate, options.phases()).await?;
                    let spec = TurnSpec { round, workload: format!("{level}, {load}"), level: Some(level) };
                    bench.turn(index, spec, delivery.run()).await?;
                }
            }
        }
    }
    bench.close().await
}

async fn half_of_the_slowest(bench: &mut Bench<'_>, level: Durability) -> Result<f64> {
    let mut slowest = f64::INFINITY;
    for index in bench.peers() {
        bench.wait_until_idle().await?;
        let clients = bench.clients(index, BACKGROUND, level).await?;
        let tally = closed_loop(clients, CALIBRATION, Work::Insert).await?.tally;
        slowest = slowest.min(tally.rows as f64 / CALIBRATION.measured.as_secs_f64());
        if tally.rows == 0 {
            bail!("{} took no row: {}", bench.peer(index).kind(), tally.first_failure.unwrap_or_default());
        }
        bench.seeded(index, tally);
    }
    Ok(slowest / 2.0)
}

/// One turn, all connections made.
struct Delivery {
    subscription: Subscription,
    writer: Client,
    background: Vec<Client>,
    /// Rows a second of all background clients together.
    background_rate: Option<f64>,
    phases: Phases,
    payload: Arc<Payload>,
}

impl Delivery {
    async fn prepare(
        bench: &Bench<'_>,
        index: usize,
        level: Durability,
        background_rate: Option<f64>,
        phases: Phases,
    ) -> Result<Self> {
        let background = match background_rate {
            Some(_) => bench.clients(index, BACKGROUND, level).await?,
            None => Vec::new(),
        };
        let writer = bench.clients(index, [0], level).await?.pop().context("one client was asked for")?;
        let subscription = bench.peer(index).subscribe(0).await?;
        Ok(Self { subscription, writer, background, background_rate, phases, payload: Arc::clone(bench.payload()) })
    }

    async fn run(mut self) -> Result<Finished> {
        let origin = Instant::now();
        let messages = (RATE * (self.phases.warm_up + self.phases.measured).as_secs_f64()) as usize;
        let (published, all_published) = oneshot::channel();
        let receiver =
            Receiver { origin, phases: self.phases, seen: vec![0; messages], tally: Tally::new(self.phases.measured)? };
        let receiver = tokio::spawn(receiver.run(self.subscription, all_published));
        let load =
            self.background_rate.map(|rate| tokio::spawn(open_loop(self.background, rate, self.phases, Work::Insert)));

        let mut writing = Tally::new(self.phases.measured)?;
        let mut acknowledged = vec![false; messages];
        let period = Duration::from_secs_f64(1.0 / RATE);
        let mut pacer = Pacer::start(period, period)?;
        for (number, acknowledged) in acknowledged.iter_mut().enumerate() {
            let due = pacer.beat().await?;
            let stamp = Stamp { number: number as u64, due_ns: nanoseconds(due - origin)? };
            *acknowledged = self.writer.publish(&self.payload.stamped(stamp), &mut writing).await;
        }
        // The receiver may have them all and be gone.
        let _ = published.send(());

        let Receiver { seen, mut tally, .. } = receiver.await.context("the subscriber's task ended badly")??;
        tally.doubled = Some(seen.iter().map(|count| u64::from(count.saturating_sub(1))).sum());
        tally.lost =
            acknowledged.iter().zip(&seen).filter(|(acknowledged, count)| **acknowledged && **count == 0).count()
                as u64;
        tally.add(writing)?;
        let mut clients = vec![self.writer];
        if let Some(load) = load {
            let mut background = load.await.context("the background load ended badly")??;
            background.tally.forget_figures();
            tally.add(background.tally)?;
            clients.append(&mut background.clients);
        }
        Ok(Finished { tally, clients })
    }
}

struct Receiver {
    origin: Instant,
    phases: Phases,
    /// How often each message came.
    seen: Vec<u32>,
    tally: Tally,
}

impl Receiver {
    /// Listens until every message has come, or for a while after the last was published.
    async fn run(mut self, mut subscription: Subscription, all_published: oneshot::Receiver<()>) -> Result<Self> {
        let last_call = async {
            // A writer that failed tells so itself.
            let _ = all_published.await;
            tokio::time::sleep(LAST_CALL).await;
        };
        tokio::pin!(last_call);
        while self.seen.contains(&0) {
            tokio::select! {
                body = subscription.next() => self.receive(&body?)?,
                () = &mut last_call => break,
            }
        }
        Ok(self)
    }

    fn receive(&mut self, body: &str) -> Result<()> {
        let now = self.origin.elapsed();
        let stamp = Stamp::read(body).with_context(|| format!("a message without stamp: {body}"))?;
        let count = usize::try_from(stamp.number).ok().and_then(|number| self.seen.get_mut(number));
        *count.with_context(|| format!("message {} was never published", stamp.number))? += 1;
        let due = Duration::from_nanos(stamp.due_ns);
        if due >= self.phases.warm_up {
            self.tally.rows += 1;
            self.tally.record(now.saturating_sub(due));
        }
        Ok(())
    }
}

fn nanoseconds(duration: Duration) -> Result<u64> {
    u64::try_from(duration.as_nanos()).context("the run is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver() -> Receiver {
        let phases = Phases { warm_up: Duration::from_secs(1), measured: Duration::from_secs(1) };
        let tally = Tally::new(phases.measured).expect("a tally");
        Receiver { origin: Instant::now(), phases, seen: vec![0; 3], tally }
    }

    #[test]
    fn messages_of_the_warm_up_count_as_received_but_are_not_timed() {
        let (payload, mut receiver) = (Payload::new(), receiver());
        receiver.receive(&payload.stamped(Stamp { number: 0, due_ns: 999_999_999 })).expect("a good message");
        receiver.receive(&payload.stamped(Stamp { number: 2, due_ns: 1_000_000_000 })).expect("a good message");
        assert_eq!(
            (receiver.seen.as_slice(), receiver.tally.rows, receiver.tally.latency.len()),
            (&[1, 0, 1][..], 1, 1)
        );
    }

    #[test]
    fn strange_messages_are_refused() {
        let (payload, mut receiver) = (Payload::new(), receiver());
        assert!(receiver.receive("hello").is_err());
        assert!(receiver.receive(&payload.stamped(Stamp { number: 3, due_ns: 0 })).is_err());
    }
}
