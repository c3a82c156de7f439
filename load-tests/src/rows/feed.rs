//! B6: one consumer follows what all users write, and is killed every few seconds.
//!
//! Two kinds of consumer in one run: one keeps its position itself and comes back with `from`, stored behind every hundred
//! events, as an agent would; one belongs to a group and acknowledges as often. What lies between the last position
//! and the kill comes again: doubles, which are counted and allowed. Nothing may be missing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::bench::{Bench, latencies};
use crate::crowd::{Channel, Crowd, Outcome, Size, Tenants};
use crate::drive::Tally;
use crate::line::Line;
use crate::options::Options;
use crate::pacer::Pacer;
use crate::payload::{Payload, Stamp};
use crate::peers::{Failure, Format, PeerKind, open_socket};
use crate::report::Measure;
use crate::wire::{Bodies, client_frame, position_behind};
use crate::zipf::{Random, Zipf};

const SQL: &str = "EXECUTE AS USER '*' (SELECT id, body FROM chat.messages)";
const RATE: f64 = 1_000.0;
const USERS: usize = 10_000;
const ZIPF_EXPONENT: f64 = 0.99;
const PUBLISHERS: usize = 8;
const LIFE: Duration = Duration::from_secs(3);
const AWAY: Duration = Duration::from_secs(1);
/// The position is stored behind so many events.
const STORE_EVERY: usize = 100;
const LAST_CALL: Duration = Duration::from_secs(20);

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b6", "all-owners feed, its consumer killed every few seconds").await?;
    let rate = options.rate.unwrap_or(RATE);
    bench.configure("writes", format!("{rate:.0} a second to {USERS} users, Zipf {ZIPF_EXPONENT}, buffered"));
    bench.configure(
        "consumer",
        format!("lives {LIFE:?}, is away {AWAY:?}; position stored behind {STORE_EVERY} events"),
    );
    let size = Size { users: USERS, listeners: 1 };
    let Crowd::InboxDb(tenants) = Crowd::start(PeerKind::InboxDb, &mut bench, options, size).await? else {
        bail!("another server was started");
    };
    let crowd = Crowd::InboxDb(tenants);
    let mut sum = Outcome::default();
    let mut next_id = 1;
    for round in 1..=options.rounds {
        for grouped in [false, true] {
            let workload = if grouped { "group" } else { "from" };
            let phases = options.phases();
            let messages = (rate * (phases.warm_up + phases.measured).as_secs_f64()) as usize;
            let group = grouped.then(|| format!("load{round}"));
            let feed = Feed { rate, messages, first_id: next_id, group, crowd: &crowd };
            next_id += messages as i64;
            let mut rest = None;
            let work = async {
                let (figures, outcome) = feed.run().await?;
                rest = Some(outcome);
                Ok(figures)
            };
            bench.observe((round, workload, PeerKind::InboxDb), work).await?;
            sum.add(rest.context("the turn ended early")?);
        }
    }
    crowd.close(&mut bench, sum)?;
    bench.close().await
}

struct Feed<'a> {
    rate: f64,
    messages: usize,
    first_id: i64,
    group: Option<String>,
    crowd: &'a Crowd,
}

/// What has been published, and what of it came.
struct Board {
    published: usize,
    done: bool,
    acknowledged: Vec<bool>,
    came: Vec<u32>,
    /// What came when it had come already.
    doubled: u64,
    missing: usize,
}

impl Feed<'_> {
    fn tenants(&self) -> Result<&Tenants> {
        match self.crowd {
            Crowd::InboxDb(tenants) => Ok(tenants),
            _ => bail!("another server was started"),
        }
    }

    async fn run(&self) -> Result<(BTreeMap<Measure, f64>, Outcome)> {
        let board = RefCell::new(Board {
            published: 0,
            done: false,
            acknowledged: vec![false; self.messages],
            came: vec![0; self.messages],
            doubled: 0,
            missing: self.messages,
        });
        let mut consumer =
            Consumer { feed: self, board: &board, position: None, kills: 0, catching_up: Tally::new(LAST_CALL)? };
        // It listens before the first message is written.
        let line = consumer.connect().await?;
        let ((), mut outcome) = tokio::try_join!(consumer.live(line), self.publish(&board))?;
        let board = board.borrow();
        outcome.lost =
            board.acknowledged.iter().zip(&board.came).filter(|(told, came)| **told && **came == 0).count() as u64;
        let mut figures = latencies(&consumer.catching_up);
        figures.insert(Measure::Kills, f64::from(consumer.kills));
        figures.insert(Measure::Doubled, board.doubled as f64);
        figures.insert(Measure::RowsPerSecond, self.rate);
        Ok((figures, outcome))
    }

    async fn publish(&self, board: &RefCell<Board>) -> Result<Outcome> {
        let payload = Payload::new();
        let zipf = Zipf::new(USERS, ZIPF_EXPONENT);
        let apart = Duration::from_secs_f64(1.0 / self.rate);
        let all = (0..PUBLISHERS).map(async |index| {
            let mut publisher = self.crowd.publisher().await?;
            let mut random = Random::new(self.first_id.unsigned_abs() + index as u64);
            let mut pacer = Pacer::start(apart.mul_f64(index as f64), apart.mul_f64(PUBLISHERS as f64))?;
            let mut outcome = Outcome::default();
            for number in (index..self.messages).step_by(PUBLISHERS) {
                pacer.beat().await?;
                // The id, so that what is left of another turn is told from this one's.
                let id = self.first_id + number as i64;
                let body = payload.marked(Stamp { number: id.unsigned_abs(), due_ns: 0 });
                let channel = Channel::Mailbox(zipf.draw(&mut random));
                match publisher.publish(channel, id, &body).await {
                    Ok(()) => {
                        outcome.acknowledged += 1;
                        board.borrow_mut().acknowledged[number] = true;
                    }
                    Err(Failure::Broken(error)) => return Err(error.context("a publisher's connection")),
                    Err(failure) => outcome.fail(&failure),
                }
                board.borrow_mut().published += 1;
            }
            Ok(outcome)
        });
        let mut sum = Outcome::default();
        for outcome in futures_util::future::try_join_all(all).await? {
            sum.add(outcome);
        }
        board.borrow_mut().done = true;
        Ok(sum)
    }
}

struct Consumer<'a> {
    feed: &'a Feed<'a>,
    board: &'a RefCell<Board>,
    /// Stored, as a file would be.
    position: Option<u64>,
    kills: u32,
    /// From coming back until all is there that was published before.
    catching_up: Tally,
}

impl Consumer<'_> {
    async fn connect(&self) -> Result<Line> {
        let tenants = self.feed.tenants()?;
        let mut line = open_socket(tenants.address(), &tenants.agent, Format::Json).await?;
        let options = match (&self.feed.group, self.position) {
            // One row of what was there before: it is not this turn's.
            (Some(group), _) => json!({"group": group, "last_rows": 1}),
            (None, Some(position)) => json!({"from": position.to_string()}),
            (None, None) => Value::Null,
        };
        let request = json!({"type": "subscribe", "subscription": {"id": "f", "sql": SQL, "options": options}});
        line.send(&client_frame(1, request.to_string().as_bytes())).await?;
        let answer = line.message().await?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.contains("subscription_ack"), "the feed was answered {answer}");
        if self.feed.group.is_some() {
            // Behind the one row, the changes.
            line.send(&client_frame(1, br#"{"type":"next_batch","subscription_id":"f"}"#)).await?;
        }
        Ok(line)
    }

    async fn live(&mut self, mut line: Line) -> Result<()> {
        let mut behind = None;
        let mut born = Instant::now();
        let mut last_call = None;
        loop {
            {
                let board = self.board.borrow();
                if board.done && (board.missing == 0 || last_call.is_some_and(|last_call| Instant::now() > last_call)) {
                    return Ok(());
                }
                if board.done && last_call.is_none() {
                    last_call = Some(Instant::now() + LAST_CALL);
                }
            }
            let left = LIFE.saturating_sub(born.elapsed());
            if left.is_zero() {
                drop(line);
                self.kills += 1;
                tokio::time::sleep(AWAY).await;
                behind = Some((Instant::now(), self.board.borrow().published));
                line = self.connect().await?;
                born = Instant::now();
                continue;
            }
            let mut events = Vec::new();
            let read = line.receive(|message| {
                ensure!(!message.starts_with(b"{\"type\":\"error\""), "{}", String::from_utf8_lossy(message));
                for (stamp, rest) in Bodies(message) {
                    events.push((stamp.number, position_behind(rest).context("an event without position")?));
                }
                Ok(())
            });
            if let Ok(read) = tokio::time::timeout(left, read).await {
                read?;
            }
            for (id, position) in events {
                self.handle(&mut line, id, position).await?;
            }
            let board = self.board.borrow();
            if let Some((since, published)) = behind
                && board.came.len() - board.missing >= published
            {
                self.catching_up.record(since.elapsed());
                behind = None;
            }
        }
    }

    async fn handle(&mut self, line: &mut Line, id: u64, position: u64) -> Result<()> {
        let Some(number) = id.checked_sub(self.feed.first_id.unsigned_abs()) else { return Ok(()) };
        let handled = {
            let mut board = self.board.borrow_mut();
            let found = usize::try_from(number).ok().and_then(|number| board.came.get_mut(number));
            let count = found.with_context(|| format!("event {id} was never published"))?;
            *count += 1;
            if *count == 1 {
                board.missing -= 1;
            } else {
                board.doubled += 1;
            }
            board.came.len() - board.missing
        };
        if handled % STORE_EVERY != 0 && self.position.is_some() {
            return Ok(());
        }
        self.position = Some(position);
        if self.feed.group.is_some() {
            let ack = json!({"type": "ack", "subscription_id": "f", "upto": position.to_string()});
            line.send(&client_frame(1, ack.to_string().as_bytes())).await?;
        }
        Ok(())
    }
}
