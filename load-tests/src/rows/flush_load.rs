//! flush-load: 64 writers and 8 readers, with and without rows becoming cold all the time, in turns on one server.
//!
//! Owns the load and what is checked of each answer. Open loops at a quarter (`--load`) of what the writers reach by
//! themselves, the same rate in both turns. A writer writes to their own mailbox, one row after the other; so a page of the mailbox must
//! hold neighbouring numbers without a gap, and a row that was acknowledged before a read began must be in its answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use futures_util::future::try_join_all;

use crate::bench::{Bench, latencies};
use crate::drive::{Phases, Tally};
use crate::options::Options;
use crate::pacer::Pacer;
use crate::payload::{BODY_BYTES, Payload};
use crate::peers::{
    BATCH_ROWS, Durability, Failure, InboxDb, InboxDbConnection, Launch, PeerKind, Population, Session,
};
use crate::report::{Limit, Measure};
use crate::seed::Seed;
use crate::zipf::Random;

mod reader;

use reader::{Mark, PAGE, Reader, id};

const WRITERS: usize = 64;
const READERS: usize = 8;
/// Of each reader.
const READS_A_SECOND: f64 = 20.0;
/// Cold rows of each writer before the first turn.
const SEED_ROWS: i64 = 2_000;
const MEGABYTES: usize = 256;
const P99_RATIO: f64 = 2.0;
const CALIBRATION: Duration = Duration::from_secs(4);
/// How far the open loops may fall behind before the turn is given up.
const OVERDUE: Duration = Duration::from_secs(30);
/// As seldom as the server merges by itself.
const FLUSHES_A_MERGE: usize = 8;

const SETTINGS: [&str; 3] =
    ["flush.check_interval=1s", "flush.default_byte_limit=100 GiB", "jobs.history_entries=100000"];
const NEVER: &str = "rows:999999,interval:86399";
const ALWAYS: &str = "rows:1000,interval:1";

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "flush-load", "64 writers and 8 readers while rows become cold").await?;
    let megabytes = options.megabytes.unwrap_or(MEGABYTES);
    let mut programs = options.programs();
    programs.inboxdb_settings.splice(0..0, SETTINGS.map(str::to_owned));
    let folder = bench.folder("inboxdb")?;
    let launch = Launch { programs: &programs, folder: &folder, population: Population::Pool(WRITERS) };
    let inboxdb = InboxDb::start(&launch).await?;
    bench.is_ours(inboxdb.process().pid());
    let mut load = Load::seed(inboxdb, options.phases()).await?;
    let most = load.calibrate().await?;
    load.rate = options.rate.unwrap_or(most * options.load);
    let writers =
        format!("{WRITERS}, level sync, {:.0} rows/s together; without a rate they reach {most:.0}", load.rate);
    bench.configure("writers", writers);
    bench.configure("readers", format!("{READERS}, {READS_A_SECOND} a second each: a row by key, the newest {PAGE}, {PAGE} before a known position, in turn"));
    bench.configure("without", format!("FLUSH_POLICY {NEVER}"));
    bench.configure(
        "with",
        format!(
            "FLUSH_POLICY {ALWAYS}, looked for each second; STORAGE FLUSH TABLE of the mailboxes again and again, and \
             of another table of {megabytes} MiB; STORAGE COMPACT TABLE first and for every {FLUSHES_A_MERGE} flushes"
        ),
    );
    for round in 1..=options.rounds {
        load.fill_ballast(bench.payload(), megabytes).await?;
        for flushing in [false, true] {
            load.admin().await?.jobs_done().await?;
            let work = load.turn(flushing);
            bench.observe_all(round, PeerKind::InboxDb, work).await?;
        }
        load.admin().await?.jobs_done().await?;
    }
    limits(&mut bench);
    load.audit(&mut bench).await?;
    bench.close().await
}

fn name(what: &str, flushing: bool) -> String {
    format!("{what}, {} flushes", if flushing { "with" } else { "without" })
}

fn limits(bench: &mut Bench<'_>) {
    for what in ["inserts", "reads"] {
        let (with, without) = (name(what, true), name(what, false));
        let (with, without) = ((with.as_str(), PeerKind::InboxDb), (without.as_str(), PeerKind::InboxDb));
        if let Some(ratio) = bench.report().ratio(Measure::P99Microseconds, with, without) {
            bench.limit(Limit::new(format!("p99 of {what}, with ÷ without flushes"), ratio.median, P99_RATIO));
        }
    }
}

struct Load {
    inboxdb: InboxDb,
    payload: Payload,
    marks: Vec<Mark>,
    /// Of each reader: numbers of rows and their `_seq`.
    positions: Vec<RefCell<Vec<(i64, String)>>>,
    phases: Phases,
    /// Rows a second of all writers.
    rate: f64,
    /// Of all turns.
    tally: RefCell<Tally>,
}

/// The measured time of a turn.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

impl Window {
    fn holds(&self, at: Instant) -> bool {
        self.from <= at && at < self.until
    }
}

impl Load {
    async fn seed(inboxdb: InboxDb, phases: Phases) -> Result<Self> {
        let marks: Vec<Mark> = (0..WRITERS).map(|_| Mark::default()).collect();
        let positions = (0..READERS).map(|_| RefCell::default()).collect();
        let tally = RefCell::new(Tally::new(phases.measured)?);
        let load = Self { inboxdb, payload: Payload::new(), marks, positions, phases, rate: 0.0, tally };
        for (owner, mark) in load.marks.iter().enumerate() {
            let mut connection = load.inboxdb.connect(owner, Durability::Buffered).await?;
            for number in (0..SEED_ROWS).step_by(usize::try_from(BATCH_ROWS)?) {
                connection.insert_batch(owner, id(owner, number), &load.payload).await?;
            }
            mark.issued.set(SEED_ROWS);
            mark.acknowledged.set(SEED_ROWS);
        }
        load.tally.borrow_mut().acknowledged = WRITERS as u64 * SEED_ROWS.unsigned_abs();
        let mut admin = load.admin().await?;
        admin.storage("FLUSH TABLE chat.messages").await?;
        admin.run("CREATE NAMESPACE bench").await?;
        load.policy(NEVER).await?;
        for (owner, positions) in load.positions.iter().enumerate() {
            let sql = "SELECT id, _seq FROM chat.messages ORDER BY _seq";
            let rows = load.inboxdb.session(owner).await?.rows(sql).await?;
            ensure!(rows.len() as i64 == SEED_ROWS, "of the rows of u{owner}, {} are there", rows.len());
            let every_page = rows.into_iter().enumerate().skip(PAGE).step_by(PAGE);
            positions.borrow_mut().extend(every_page.map(|(number, row)| (number as i64, row[1].clone())));
        }
        Ok(load)
    }

    async fn admin(&self) -> Result<Session> {
        self.inboxdb.instance().admin().await
    }

    async fn policy(&self, policy: &str) -> Result<()> {
        let sql = format!("ALTER TABLE chat.messages SET TBLPROPERTIES (FLUSH_POLICY = '{policy}')");
        self.admin().await?.run(&sql).await.map(drop)
    }

    /// Rows a second that the writers reach when nothing holds them.
    async fn calibrate(&self) -> Result<f64> {
        let from = Instant::now() + Duration::from_secs(1);
        let window = Window { from, until: from + CALIBRATION };
        let tally = self.write_all(window, None).await?;
        let rate = tally.rows as f64 / CALIBRATION.as_secs_f64();
        ensure!(rate > 0.0, "no row was taken: {}", tally.first_failure.unwrap_or_default());
        self.tally.borrow_mut().add(tally)?;
        Ok(rate)
    }

    /// Hot rows of another table, for the turn with flushes.
    async fn fill_ballast(&self, payload: &Payload, megabytes: usize) -> Result<()> {
        let mut admin = self.admin().await?;
        admin.run("DROP TABLE IF EXISTS bench.ballast").await?;
        let options = format!("WITH (TYPE = 'SHARED', FLUSH_POLICY = '{NEVER}')");
        admin.run(&format!("CREATE TABLE bench.ballast (id BIGINT PRIMARY KEY, body TEXT NOT NULL) {options}")).await?;
        let ids = 1..((megabytes << 20) / BODY_BYTES) as i64 + 1;
        let seed = Seed { into: "bench.ballast (id, body)", ids, rows_a_request: 1_000 };
        let write = |id: i64, text: &mut String| {
            for part in [&id.to_string(), ",'", payload.body(id), "'"] {
                text.push_str(part);
            }
        };
        seed.fill(self.inboxdb.instance(), write).await
    }

    async fn turn(&self, flushing: bool) -> Result<Vec<(String, BTreeMap<Measure, f64>)>> {
        self.policy(if flushing { ALWAYS } else { NEVER }).await?;
        let before = self.jobs().await?;
        let from = Instant::now() + self.phases.warm_up;
        let window = Window { from, until: from + self.phases.measured };
        let flushes = async {
            match flushing {
                true => {
                    futures_util::future::try_join(self.flush_mailboxes(window), self.flush_ballast()).await.map(drop)
                }
                false => Ok(()),
            }
        };
        let (writes, reads, ()) =
            futures_util::future::try_join3(self.write_all(window, Some(self.rate)), self.read_all(window), flushes)
                .await?;
        let after = self.jobs().await?;
        self.policy(NEVER).await?;
        let mut written = latencies(&writes);
        written.insert(Measure::RowsPerSecond, writes.rows as f64 / self.phases.measured.as_secs_f64());
        written.insert(Measure::Flushes, after.flushes - before.flushes);
        written.insert(Measure::FlushedMib, after.flushed_mib - before.flushed_mib);
        written.insert(Measure::RewrittenMib, after.rewritten_mib - before.rewritten_mib);
        let mut read = latencies(&reads);
        read.insert(Measure::RequestsPerSecond, reads.requests as f64 / self.phases.measured.as_secs_f64());
        for tally in [writes, reads] {
            self.tally.borrow_mut().add(tally)?;
        }
        Ok(vec![(name("inserts", flushing), written), (name("reads", flushing), read)])
    }

    async fn flush_mailboxes(&self, window: Window) -> Result<()> {
        let mut admin = self.admin().await?;
        for number in 0_usize.. {
            if Instant::now() >= window.until {
                break;
            }
            let verb = if number.is_multiple_of(FLUSHES_A_MERGE) { "COMPACT" } else { "FLUSH" };
            if admin.storage(&format!("{verb} TABLE chat.messages")).await?.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    async fn flush_ballast(&self) -> Result<()> {
        self.admin().await?.storage("FLUSH TABLE bench.ballast").await.map(drop)
    }

    /// What jobs have done up to now.
    async fn jobs(&self) -> Result<Jobs> {
        let sql = "SELECT job_type, message FROM system.jobs WHERE status = 'completed' AND message IS NOT NULL";
        let mut jobs = Jobs::default();
        for row in self.admin().await?.rows(sql).await? {
            let [kind, message] = &row[..] else { bail!("a job was answered {row:?}") };
            let mib = bytes_of(message).unwrap_or(0) as f64 / f64::from(1 << 20);
            match kind.as_str() {
                "flush" => (jobs.flushes, jobs.flushed_mib) = (jobs.flushes + 1.0, jobs.flushed_mib + mib),
                "compact" => jobs.rewritten_mib += mib,
                _ => {}
            }
        }
        Ok(jobs)
    }

    async fn write_all(&self, window: Window, rate: Option<f64>) -> Result<Tally> {
        let mut connections = Vec::new();
        for owner in 0..WRITERS {
            connections.push(self.inboxdb.connect(owner, Durability::Sync).await?);
        }
        let writers = connections.into_iter().enumerate();
        let tallies = try_join_all(writers.map(|(owner, connection)| self.write(owner, connection, window, rate)));
        sum(tallies.await?, self.phases)
    }

    /// One writer, at its share of the rate, or as fast as it goes.
    async fn write(
        &self,
        owner: usize,
        mut connection: InboxDbConnection,
        window: Window,
        rate: Option<f64>,
    ) -> Result<Tally> {
        let (mark, mut tally) = (&self.marks[owner], Tally::new(self.phases.measured)?);
        let apart = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let start = |apart: Duration| Pacer::start(apart.mul_f64(owner as f64), apart * WRITERS as u32);
        let mut pacer = apart.map(start).transpose()?;
        loop {
            let due = match &mut pacer {
                Some(pacer) => pacer.beat().await?,
                None => Instant::now(),
            };
            if due >= window.until {
                return Ok(tally);
            }
            ensure!(Instant::now() < window.until + OVERDUE, "the writers are more than {OVERDUE:?} behind");
            let number = mark.issued.get();
            mark.issued.set(number + 1);
            let id = id(owner, number);
            match connection.insert(owner, id, self.payload.body(id)).await {
                Ok(()) => {
                    mark.acknowledged.set(number + 1);
                    tally.acknowledged += 1;
                    if window.holds(Instant::now()) {
                        tally.rows += 1;
                    }
                    if window.holds(due) {
                        tally.record(due.elapsed());
                    }
                }
                // Not stored: the number is free again, so that pages have no gaps.
                Err(refused @ Failure::Refused(_)) => {
                    mark.issued.set(number);
                    tally.fail(refused);
                }
                Err(failure) => {
                    tally.fail(failure);
                    return Ok(tally);
                }
            }
        }
    }

    async fn read_all(&self, window: Window) -> Result<Tally> {
        let tallies = try_join_all((0..READERS).map(|owner| self.read(owner, window))).await?;
        sum(tallies, self.phases)
    }

    async fn read(&self, owner: usize, window: Window) -> Result<Tally> {
        let mut reader = Reader {
            session: self.inboxdb.session(owner).await?,
            owner,
            mark: &self.marks[owner],
            payload: &self.payload,
            positions: &self.positions[owner],
            random: Random::new(owner as u64),
        };
        let mut tally = Tally::new(self.phases.measured)?;
        let period = Duration::from_secs_f64(1.0 / READS_A_SECOND);
        let mut pacer = Pacer::start(period.mul_f64(owner as f64 / READERS as f64), period)?;
        for turn in 0.. {
            let due = pacer.beat().await?;
            if due >= window.until {
                break;
            }
            ensure!(Instant::now() < window.until + OVERDUE, "the readers are more than {OVERDUE:?} behind");
            let read = match turn % 3 {
                0 => reader.row().await,
                1 => reader.newest().await,
                _ => reader.before().await,
            };
            if let Err(failure) = read {
                if !tally.fail(failure) {
                    break;
                }
                continue;
            }
            tally.all_requests += 1;
            if window.holds(Instant::now()) {
                tally.requests += 1;
            }
            if window.holds(due) {
                tally.record(due.elapsed());
            }
        }
        Ok(tally)
    }

    async fn audit(self, bench: &mut Bench<'_>) -> Result<()> {
        let process = self.inboxdb.process();
        let mut audit = bench.new_audit(PeerKind::InboxDb, self.inboxdb.instance().version(), process.settings());
        audit.add_tally(self.tally.into_inner());
        audit.add_stored(self.inboxdb.stored().await?);
        audit.peak_memory_kib = crate::procfs::memory(process.pid())?.peak_kib();
        bench.limit(Limit::new("refused or unanswered requests", (audit.refused + audit.unanswered) as f64, 0.0));
        bench.add_audit(audit);
        Ok(())
    }
}

#[derive(Default)]
struct Jobs {
    flushes: f64,
    flushed_mib: f64,
    rewritten_mib: f64,
}

/// The bytes that a job's message names.
fn bytes_of(message: &str) -> Option<u64> {
    message.split_once(" bytes")?.0.rsplit(' ').next()?.parse().ok()
}

fn sum(tallies: Vec<Tally>, phases: Phases) -> Result<Tally> {
    let mut sum = Tally::new(phases.measured)?;
    for tally in tallies {
        sum.add(tally)?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_tell_their_bytes() {
        let cases = [
            ("2000 rows of 1 partitions flushed, 9442 bytes in segments", Some(9_442)),
            ("4 rows in 1 segments rewritten, 3358 bytes", Some(3_358)),
            ("nothing to do", None),
        ];
        for (message, expected) in cases {
            assert_eq!(bytes_of(message), expected, "{message}");
        }
    }
}
