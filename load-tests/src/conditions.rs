//! What a figure is worth: is the machine quiet, and what machine is it.
//!
//! Owns the quiet-machine rule and the description of the machine. Never changes the machine. The rule: no process but ours above [`PROCESS_LIMIT_PERCENT`] of a core, and all of them
//! together not above [`SUM_LIMIT_PERCENT`], since a compiler shows up as many short-lived processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::procfs::{self, Pid};

const PROCESS_LIMIT_PERCENT: f64 = 10.0;
const SUM_LIMIT_PERCENT: f64 = 20.0;
const LOOK_FOR: Duration = Duration::from_secs(2);

/// `fdatasync` of a file in memory costs nothing, so a durable row measured there says nothing.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Who has used how much CPU time up to now.
pub(crate) struct Snapshot {
    at: Instant,
    processes: BTreeMap<Pid, procfs::ProcessStat>,
    busy: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct BusyProcess {
    pid: Pid,
    name: String,
    percent: f64,
}

/// What others did between two snapshots, in percent of one core.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Others {
    pub(crate) sum_percent: f64,
    /// Those above the limit for one process, busiest first.
    pub(crate) above_limit: Vec<BusyProcess>,
}

impl Snapshot {
    pub(crate) fn take() -> Result<Self> {
        Ok(Self { at: Instant::now(), busy: procfs::machine_busy()?, processes: procfs::processes()? })
    }

    /// What everybody did since `earlier`, but for us and the descendants of `servers`.
    pub(crate) fn others_since(&self, earlier: &Snapshot, servers: &[Pid]) -> Others {
        let mut ours = BTreeSet::from([std::process::id()]);
        for &server in servers {
            ours.extend(procfs::tree(&self.processes, server));
        }
        let elapsed = self.at - earlier.at;
        let percent = |worked: Duration| 100.0 * worked.as_secs_f64() / elapsed.as_secs_f64();
        let mut our_work = Duration::ZERO;
        let mut above_limit = Vec::new();
        for (pid, stat) in &self.processes {
            let before = earlier.processes.get(pid).map_or(Duration::ZERO, |before| before.own);
            let worked = stat.own.saturating_sub(before);
            if ours.contains(pid) {
                our_work += worked;
            } else if percent(worked) > PROCESS_LIMIT_PERCENT {
                above_limit.push(BusyProcess { pid: *pid, name: stat.name.clone(), percent: percent(worked) });
            }
        }
        above_limit.sort_by(|a, b| b.percent.total_cmp(&a.percent));
        let all = self.busy.saturating_sub(earlier.busy);
        Others { sum_percent: percent(all.saturating_sub(our_work)), above_limit }
    }

    /// What this process did since `earlier`, in percent of one core.
    pub(crate) fn own_percent_since(&self, earlier: &Snapshot) -> f64 {
        let own =
            |snapshot: &Snapshot| snapshot.processes.get(&std::process::id()).map_or(Duration::ZERO, |stat| stat.own);
        100.0 * own(self).saturating_sub(own(earlier)).as_secs_f64() / (self.at - earlier.at).as_secs_f64()
    }
}

impl Others {
    /// Watches the machine for two seconds.
    pub(crate) async fn watch(servers: &[Pid]) -> Result<Self> {
        let before = Snapshot::take()?;
        tokio::time::sleep(LOOK_FOR).await;
        Ok(Snapshot::take()?.others_since(&before, servers))
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.above_limit.is_empty() && self.sum_percent <= SUM_LIMIT_PERCENT
    }
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "others use {:.0} % of a core", self.sum_percent)?;
        for process in &self.above_limit {
            write!(f, "; {} (pid {}) {:.0} %", process.name, process.pid, process.percent)?;
        }
        Ok(())
    }
}

pub(crate) fn refuse_memory_file_system(folder: &Path) -> Result<()> {
    let found = rustix::fs::statfs(folder).context("ask for the file system of the scratch folder")?;
    ensure!(
        i128::from(found.f_type) != i128::from(TMPFS_MAGIC),
        "{} lies in memory, where a durable write costs nothing: name a folder on a disk with --scratch",
        folder.display()
    );
    Ok(())
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn describe() -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let kernel = rustix::system::uname();
        Ok(Self {
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().context("count the cores")?.get(),
            memory_mib: procfs::keyed_number("/proc/meminfo", "MemTotal").unwrap_or(0) / 1024,
            kernel: format!("{} {}", kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_busy_process_or_a_busy_crowd_is_not_quiet() {
        let busy = BusyProcess { pid: 1, name: "rustc".to_owned(), percent: 97.0 };
        let cases = [
            (Others { sum_percent: 3.0, above_limit: vec![] }, true),
            (Others { sum_percent: 97.0, above_limit: vec![busy] }, false),
            (Others { sum_percent: 60.0, above_limit: vec![] }, false),
        ];
        for (others, quiet) in cases {
            assert_eq!(others.is_quiet(), quiet, "{others}");
        }
    }
}
