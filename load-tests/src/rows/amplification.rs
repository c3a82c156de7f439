//! B12: bytes written and kept for each byte of payload, the memory of a large flush, kill -9 → first read.
//!
//! Owns the phases. Insert alone, everything hot; then kills, each behind further rows; then one flush of all of it and a
//! forced merge. On a second server the whole path as a busy partition takes it: a flush for each ten thousand rows, with
//! the merges that follow. All rows are in one partition, a hundred a request, at level `buffered`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::{Bench, idle};
use crate::options::Options;
use crate::payload::{BODY_BYTES, Payload};
use crate::peers::{
    BATCH_ROWS, Durability, Failure, Instance, Launch, PeerKind, Population, Postgres, PostgresConnection, Stored,
};
use crate::procfs::{self, Pid};
use crate::report::Measure;
use crate::seed::Seed;
use crate::sqlite::{self, Sqlite};

const MEGABYTES: usize = 1_024;
/// Inserted before each kill, so that there is something to recover.
const MORE_MEGABYTES: usize = 64;
/// The default of `flush.default_row_limit`.
const ROWS_A_FLUSH: i64 = 10_000;
const SETTINGS: [&str; 2] = ["flush.check_interval=10days", "jobs.history_entries=100000"];
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

const INSERT: &str = "insert";
const KILL: &str = "kill -9 → first read";
const FLUSH: &str = "one flush of all";
const MERGE: &str = "forced merge";
const WHOLE: &str = "insert, flushes, merges";

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b12", "write and space amplification; a large flush; kill -9").await?;
    let megabytes = options.megabytes.unwrap_or(MEGABYTES);
    let load = Load { rows: rows_of(megabytes), payload: Arc::clone(bench.payload()) };
    bench.configure("hot", format!("{megabytes} MiB in {} rows of one partition, {BATCH_ROWS} a request", load.rows));
    bench.configure("level", "buffered");
    bench.configure("kills", format!("each behind {MORE_MEGABYTES} MiB more"));
    bench.configure(WHOLE, format!("a flush for each {ROWS_A_FLUSH} rows, and what is merged behind it"));
    bench.configure(
        "written",
        "of the device: true on a quiet machine only. Of the processes: pages made dirty, and of 64 to 256 KiB at once on \
         file systems with large folios. With SQLite's checkpoint and PostgreSQL's",
    );
    for kind in options.of_these(&[PeerKind::InboxDb, PeerKind::Postgres, PeerKind::Sqlite]) {
        match kind {
            PeerKind::InboxDb => {
                hot_then_cold(&mut bench, options, &load).await?;
                whole_path(&mut bench, options, &load).await?;
            }
            PeerKind::Postgres => postgres(&mut bench, options, &load).await?,
            _ => in_process(&mut bench, &load).await?,
        }
    }
    bench.close().await
}

fn rows_of(megabytes: usize) -> i64 {
    let rows = (megabytes << 20) / BODY_BYTES;
    rows as i64 / BATCH_ROWS * BATCH_ROWS
}

type Figures = BTreeMap<Measure, f64>;

struct Load {
    rows: i64,
    payload: Arc<Payload>,
}

impl Load {
    async fn fill(&self, instance: &Instance, ids: Range<i64>) -> Result<()> {
        let seed = Seed { into: "bench.messages (id, body)", ids, rows_a_request: BATCH_ROWS };
        let write = |id: i64, text: &mut String| {
            for part in [&id.to_string(), ",'", self.payload.body(id), "'"] {
                text.push_str(part);
            }
        };
        seed.fill(instance, write).await
    }

    async fn start(&self, bench: &mut Bench<'_>, options: &Options, name: &str) -> Result<Instance> {
        let instance = Instance::start(&options.programs(), &bench.folder(name)?, &SETTINGS).await?;
        bench.is_ours(instance.process().pid());
        let mut admin = instance.admin().await?;
        admin.run("CREATE NAMESPACE bench").await?;
        let columns = "(id BIGINT PRIMARY KEY, body TEXT NOT NULL)";
        admin.run(&format!("CREATE TABLE bench.messages {columns} WITH (TYPE = 'SHARED')")).await?;
        Ok(instance)
    }
}

/// What was written up to now, and when.
struct Mark {
    at: Instant,
    server: Pid,
    process: u64,
    device: Option<u64>,
}

impl Mark {
    /// `within`: a folder on the device.
    fn now(server: Pid, within: &Path) -> Result<Self> {
        let device = procfs::device_written_bytes(within)?;
        Ok(Self { at: Instant::now(), server, process: procfs::process_written_bytes(server)?, device })
    }

    /// The figures of what happened since, with what the server does until it idles. `data`: where all of its files are.
    async fn figures(self, rows: i64, data: &Path) -> Result<Figures> {
        let seconds = self.at.elapsed().as_secs_f64();
        // Ours is not idle while it asks.
        if self.server != std::process::id() {
            idle(&[self.server]).await?;
        }
        let now = Mark::now(self.server, data)?;
        let (footprint, payload) = (procfs::footprint(data), rows as f64 * BODY_BYTES as f64);
        let mut figures = Figures::from([
            (Measure::Seconds, seconds),
            (Measure::ProcessWrittenPerPayloadByte, now.process.saturating_sub(self.process) as f64 / payload),
            (Measure::DiskBytesPerPayloadByte, footprint.bytes as f64 / payload),
            (Measure::Files, footprint.files as f64),
        ]);
        if let (Some(before), Some(after)) = (self.device, now.device) {
            figures.insert(Measure::WrittenBytesPerPayloadByte, after.saturating_sub(before) as f64 / payload);
        }
        Ok(figures)
    }
}

async fn hot_then_cold(bench: &mut Bench<'_>, options: &Options, load: &Load) -> Result<()> {
    let mut instance = load.start(bench, options, "inboxdb").await?;
    let data = instance.data();
    let insert = async {
        let mark = Mark::now(instance.process().pid(), &data)?;
        load.fill(&instance, 1..load.rows + 1).await?;
        mark.figures(load.rows, &data).await
    };
    bench.observe((1, INSERT, PeerKind::InboxDb), insert).await?;
    let mut rows = load.rows;
    for round in 1..=options.rounds {
        load.fill(&instance, rows + 1..rows + rows_of(MORE_MEGABYTES) + 1).await?;
        rows += rows_of(MORE_MEGABYTES);
        instance.kill()?;
        let mut read = Ok(());
        let restart = async {
            let began = Instant::now();
            instance.start_again().await?;
            let mut session = instance.admin().await?;
            read = session.select_row("bench.messages", rows, load.payload.body(rows)).await;
            Ok(Figures::from([(Measure::Milliseconds, began.elapsed().as_secs_f64() * 1e3)]))
        };
        bench.observe((round, KILL, PeerKind::InboxDb), restart).await?;
        found(bench, PeerKind::InboxDb, read)?;
        bench.is_ours(instance.process().pid());
    }
    let pid = instance.process().pid();
    for (workload, statement) in [(FLUSH, "FLUSH TABLE bench.messages"), (MERGE, "COMPACT TABLE bench.messages")] {
        let work = async {
            let mark = Mark::now(pid, &data)?;
            let memory = Growth::watch(pid, storage(&instance, statement)).await?;
            let mut figures = mark.figures(rows, &data).await?;
            figures.extend(memory);
            Ok(figures)
        };
        bench.observe((1, workload, PeerKind::InboxDb), work).await?;
    }
    audit(bench, &instance, rows).await
}

/// What was acknowledged before a kill has to be there behind it.
fn found(bench: &mut Bench<'_>, kind: PeerKind, read: Result<(), Failure>) -> Result<()> {
    match read {
        Err(Failure::Wrong(text)) => bench.fail(format!("{kind}, {KILL}: {text}")),
        read => read?,
    }
    Ok(())
}

async fn storage(instance: &Instance, statement: &str) -> Result<()> {
    let mut admin = instance.admin().await?;
    admin.storage(statement).await?;
    admin.jobs_done().await
}

/// What a piece of work adds to a server's memory.
struct Growth;

impl Growth {
    async fn watch(server: Pid, work: impl Future<Output = Result<()>>) -> Result<Figures> {
        procfs::reset_peaks(server)?;
        let before = procfs::memory(server)?;
        let mut most = before.proportional_kib;
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => break done?,
                () = tokio::time::sleep(SAMPLE_EVERY) => {
                    most = most.max(procfs::memory(server)?.proportional_kib);
                }
            }
        }
        let after = procfs::memory(server)?;
        Ok(Figures::from([
            (Measure::PeakGrowthKib, after.peak_resident_kib.saturating_sub(before.resident_kib) as f64),
            (Measure::ProportionalKib, most.max(after.proportional_kib) as f64),
        ]))
    }
}

async fn whole_path(bench: &mut Bench<'_>, options: &Options, load: &Load) -> Result<()> {
    let instance = load.start(bench, options, "inboxdb-whole").await?;
    let data = instance.data();
    let work = async {
        let mark = Mark::now(instance.process().pid(), &data)?;
        let mut admin = instance.admin().await?;
        for first in (1..=load.rows).step_by(usize::try_from(ROWS_A_FLUSH)?) {
            load.fill(&instance, first..(first + ROWS_A_FLUSH).min(load.rows + 1)).await?;
            admin.storage("FLUSH TABLE bench.messages").await?;
        }
        admin.jobs_done().await?;
        let mut figures = mark.figures(load.rows, &data).await?;
        figures.insert(Measure::Segments, admin.segments("bench", "messages").await?.len() as f64);
        Ok(figures)
    };
    bench.observe((1, WHOLE, PeerKind::InboxDb), work).await?;
    audit(bench, &instance, load.rows).await
}

async fn audit(bench: &mut Bench<'_>, instance: &Instance, rows: i64) -> Result<()> {
    let mut audit = bench.new_audit(PeerKind::InboxDb, instance.version(), instance.process().settings());
    let counted = instance.admin().await?.numbers("SELECT COUNT(*), COUNT(DISTINCT id) FROM bench.messages").await?;
    audit.acknowledged = rows.unsigned_abs();
    audit.add_stored(Stored { rows: counted[0], distinct: Some(counted[1]) });
    audit.peak_memory_kib = procfs::memory(instance.process().pid())?.peak_kib();
    bench.add_audit(audit);
    Ok(())
}

async fn postgres(bench: &mut Bench<'_>, options: &Options, load: &Load) -> Result<()> {
    let (programs, folder) = (options.programs(), bench.folder("postgres")?);
    let launch = Launch { programs: &programs, folder: &folder, population: Population::Pool(1) };
    let mut postgres = Postgres::start(&launch).await?;
    bench.is_ours(postgres.process().pid());
    let mut rows = load.rows;
    let insert = async {
        let mut connection = postgres.connect(Durability::Buffered).await?;
        let mark = Mark::now(postgres.process().pid(), &folder)?;
        fill_postgres(&mut connection, 1..rows + 1, &load.payload).await?;
        postgres.session().await?.batch_execute("CHECKPOINT").await.context("checkpoint")?;
        // The connection's process is counted while it lives.
        mark.figures(rows, &postgres.data()).await
    };
    bench.observe((1, INSERT, PeerKind::Postgres), insert).await?;
    for round in 1..=options.rounds {
        let mut connection = postgres.connect(Durability::Buffered).await?;
        fill_postgres(&mut connection, rows + 1..rows + rows_of(MORE_MEGABYTES) + 1, &load.payload).await?;
        rows += rows_of(MORE_MEGABYTES);
        // With synchronous_commit=off, PostgreSQL keeps the newest commits in its memory: a kill may take them. One that
        // is synchronous brings all before it to the log.
        let mut durable = postgres.connect(Durability::Sync).await?;
        fill_postgres(&mut durable, rows + 1..rows + BATCH_ROWS + 1, &load.payload).await?;
        rows += BATCH_ROWS;
        postgres.kill()?;
        let mut read = Ok(());
        let restart = async {
            let began = Instant::now();
            postgres.start_again().await?;
            let mut connection = postgres.connect(Durability::Buffered).await?;
            read = connection.select(0, rows, load.payload.body(rows)).await;
            Ok(Figures::from([(Measure::Milliseconds, began.elapsed().as_secs_f64() * 1e3)]))
        };
        bench.observe((round, KILL, PeerKind::Postgres), restart).await?;
        found(bench, PeerKind::Postgres, read)?;
        bench.is_ours(postgres.process().pid());
    }
    let mut audit = bench.new_audit(PeerKind::Postgres, postgres.version(), postgres.process().settings());
    audit.acknowledged = rows.unsigned_abs();
    audit.add_stored(postgres.stored().await?);
    audit.peak_memory_kib = procfs::memory(postgres.process().pid())?.peak_kib();
    bench.add_audit(audit);
    Ok(())
}

async fn fill_postgres(connection: &mut PostgresConnection, ids: Range<i64>, payload: &Payload) -> Result<()> {
    for first_id in ids.step_by(usize::try_from(BATCH_ROWS)?) {
        connection.insert_batch(0, first_id, payload).await?;
    }
    Ok(())
}

/// SQLite, whose writes are this process's own.
async fn in_process(bench: &mut Bench<'_>, load: &Load) -> Result<()> {
    let mut sqlite = Sqlite::create(&bench.folder("sqlite")?)?;
    let folder = sqlite.folder().to_owned();
    let insert = async {
        let mark = Mark::now(std::process::id(), &folder)?;
        sqlite.insert(1..load.rows + 1, BATCH_ROWS, &load.payload)?;
        sqlite.checkpoint()?;
        mark.figures(load.rows, &folder).await
    };
    bench.observe((1, INSERT, PeerKind::Sqlite), insert).await?;
    let mut audit = bench.new_audit(PeerKind::Sqlite, &Sqlite::version(), sqlite::SETTINGS);
    audit.acknowledged = load.rows.unsigned_abs();
    audit.add_stored(sqlite.stored()?);
    bench.add_audit(audit);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_becomes_whole_requests() {
        assert_eq!(rows_of(1), 5_200);
        assert_eq!(rows_of(1_024) % BATCH_ROWS, 0);
    }

    #[tokio::test]
    async fn what_is_written_is_set_against_the_payload() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mark = Mark::now(std::process::id(), folder.path()).expect("marked");
        std::fs::write(folder.path().join("a"), [1; 40_000]).expect("written");
        let figures = mark.figures(100, folder.path()).await.expect("measured");
        assert_eq!(figures[&Measure::Files], 1.0);
        assert!(figures[&Measure::DiskBytesPerPayloadByte] >= 2.0, "{figures:?}");
    }
}
