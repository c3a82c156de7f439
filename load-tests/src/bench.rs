//! The frame of a row: quiet check, servers, turns with everything that is measured around them, the audit, the result.
//!
//! Owns the rules of a fair run. Never knows a workload: `rows/` do.
//! Invariants: no server is measured while another of ours still works off its last turn; CPU time and bytes of a turn
//! include what the server does afterwards until it idles; a result is written for every run that got to its end.
//! Start at [`Bench::open`], [`Bench::turn`], [`Bench::close`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::conditions::{self, Machine, Others, Snapshot};
use crate::drive::{Client, Finished, Owners, Tally};
use crate::floors;
use crate::options::Options;
use crate::payload::{BODY_BYTES, Payload};
use crate::peers::{Durability, Launch, Peer, PeerKind, Population};
use crate::procfs::{self, Memory, Pid};
use crate::report::{Audit, Limit, Measure, Report, Turn};
use crate::zipf::{Random, Zipf};

const ZIPF_EXPONENT: f64 = 0.99;
/// A server idles when it uses less than this much of a core.
const IDLE_PERCENT: f64 = 5.0;
const IDLE_LOOK_FOR: Duration = Duration::from_millis(500);
/// How long a server may go on with the work of its last turn before we stop waiting for it.
const IDLE_WITHIN: Duration = Duration::from_secs(15);
const CLIENT_BOUND_PERCENT: f64 = 90.0;

pub(crate) struct Bench<'a> {
    options: &'a Options,
    payload: Arc<Payload>,
    /// Before the scratch folder: fields are dropped in order, and servers must stop before their data goes.
    contenders: Vec<Contender>,
    /// Servers that a row runs itself: not strangers on the machine.
    guests: Vec<Pid>,
    scratch: TempDir,
    report: Report,
}

/// A server that takes turns.
struct Contender {
    peer: Peer,
    owners: Option<Arc<Zipf>>,
    ids: Arc<AtomicI64>,
    audit: Audit,
}

/// What a turn is called and what stands beside it.
pub(crate) struct TurnSpec {
    pub(crate) round: u32,
    pub(crate) workload: String,
    /// Acknowledged after fdatasync: the floor is measured in the same minute.
    pub(crate) level: Option<Durability>,
}

impl<'a> Bench<'a> {
    /// Looks whether the machine is quiet, and makes room.
    pub(crate) async fn open(options: &'a Options, row: &'static str, title: &'static str) -> Result<Self> {
        let mut warnings = Vec::new();
        let others = Others::watch(&[]).await?;
        if !others.is_quiet() {
            if !options.even_if_busy {
                bail!(
                    "the machine is not quiet: {others}. Figures would be wrong by up to ten times; wait, or use --even-if-busy"
                );
            }
            warnings.push(format!("the machine was not quiet before the run: {others}. The figures mean little."));
        }
        let mut make = tempfile::Builder::new();
        make.prefix("inboxdb-load-");
        let scratch = match &options.scratch {
            Some(folder) => make.tempdir_in(folder),
            None => make.tempdir(),
        }
        .context("make a scratch folder")?;
        conditions::refuse_memory_file_system(scratch.path())?;
        // Servers that run as another account must get through to their own folder in it.
        std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .context("open the scratch folder")?;
        let phases = options.phases();
        let configuration = BTreeMap::from([
            ("rounds", options.rounds.to_string()),
            ("turn", format!("{:?} warm-up, then {:?} measured", phases.warm_up, phases.measured)),
            ("clients", "one thread, asynchronous, the same for every server; loopback".to_owned()),
            ("payload", format!("{BODY_BYTES}-byte bodies")),
        ]);
        let configuration = configuration.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let machine = Machine::describe()?;
        let report = Report {
            row,
            title,
            date,
            machine,
            configuration,
            warnings,
            lines: Vec::new(),
            comparisons: Vec::new(),
            limits: Vec::new(),
            failures: Vec::new(),
            audits: Vec::new(),
            turns: Vec::new(),
        };
        println!("{row}: {title}");
        Ok(Self {
            options,
            payload: Arc::new(Payload::new()),
            contenders: Vec::new(),
            guests: Vec::new(),
            scratch,
            report,
        })
    }

    pub(crate) fn configure(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.report.configuration.insert(name.into(), value.into());
    }

    /// A new folder for a server that a row runs itself.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.path().join(name);
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// A process that a row started is one of ours.
    pub(crate) fn is_ours(&mut self, pid: Pid) {
        self.guests.push(pid);
    }

    /// The audit of a server that a row runs itself, with the scratch folder's name left out of its settings.
    pub(crate) fn new_audit(&self, kind: PeerKind, version: &str, settings: &str) -> Audit {
        Audit::new(kind, version, settings.replace(&*self.scratch.path().to_string_lossy(), "TMP"))
    }

    pub(crate) fn add_audit(&mut self, audit: Audit) {
        self.report.add_audit(audit);
    }

    /// A wrong answer: the row has failed.
    pub(crate) fn fail(&mut self, text: String) {
        eprintln!("  WRONG: {text}");
        self.report.failures.push(text);
    }

    pub(crate) fn limit(&mut self, limit: Limit) {
        let Limit { what, value, bound, met } = &limit;
        println!("  {}: {what} {value:.2}, {bound}", if *met { "met" } else { "MISSED" });
        self.report.limits.push(limit);
    }

    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// A turn that a row measures itself, when all servers have finished the work of the last one.
    pub(crate) async fn observe(
        &mut self,
        (round, workload, peer): (u32, &str, PeerKind),
        work: impl Future<Output = Result<BTreeMap<Measure, f64>>>,
    ) -> Result<()> {
        let named = async { Ok(vec![(workload.to_owned(), work.await.with_context(|| workload.to_owned())?)]) };
        self.observe_all(round, peer, named).await
    }

    /// The same, where several workloads run at one time.
    pub(crate) async fn observe_all(
        &mut self,
        round: u32,
        peer: PeerKind,
        work: impl Future<Output = Result<Vec<(String, BTreeMap<Measure, f64>)>>>,
    ) -> Result<()> {
        self.wait_until_idle().await?;
        let began = Snapshot::take()?;
        let found = work.await.with_context(|| format!("{peer}, round {round}"))?;
        let ended = Snapshot::take()?;
        let client_cpu_percent = ended.own_percent_since(&began);
        let others = ended.others_since(&began, &self.pids());
        for (workload, figures) in found {
            self.record(Turn { round, workload, peer, figures, client_cpu_percent, others: others.clone() });
        }
        Ok(())
    }

    pub(crate) fn payload(&self) -> &Arc<Payload> {
        &self.payload
    }

    /// Starts those of `kinds` that take part.
    pub(crate) async fn start(&mut self, kinds: &[PeerKind], population: Population) -> Result<()> {
        let users = match population {
            Population::Pool(users) => format!("{users}, each client writes to its own user's mailbox"),
            Population::Agents(users) => {
                format!("{users}, picked by Zipf {ZIPF_EXPONENT}, through one service account")
            }
        };
        self.configure("users", users);
        let zipf = match population {
            Population::Pool(_) => None,
            Population::Agents(users) => Some(Arc::new(Zipf::new(users, ZIPF_EXPONENT))),
        };
        let programs = self.options.programs();
        for kind in self.options.of_these(kinds) {
            let folder = self.scratch.path().join(format!("{kind}-{}", self.report.turns.len()));
            std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
            let launch = Launch { programs: &programs, folder: &folder, population };
            let peer = Peer::start(kind, &launch).await.with_context(|| format!("start {kind}"))?;
            procfs::reset_peaks(peer.process().pid())?;
            let settings = peer.process().settings().replace(&*self.scratch.path().to_string_lossy(), "TMP");
            let audit = Audit::new(kind, peer.version(), settings);
            let ids = Arc::new(AtomicI64::new(1));
            self.contenders.push(Contender { peer, owners: zipf.clone(), ids, audit });
        }
        Ok(())
    }

    /// The servers that take part are numbered from 0.
    pub(crate) fn peers(&self) -> std::ops::Range<usize> {
        0..self.contenders.len()
    }

    pub(crate) fn peer(&self, index: usize) -> &Peer {
        &self.contenders[index].peer
    }

    /// Connected clients of a server; client `number` of a pool is user `number`.
    pub(crate) async fn clients(
        &self,
        index: usize,
        numbers: impl IntoIterator<Item = usize>,
        level: Durability,
    ) -> Result<Vec<Client>> {
        let contender = &self.contenders[index];
        contender.peer.set_durability(level).await?;
        let mut clients = Vec::new();
        for number in numbers {
            clients.push(Client {
                connection: contender.peer.connect(number, level).await?,
                owners: contender.owners.clone().map_or(Owners::One(number), Owners::Zipf),
                ids: Arc::clone(&contender.ids),
                payload: Arc::clone(&self.payload),
                random: Random::new(clients.len() as u64),
            });
        }
        Ok(clients)
    }

    /// Runs `work` on server `index` and measures around it.
    pub(crate) async fn turn(
        &mut self,
        index: usize,
        spec: TurnSpec,
        work: impl Future<Output = Result<Finished>>,
    ) -> Result<()> {
        self.wait_until_idle().await?;
        let kind = self.contenders[index].peer.kind();
        let pid = self.contenders[index].peer.process().pid();
        let floor = match spec.level {
            Some(Durability::Sync) => Some(floors::fsync(self.scratch.path())?),
            _ => None,
        };
        let before = Counters::read(pid, self.scratch.path())?;
        let began = Snapshot::take()?;
        let outcome = work.await;
        let process = self.contenders[index].peer.process();
        let finished =
            outcome.with_context(|| format!("{}, {kind}; its log ends:\n{}", spec.workload, process.log_tail()))?;
        let ended = Snapshot::take()?;
        self.memory(index)?;
        drop(finished.clients);
        self.wait_until_idle().await?;
        let after = Counters::read(pid, self.scratch.path())?;
        let mut figures = figures(&finished.tally, before, after);
        if let Some(floor) = floor {
            figures.insert(Measure::FsyncFloorMicroseconds, floor.as_secs_f64() * 1e6);
        }
        self.contenders[index].audit.add_tally(finished.tally);
        let turn = Turn {
            round: spec.round,
            workload: spec.workload,
            peer: kind,
            figures,
            client_cpu_percent: ended.own_percent_since(&began),
            others: ended.others_since(&began, &self.pids()),
        };
        self.record(turn);
        Ok(())
    }

    /// What server `index` holds now; its peak goes into the audit.
    pub(crate) fn memory(&mut self, index: usize) -> Result<Memory> {
        let contender = &mut self.contenders[index];
        let memory = procfs::memory(contender.peer.process().pid())?;
        contender.audit.peak_memory_kib = contender.audit.peak_memory_kib.max(memory.peak_kib());
        Ok(memory)
    }

    /// Rows that were put there before the turns: audited like all others.
    pub(crate) fn seeded(&mut self, index: usize, tally: Tally) {
        self.contenders[index].audit.add_tally(tally);
    }

    pub(crate) fn record(&mut self, turn: Turn) {
        let shown: Vec<String> =
            turn.figures.iter().map(|(measure, value)| format!("{} {value:.1}", measure.heading())).collect();
        println!("  round {} · {} · {} · {}", turn.round, turn.workload, turn.peer, shown.join(" · "));
        // A library works within the client.
        if turn.client_cpu_percent > CLIENT_BOUND_PERCENT && turn.peer != PeerKind::Sqlite {
            let Turn { round, workload, peer, client_cpu_percent, .. } = &turn;
            self.warn(format!(
                "round {round}, {workload}, {peer}: the client used {client_cpu_percent:.0} % of a core and may be what was measured"
            ));
        }
        if !turn.others.is_quiet() {
            println!("    disturbed: {}", turn.others);
        }
        self.report.turns.push(turn);
    }

    pub(crate) fn warn(&mut self, text: String) {
        eprintln!("  warning: {text}");
        self.report.warnings.push(text);
    }

    /// Of the servers that run.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        let contenders = self.contenders.iter().map(|contender| contender.peer.process().pid());
        // Of the row's own, those that have ended are no longer ours: their number may be another's.
        contenders.chain(self.guests.iter().copied().filter(|pid| procfs::is_child(*pid))).collect()
    }

    pub(crate) async fn wait_until_idle(&mut self) -> Result<()> {
        if !idle(&self.pids()).await? {
            self.warn(format!("a server was still at work {IDLE_WITHIN:?} after its turn"));
        }
        Ok(())
    }

    /// Counts what every server holds against what it acknowledged, and stops them.
    pub(crate) async fn audit_and_stop(&mut self) -> Result<()> {
        for Contender { peer, mut audit, .. } in std::mem::take(&mut self.contenders) {
            let stored = peer.stored().await.with_context(|| format!("count what {} holds", peer.kind()))?;
            audit.add_stored(stored);
            self.report.add_audit(audit);
        }
        Ok(())
    }

    /// Audits, looks at the machine again, and writes the result. Whether nothing was lost.
    pub(crate) async fn close(mut self) -> Result<bool> {
        self.audit_and_stop().await?;
        let others = Others::watch(&[]).await?;
        if !others.is_quiet() {
            self.warn(format!("the machine was not quiet after the run: {others}"));
        }
        let disturbed: Vec<&Others> =
            self.report.turns.iter().map(|turn| &turn.others).filter(|others| !others.is_quiet()).collect();
        if let Some(worst) = disturbed.iter().max_by(|a, b| a.sum_percent.total_cmp(&b.sum_percent)) {
            let text =
                format!("{} of {} turns were disturbed; at worst {worst}", disturbed.len(), self.report.turns.len());
            self.warn(text);
        }
        self.report.summarise();
        let page = self.report.write(&self.options.results)?;
        println!("  → {}", page.display());
        if !self.report.is_clean() {
            eprintln!("  FAILED: rows were lost, doubled or answered wrongly");
        }
        Ok(self.report.is_clean())
    }
}

/// Waits until these servers have nothing to do; `false` when that takes too long.
pub(crate) async fn idle(pids: &[Pid]) -> Result<bool> {
    let give_up = Instant::now() + IDLE_WITHIN;
    let used = || -> Result<Duration> { pids.iter().map(|pid| procfs::cpu_time(*pid)).sum() };
    loop {
        let before = used()?;
        tokio::time::sleep(IDLE_LOOK_FOR).await;
        let worked = used()?.saturating_sub(before);
        if worked.as_secs_f64() < IDLE_LOOK_FOR.as_secs_f64() * IDLE_PERCENT / 100.0 {
            return Ok(true);
        }
        if Instant::now() > give_up {
            return Ok(false);
        }
    }
}

/// What a turn is charged for.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    cpu: Duration,
    written_bytes: Option<u64>,
}

impl Counters {
    fn read(server: Pid, folder: &Path) -> Result<Self> {
        Ok(Self { cpu: procfs::cpu_time(server)?, written_bytes: procfs::device_written_bytes(folder)? })
    }
}

/// The quantiles of a tally.
pub(crate) fn latencies(tally: &Tally) -> BTreeMap<Measure, f64> {
    if tally.latency.is_empty() {
        return BTreeMap::new();
    }
    let quantiles =
        [(Measure::P50Microseconds, 0.5), (Measure::P99Microseconds, 0.99), (Measure::P999Microseconds, 0.999)];
    quantiles.map(|(measure, quantile)| (measure, tally.latency.value_at_quantile(quantile) as f64 / 1e3)).into()
}

/// What a turn's tally and the server's counters come to.
fn figures(tally: &Tally, before: Counters, after: Counters) -> BTreeMap<Measure, f64> {
    let seconds = tally.measured.as_secs_f64();
    let mut figures = BTreeMap::new();
    if tally.rows > 0 {
        figures.insert(Measure::RowsPerSecond, tally.rows as f64 / seconds);
    } else {
        figures.insert(Measure::RequestsPerSecond, tally.requests as f64 / seconds);
    }
    figures.extend(latencies(tally));
    let operations = if tally.acknowledged > 0 { tally.acknowledged } else { tally.all_requests };
    if operations > 0 {
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        figures.insert(Measure::CpuSecondsPerMillion, cpu * 1e6 / operations as f64);
    }
    if let (Some(before), Some(after), 1..) = (before.written_bytes, after.written_bytes, tally.acknowledged) {
        let written = after.saturating_sub(before);
        figures.insert(
            Measure::WrittenBytesPerPayloadByte,
            written as f64 / (tally.acknowledged as f64 * BODY_BYTES as f64),
        );
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_set_against_all_rows_and_rates_against_the_measured_ones() {
        let mut tally = Tally::new(Duration::from_secs(2)).expect("a tally");
        (tally.rows, tally.requests, tally.acknowledged, tally.all_requests) = (1_000, 10, 2_000, 20);
        let before = Counters { cpu: Duration::ZERO, written_bytes: Some(0) };
        let after = Counters { cpu: Duration::from_millis(20), written_bytes: Some(800_000) };
        let figures = figures(&tally, before, after);
        assert_eq!(figures[&Measure::RowsPerSecond], 500.0);
        assert_eq!(figures[&Measure::CpuSecondsPerMillion], 10.0);
        assert_eq!(figures[&Measure::WrittenBytesPerPayloadByte], 2.0);
        assert!(!figures.contains_key(&Measure::P50Microseconds));
    }

    #[test]
    fn reads_are_counted_as_requests() {
        let mut tally = Tally::new(Duration::from_secs(1)).expect("a tally");
        (tally.requests, tally.all_requests) = (100, 200);
        tally.record(Duration::from_micros(50));
        let figures =
            figures(&tally, Counters::default(), Counters { cpu: Duration::from_secs(1), written_bytes: None });
        assert_eq!(figures[&Measure::RequestsPerSecond], 100.0);
        assert_eq!(figures[&Measure::CpuSecondsPerMillion], 5_000.0);
        assert!((figures[&Measure::P50Microseconds] - 50.0).abs() < 0.1);
        assert!(!figures.contains_key(&Measure::WrittenBytesPerPayloadByte));
    }
}
