//! B10: one row of a million by its primary key, hot and cold, and one over a thousand segments.
//!
//! Owns how rows are spread over segments. Cold rows lie in a hundred segments or more that the server does not merge:
//! it merges eight neighbours of like size, so small and large flushes alternate. One client, one request at a time,
//! keys evenly drawn, each answer checked.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::bench::{Bench, latencies};
use crate::drive::{Phases, Tally, repeat};
use crate::options::Options;
use crate::payload::Payload;
use crate::peers::{BATCH_ROWS, Durability, Instance, Launch, PeerKind, Population, Postgres, Stored};
use crate::procfs;
use crate::report::{Limit, Measure};
use crate::seed::Seed;
use crate::sqlite::{self, Sqlite};
use crate::zipf::Random;

const ROWS: usize = 1_000_000;
const COLD_SEGMENTS: usize = 100;
const ROWS_A_REQUEST: i64 = 1_000;
/// Of two flushes, the small one's share; neighbours of like size (within four times) would be merged.
const SMALL_SHARE: f64 = 0.1;
/// The rows of a segment of the last part, on average.
const ROWS_OF_MANY: usize = 1_000;
const HOT: &str = "hot";
const COLD_TO_HOT: f64 = 3.0;
const MANY_MICROSECONDS: f64 = 5_000.0;
/// Rows stay hot until this row flushes them.
const SETTINGS: [&str; 2] = ["flush.check_interval=10days", "jobs.history_entries=100000"];

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench =
        Bench::open(options, "b10", "point SELECT by primary key, hot and cold, and over many segments").await?;
    let rows = options.rows.unwrap_or(ROWS).next_multiple_of(usize::try_from(ROWS_A_REQUEST)?);
    bench.configure("rows", format!("{rows} in each table"));
    bench.configure("keys", "evenly drawn, one client, the next request when the last is answered");
    let mut places = Places::prepare(&mut bench, options, rows).await?;
    for round in 1..=options.rounds {
        places.turns(&mut bench, round, options.phases()).await?;
    }
    places.audit(&mut bench).await?;
    let (hot, cold) = ((HOT, PeerKind::InboxDb), ("cold", PeerKind::InboxDb));
    if let Some(ratio) = bench.report().ratio(Measure::P50Microseconds, cold, hot) {
        bench.limit(Limit::new("p50 of a cold row ÷ p50 of a hot one", ratio.median, COLD_TO_HOT));
    }
    let name = many_name(options.segments.next_multiple_of(2));
    if let Some(median) = bench.report().median(Measure::P50Microseconds, &name, PeerKind::InboxDb) {
        bench.limit(Limit::new(format!("{name}, p50 of all of the request, µs"), median, MANY_MICROSECONDS));
    }
    bench.close().await
}

fn many_name(segments: usize) -> String {
    format!("{segments} segments")
}

/// Where the rows lie; those that take part.
struct Places {
    inboxdb: Option<(Instance, Vec<Table>)>,
    postgres: Option<(Postgres, Tally)>,
    sqlite: Option<(Sqlite, Tally)>,
    rows: usize,
    payload: Arc<Payload>,
}

/// One table of InboxDB.
struct Table {
    workload: String,
    name: &'static str,
    rows: usize,
    tally: Tally,
}

impl Places {
    async fn prepare(bench: &mut Bench<'_>, options: &Options, rows: usize) -> Result<Self> {
        let kinds = options.of_these(&[PeerKind::InboxDb, PeerKind::Postgres, PeerKind::Sqlite]);
        let (programs, payload) = (options.programs(), Arc::clone(bench.payload()));
        let mut places = Self { inboxdb: None, postgres: None, sqlite: None, rows, payload };
        let last = i64::try_from(rows)?;
        if kinds.contains(&PeerKind::InboxDb) {
            let instance = Instance::start(&programs, &bench.folder("inboxdb")?, &SETTINGS).await?;
            bench.is_ours(instance.process().pid());
            let tables = places.fill_inboxdb(bench, &instance, options).await?;
            places.inboxdb = Some((instance, tables));
        }
        if kinds.contains(&PeerKind::Postgres) {
            let folder = bench.folder("postgres")?;
            let launch = Launch { programs: &programs, folder: &folder, population: Population::Pool(1) };
            let postgres = Postgres::start(&launch).await?;
            bench.is_ours(postgres.process().pid());
            let mut connection = postgres.connect(Durability::Buffered).await?;
            for first_id in (1..=last).step_by(usize::try_from(BATCH_ROWS)?) {
                connection.insert_batch(0, first_id, &places.payload).await?;
            }
            // Otherwise the first readers would do its work.
            postgres.session().await?.batch_execute("VACUUM ANALYZE messages").await.context("vacuum")?;
            places.postgres = Some((postgres, Tally::new(options.phases().measured)?));
        }
        if kinds.contains(&PeerKind::Sqlite) {
            let mut sqlite = Sqlite::create(&bench.folder("sqlite")?)?;
            sqlite.insert(1..last + 1, ROWS_A_REQUEST, &places.payload)?;
            places.sqlite = Some((sqlite, Tally::new(options.phases().measured)?));
        }
        Ok(places)
    }

    async fn fill_inboxdb(&self, bench: &mut Bench<'_>, instance: &Instance, options: &Options) -> Result<Vec<Table>> {
        let mut admin = instance.admin().await?;
        admin.run("CREATE NAMESPACE bench").await?;
        let segments = options.segments.next_multiple_of(2);
        let many = segments * ROWS_OF_MANY.min(self.rows);
        let tables = [
            (HOT.to_owned(), "hot", self.rows, 0),
            ("cold".to_owned(), "cold", self.rows, COLD_SEGMENTS),
            (many_name(segments), "many", many, segments),
        ];
        let mut filled = Vec::new();
        for (workload, name, rows, segments) in tables {
            let columns = "(id BIGINT PRIMARY KEY, body TEXT NOT NULL)";
            admin.run(&format!("CREATE TABLE bench.{name} {columns} WITH (TYPE = 'SHARED')")).await?;
            for ids in slices(rows, segments) {
                let into = format!("bench.{name} (id, body)");
                let seed = Seed { into: &into, ids, rows_a_request: ROWS_A_REQUEST };
                seed.fill(instance, |id, text| {
                    for part in [&id.to_string(), ",'", self.payload.body(id), "'"] {
                        text.push_str(part);
                    }
                })
                .await?;
                if segments > 0 {
                    admin.storage(&format!("FLUSH TABLE bench.{name}")).await?;
                }
            }
            admin.jobs_done().await?;
            let found = admin.segments("bench", name).await?;
            let (least, most) = (found.iter().map(|one| one.rows).min(), found.iter().map(|one| one.rows).max());
            ensure!(found.len() >= segments, "only {} of {segments} segments of {name} are left", found.len());
            let sizes = format!("{} of {} to {} rows", found.len(), least.unwrap_or(0), most.unwrap_or(0));
            println!("  {name}: {rows} rows, segments: {sizes}");
            bench.configure(format!("segments of {name}"), sizes);
            filled.push(Table { workload, name, rows, tally: Tally::new(options.phases().measured)? });
        }
        Ok(filled)
    }
    /// Everyone once.
    async fn turns(&mut self, bench: &mut Bench<'_>, round: u32, phases: Phases) -> Result<()> {
        let payload = Arc::clone(&self.payload);
        let mut random = Random::new(u64::from(round));
        if let Some((instance, tables)) = &mut self.inboxdb {
            for Table { workload, name, rows, tally } in tables {
                let mut session = instance.admin().await?;
                let table = format!("bench.{name}");
                let one = async || {
                    let id = draw(&mut random, *rows);
                    session.select_row(&table, id, payload.body(id)).await
                };
                turn(bench, (round, workload, PeerKind::InboxDb), repeat(phases, one), tally).await?;
            }
        }
        if let Some((postgres, tally)) = &mut self.postgres {
            let mut connection = postgres.connect(Durability::Buffered).await?;
            let one = async || {
                let id = draw(&mut random, self.rows);
                connection.select(0, id, payload.body(id)).await
            };
            turn(bench, (round, HOT, PeerKind::Postgres), repeat(phases, one), tally).await?;
        }
        if let Some((sqlite, tally)) = &mut self.sqlite {
            let one = async || {
                let id = draw(&mut random, self.rows);
                sqlite.select(id, payload.body(id))
            };
            turn(bench, (round, HOT, PeerKind::Sqlite), repeat(phases, one), tally).await?;
        }
        Ok(())
    }

    /// Everything that was put there must be there still.
    async fn audit(self, bench: &mut Bench<'_>) -> Result<()> {
        if let Some((instance, tables)) = self.inboxdb {
            let mut audit = bench.new_audit(PeerKind::InboxDb, instance.version(), instance.process().settings());
            let mut admin = instance.admin().await?;
            let mut stored = Stored { rows: 0, distinct: Some(0) };
            for Table { name, rows, tally, .. } in tables {
                let counted = admin.numbers(&format!("SELECT COUNT(*), COUNT(DISTINCT id) FROM bench.{name}")).await?;
                audit.acknowledged += rows as u64;
                audit.add_tally(tally);
                stored.rows += counted[0];
                stored.distinct = stored.distinct.map(|sum| sum + counted[1]);
            }
            audit.add_stored(stored);
            audit.peak_memory_kib = procfs::memory(instance.process().pid())?.peak_kib();
            bench.add_audit(audit);
        }
        if let Some((postgres, tally)) = self.postgres {
            let mut audit = bench.new_audit(PeerKind::Postgres, postgres.version(), postgres.process().settings());
            audit.add_tally(tally);
            audit.acknowledged = self.rows as u64;
            audit.add_stored(postgres.stored().await?);
            audit.peak_memory_kib = procfs::memory(postgres.process().pid())?.peak_kib();
            bench.add_audit(audit);
        }
        if let Some((sqlite, tally)) = self.sqlite {
            let mut audit = bench.new_audit(PeerKind::Sqlite, &Sqlite::version(), sqlite::SETTINGS);
            audit.add_tally(tally);
            audit.acknowledged = self.rows as u64;
            audit.add_stored(sqlite.stored()?);
            bench.add_audit(audit);
        }
        Ok(())
    }
}

fn draw(random: &mut Random, rows: usize) -> i64 {
    1 + random.below(rows) as i64
}

/// Measures `reading`; what came of it goes into `tally` for the audit.
async fn turn(
    bench: &mut Bench<'_>,
    turn: (u32, &str, PeerKind),
    reading: impl Future<Output = Result<Tally>>,
    tally: &mut Tally,
) -> Result<()> {
    let work = async {
        let read = reading.await?;
        let mut figures = latencies(&read);
        figures.insert(Measure::RequestsPerSecond, read.requests as f64 / read.measured.as_secs_f64());
        tally.add(read)?;
        Ok(figures)
    };
    bench.observe(turn, work).await
}

/// The rows that go into each of so many segments, an even number, small and large ones in turns; all at once where
/// there are none.
fn slices(rows: usize, segments: usize) -> Vec<Range<i64>> {
    let end_of = |segment: usize| {
        let pairs = (segment / 2) as f64 + if segment % 2 == 1 { SMALL_SHARE } else { 0.0 };
        if segment >= segments { rows } else { (pairs * 2.0 * rows as f64 / segments as f64) as usize }
    };
    let mut start = 1;
    let ends = (1..=segments.max(1)).map(end_of);
    ends.map(|end| {
        let slice = start..end as i64 + 1;
        start = slice.end;
        slice
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_hold_every_row_once_and_neighbours_differ_in_size() {
        for (rows, segments) in [(1_000, 0), (1_000, 2), (10_000, 100), (1_000_000, 1_000)] {
            let slices = slices(rows, segments);
            assert_eq!(slices.len(), segments.max(1));
            assert_eq!((slices[0].start, slices[slices.len() - 1].end), (1, rows as i64 + 1));
            for pair in slices.windows(2) {
                let sizes = [pair[0].end - pair[0].start, pair[1].end - pair[1].start];
                assert_eq!(pair[0].end, pair[1].start);
                assert!(4 * sizes[0].min(sizes[1]) < sizes[0].max(sizes[1]), "{sizes:?}");
            }
        }
    }
}
