//! B11: count, group by, top-k and LIKE over millions of cold rows, beside DuckDB on the very same files.
//!
//! Owns the table, its rows and the queries. All of both sides is warm. Nothing is replaced or deleted in the table, so
//! DuckDB may read its files without a filter, which it would otherwise need: the kinder choice. A difference between
//! the two sides' answers fails the row.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::bench::Bench;
use crate::duckdb::DuckDb;
use crate::options::Options;
use crate::peers::{Instance, PeerKind, Session, Stored};
use crate::procfs;
use crate::report::Measure;
use crate::seed::Seed;
use crate::statistics::Spread;
use crate::zipf::{Random, Zipf};

const ROWS: usize = 10_000_000;
const THREADS: usize = 2;
const ROWS_A_REQUEST: i64 = 2_000;
/// Of one query in one turn; their median counts.
const RUNS: usize = 3;
/// 2026-01-01T00:00:00Z; a row a second from then on.
const FIRST_SECOND: u64 = 1_767_225_600;
const SETTINGS: [&str; 2] = ["flush.check_interval=10days", "datafusion.threads=2"];
const WORDS: usize = 4_096;
/// The rank of the word that LIKE looks for: in one of some forty bodies.
const NEEDLE: usize = 200;

const TABLE: &str = "(id BIGINT PRIMARY KEY, conversation_id BIGINT NOT NULL, role TEXT NOT NULL, body TEXT NOT NULL, \
                     created_at TIMESTAMP NOT NULL, tokens INT NOT NULL)";

/// `$T`: the table; `$W`: a word.
const QUERIES: [(&str, &str); 6] = [
    ("count", "SELECT COUNT(*) FROM $T"),
    ("count where", "SELECT COUNT(*) FROM $T WHERE tokens >= 1500 AND role = 'assistant'"),
    ("group by role", "SELECT role, COUNT(*), SUM(tokens), MAX(id) FROM $T GROUP BY role ORDER BY role"),
    (
        "group by conversation",
        "SELECT conversation_id, COUNT(*) AS n, SUM(tokens) FROM $T GROUP BY conversation_id \
         ORDER BY n DESC, conversation_id LIMIT 10",
    ),
    ("top-k", "SELECT id, conversation_id, tokens, body FROM $T ORDER BY tokens DESC, id LIMIT 20"),
    ("LIKE", "SELECT COUNT(*) FROM $T WHERE body LIKE '%$W%'"),
];

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b11", "analytics on cold segments").await?;
    let rows = options.rows.unwrap_or(ROWS);
    let words = Words::new();
    let instance = Instance::start(&options.programs(), &bench.folder("inboxdb")?, &SETTINGS).await?;
    bench.is_ours(instance.process().pid());
    bench.configure("rows", format!("{rows}, SHARED table {TABLE}, none replaced or deleted"));
    bench.configure("threads", format!("{THREADS} on each side"));
    bench.configure(
        "a turn",
        format!("the median of {RUNS} runs, all warm; InboxDB over HTTP, DuckDB without its pipe"),
    );
    let mut admin = instance.admin().await?;
    let files = prepare(&mut bench, &instance, rows, &words).await?;
    let mut duckdb = match options.of_these(&[PeerKind::DuckDb]).is_empty() {
        true => None,
        false => Some(start_duckdb(&mut bench, options, &files)?),
    };
    for (workload, text) in QUERIES {
        let text = text.replace("$W", &words.words[NEEDLE]);
        bench.configure(format!("query {workload}"), &text);
        let query = Query { workload, ours: text.replace("$T", "bench.events"), theirs: text.replace("$T", "events") };
        query.turns(&mut bench, options.rounds, &mut admin, duckdb.as_mut()).await?;
    }
    let mut audit = bench.new_audit(PeerKind::InboxDb, instance.version(), instance.process().settings());
    let counted = admin.numbers("SELECT COUNT(*), COUNT(DISTINCT id) FROM bench.events").await?;
    audit.acknowledged = rows as u64;
    audit.add_stored(Stored { rows: counted[0], distinct: Some(counted[1]) });
    audit.peak_memory_kib = procfs::memory(instance.process().pid())?.peak_kib();
    bench.add_audit(audit);
    bench.close().await
}

/// Loads the rows and makes them cold; the files they lie in.
async fn prepare(bench: &mut Bench<'_>, instance: &Instance, rows: usize, words: &Words) -> Result<Vec<PathBuf>> {
    let mut admin = instance.admin().await?;
    admin.run("CREATE NAMESPACE bench").await?;
    admin.run(&format!("CREATE TABLE bench.events {TABLE} WITH (TYPE = 'SHARED')")).await?;
    let ids = 1..i64::try_from(rows)? + 1;
    let seed = Seed { into: "bench.events", ids, rows_a_request: ROWS_A_REQUEST };
    let began = Instant::now();
    seed.fill(instance, |id, text| words.write_row(id, rows, text)).await?;
    let loaded = began.elapsed().as_secs_f64();
    let began = Instant::now();
    admin.storage("FLUSH TABLE bench.events").await?.context("nothing was flushed")?;
    admin.jobs_done().await?;
    let flushed = began.elapsed().as_secs_f64();
    println!("  loaded in {loaded:.1} s, flushed and merged in {flushed:.1} s");
    bench.configure("loading", format!("{loaded:.1} s to load, {flushed:.1} s to flush and merge"));
    let segments = admin.segments("bench", "events").await?;
    let cold: u64 = segments.iter().map(|segment| segment.rows).sum();
    let deleted: u64 = segments.iter().map(|segment| segment.deleted_rows).sum();
    ensure!(cold == rows as u64 && deleted == 0, "of {rows} rows, {cold} are cold, {deleted} of them deleted");
    let folder = instance.data().join("cold");
    let files: Vec<PathBuf> = segments.iter().map(|segment| folder.join(&segment.path)).collect();
    let bytes: u64 = files.iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    bench.configure("segments", format!("{} files, {} MiB", files.len(), bytes >> 20));
    Ok(files)
}

fn start_duckdb(bench: &mut Bench<'_>, options: &Options, files: &[PathBuf]) -> Result<DuckDb> {
    let mut duckdb = DuckDb::start(&options.duckdb, &bench.folder("duckdb")?, THREADS)?;
    bench.is_ours(duckdb.pid());
    duckdb.view("events", files)?;
    let version = duckdb.version()?;
    bench.add_audit(bench.new_audit(PeerKind::DuckDb, &version, &format!("SET threads = {THREADS}")));
    Ok(duckdb)
}

struct Query {
    workload: &'static str,
    ours: String,
    theirs: String,
}

impl Query {
    async fn turns(
        &self,
        bench: &mut Bench<'_>,
        rounds: u32,
        admin: &mut Session,
        mut duckdb: Option<&mut DuckDb>,
    ) -> Result<()> {
        // These also warm the pages.
        let ours = admin.rows(&self.ours).await?;
        if let Some(duckdb) = duckdb.as_deref_mut() {
            let (_, theirs) = duckdb.query(&self.theirs)?;
            if ours != theirs {
                let text = format!("{}: InboxDB answered {ours:?}, DuckDB {theirs:?}", self.workload);
                bench.fail(text.chars().take(1_000).collect());
            }
        }
        for round in 1..=rounds {
            let mut different = 0;
            let work = async {
                let mut times = Vec::new();
                for _ in 0..RUNS {
                    let began = Instant::now();
                    let answer = admin.rows(&self.ours).await?;
                    times.push(began.elapsed());
                    different += usize::from(answer != ours);
                }
                figures(&times)
            };
            bench.observe((round, self.workload, PeerKind::InboxDb), work).await?;
            if different > 0 {
                bench.fail(format!("{}: InboxDB answered differently in round {round}", self.workload));
            }
            if let Some(duckdb) = duckdb.as_deref_mut() {
                let work = async {
                    let times = (0..RUNS).map(|_| Ok(duckdb.query(&self.theirs)?.0)).collect::<Result<Vec<_>>>()?;
                    figures(&times)
                };
                bench.observe((round, self.workload, PeerKind::DuckDb), work).await?;
            }
        }
        Ok(())
    }
}

/// The rate too: its ratio is that of speeds.
fn figures(times: &[Duration]) -> Result<std::collections::BTreeMap<Measure, f64>> {
    let seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    let median = Spread::of(&seconds).context("no query ran")?.median;
    Ok([(Measure::Milliseconds, median * 1e3), (Measure::RequestsPerSecond, 1.0 / median)].into())
}

/// The rows' texts: words by Zipf, so that files compress about as text does.
struct Words {
    words: Vec<String>,
    ranks: Zipf,
}

impl Words {
    fn new() -> Self {
        let word = |rank: usize| {
            let mut random = Random::new(rank as u64);
            (0..3 + random.below(7)).map(|_| char::from(b'a' + random.below(26) as u8)).collect()
        };
        Self { words: (0..WORDS).map(word).collect(), ranks: Zipf::new(WORDS, 0.99) }
    }

    /// What stands between the brackets of a row's VALUES, the same whenever it is asked for.
    fn write_row(&self, id: i64, rows: usize, text: &mut String) {
        let mut random = Random::new(id.cast_unsigned());
        let conversation = random.below((rows / 100).max(1));
        let role = match random.below(50) {
            0 => "system",
            1..=4 => "tool",
            5..=26 => "assistant",
            _ => "user",
        };
        let created = UNIX_EPOCH + Duration::from_secs(FIRST_SECOND + id.unsigned_abs());
        let created = humantime::format_rfc3339_seconds(created);
        // Writing to a string cannot fail.
        let _ = write!(text, "{id},{conversation},'{role}','");
        for index in 0..15 + random.below(20) {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(&self.words[self.ranks.draw(&mut random)]);
        }
        let _ = write!(text, "','{created}',{}", random.below(2_000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_whenever_they_are_written() {
        let words = Words::new();
        let row = |id| {
            let mut text = String::new();
            words.write_row(id, 1_000, &mut text);
            text
        };
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
        assert!(row(7).starts_with("7,") && row(7).contains("','2026-01-01T00:00:07Z',"), "{}", row(7));
        let bodies: usize = (1..=1_000).map(|id| row(id).split('\'').nth(3).map_or(0, str::len)).sum();
        assert!((100_000..200_000).contains(&bodies), "{bodies} bytes in a thousand bodies");
    }

    #[test]
    fn a_turn_is_the_median_of_its_runs() {
        let times = [3, 1, 2].map(Duration::from_millis);
        let figures = figures(&times).expect("there are runs");
        assert_eq!(figures[&Measure::Milliseconds], 2.0);
        assert_eq!(figures[&Measure::RequestsPerSecond], 500.0);
    }
}
