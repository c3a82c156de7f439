//! B7: ten thousand rows in one statement, and a reader who takes a thousand a second.
//!
//! Owns the slow reader: it takes what one read of the socket brings, and then waits as long as that many rows should
//! take. When it is told that it is too slow it resumes where it was. What the server held for it is the growth
//! of its peak, less that of the same bursts when nobody reads: statements of two megabytes take memory themselves.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::Bench;
use crate::crowd::{Crowd, Outcome, ROOM_SQL, Size, Tenants};
use crate::line::Line;
use crate::options::Options;
use crate::payload::{Payload, Stamp};
use crate::peers::{Following, Format, PeerKind, follow, open_socket};
use crate::procfs;
use crate::report::{Limit, Measure};
use crate::wire::{Bodies, position_behind};

const ROWS: usize = 10_000;
const BURSTS: usize = 3;
const RATE: f64 = 1_000.0;
const WITHIN: Duration = Duration::from_secs(60);
/// Twice what may wait for one subscriber (`websocket.outbox_bytes`).
const HELD_KIB: f64 = 8.0 * 1024.0;
const UNREAD: &str = "three bursts, nobody reads";
const READ: &str = "three bursts, a slow reader";

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b7", "burst of rows in one statement, a slow reader").await?;
    bench.configure("burst", format!("{BURSTS} × {ROWS} rows, a statement each, one behind the other"));
    bench.configure("reader", format!("{RATE:.0} rows a second"));
    let size = Size { users: 1, listeners: 1 };
    let Crowd::InboxDb(tenants) = Crowd::start(PeerKind::InboxDb, &mut bench, options, size).await? else {
        bail!("another server was started");
    };
    let mut outcome = Outcome::default();
    for round in 1..=options.rounds {
        for (turn, workload) in (2 * (round as usize - 1)..).zip([UNREAD, READ]) {
            let work = burst(&tenants, turn, (workload == READ).then_some(&mut outcome));
            bench.observe((round, workload, PeerKind::InboxDb), work).await?;
        }
    }
    let growth = |workload| bench.report().median(Measure::PeakGrowthKib, workload, PeerKind::InboxDb);
    if let (Some(read), Some(unread)) = (growth(READ), growth(UNREAD)) {
        bench.limit(Limit::new("held for a slow reader, KiB", (read - unread).max(0.0), HELD_KIB));
    }
    bench.limit(Limit::new("lost", outcome.lost as f64, 0.0));
    Crowd::InboxDb(tenants).close(&mut bench, outcome)?;
    bench.close().await
}

async fn burst(tenants: &Tenants, turn: usize, outcome: Option<&mut Outcome>) -> Result<BTreeMap<Measure, f64>> {
    let pid = tenants.instance.process().pid();
    let first = turn * ROWS * BURSTS;
    let mut reader = Reader { tenants, position: None, came: vec![0; ROWS * BURSTS], first, resumed: 0 };
    procfs::reset_peaks(pid)?;
    let before = procfs::memory(pid)?;
    let began = Instant::now();
    let write = async {
        let mut admin = tenants.instance.admin().await?;
        let payload = Payload::new();
        let mut slowest = Duration::ZERO;
        for number in 0..BURSTS {
            let mut sql = "INSERT INTO chat.room (id, body) VALUES ".to_owned();
            for row in 0..ROWS {
                let id = first + number * ROWS + row;
                let comma = if row == 0 { "" } else { "," };
                // Writing to a string cannot fail.
                let _ = write!(sql, "{comma}({id},'{}')", payload.marked(Stamp { number: id as u64, due_ns: 0 }));
            }
            let sent = Instant::now();
            admin.run(&sql).await?;
            slowest = slowest.max(sent.elapsed());
        }
        Ok(slowest)
    };
    let slowest = match outcome {
        None => write.await?,
        Some(outcome) => {
            let mut line = reader.connect().await?;
            let (slowest, ()) = tokio::try_join!(write, reader.read(&mut line))?;
            outcome.lost += reader.came.iter().filter(|count| **count == 0).count() as u64;
            outcome.doubled += reader.came.iter().map(|count| u64::from(count.saturating_sub(1))).sum::<u64>();
            outcome.acknowledged += (ROWS * BURSTS) as u64;
            slowest
        }
    };
    let grown = procfs::memory(pid)?.peak_kib().saturating_sub(before.resident_kib);
    Ok(BTreeMap::from([
        (Measure::Seconds, began.elapsed().as_secs_f64()),
        (Measure::Milliseconds, slowest.as_secs_f64() * 1e3),
        (Measure::PeakGrowthKib, grown as f64),
        (Measure::Busy, f64::from(reader.resumed)),
    ]))
}

struct Reader<'a> {
    tenants: &'a Tenants,
    position: Option<u64>,
    came: Vec<u32>,
    /// The number of the first row.
    first: usize,
    /// How often it was closed and came back.
    resumed: u32,
}

impl Reader<'_> {
    async fn connect(&self) -> Result<Line> {
        let mut line = open_socket(self.tenants.address(), self.tenants.token(0)?, Format::Json).await?;
        follow(&mut line, Following { id: 0, sql: ROOM_SQL, format: Format::Json, from: self.position }).await?;
        Ok(line)
    }

    async fn read(&mut self, line: &mut Line) -> Result<()> {
        let give_up = Instant::now() + WITHIN;
        while self.came.contains(&0) && Instant::now() < give_up {
            let (mut rows, mut position) = (0_usize, self.position);
            let (came, first) = (&mut self.came, self.first);
            let read = line.receive(|message| {
                for (stamp, rest) in Bodies(message) {
                    let index = usize::try_from(stamp.number)?.checked_sub(first);
                    let count = index.and_then(|index| came.get_mut(index)).context("a row of another burst")?;
                    *count += 1;
                    rows += 1;
                    position = position.max(position_behind(rest));
                }
                Ok(())
            });
            let read = tokio::time::timeout_at(give_up.into(), read).await;
            self.position = position;
            match read {
                Err(_) => return Ok(()),
                Ok(Ok(())) => tokio::time::sleep(Duration::from_secs_f64(rows as f64 / RATE)).await,
                Ok(Err(_)) => {
                    self.resumed += 1;
                    *line = self.connect().await?;
                }
            }
        }
        Ok(())
    }
}
