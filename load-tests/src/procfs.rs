//! What the kernel tells of processes and devices: CPU time, memory, bytes written.
//!
//! Owns the reading of `/proc`. Never decides what is too much: `conditions.rs` does.
//! Invariant: the CPU time of a process tree never falls while its root lives. That of a child that has ended is in
//! what its parent has reaped, and this is counted for the root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

pub(crate) type Pid = u32;

/// The unit of `/proc/diskstats`, whatever the device's own is.
const SECTOR_BYTES: u64 = 512;

/// One line of `/proc/PID/stat`, as far as it is of use here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    pub(crate) name: String,
    pub(crate) parent: Pid,
    /// CPU time of the process itself.
    pub(crate) own: Duration,
    /// CPU time of its children that ended and were waited for.
    reaped: Duration,
}

/// What a server holds now, over all its processes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    processes: usize,
    pub(crate) resident_kib: u64,
    /// Resident, with each shared page counted by its share.
    pub(crate) proportional_kib: u64,
    /// The most that was resident since [`reset_peaks`] (VmHWM).
    pub(crate) peak_resident_kib: u64,
}

impl Memory {
    /// The most that the server is known to have held. Peaks of several processes do not add up: they share pages and
    /// peak at different times. For these it is what they hold together now.
    pub(crate) fn peak_kib(&self) -> u64 {
        if self.processes == 1 { self.peak_resident_kib } else { self.proportional_kib }
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1_000 / rustix::param::clock_ticks_per_second())
}

fn parse_stat(line: &str) -> Option<ProcessStat> {
    // The name stands in brackets and may hold anything, brackets too: the fields begin behind the last one.
    let (head, tail) = line.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(ProcessStat {
        name: name.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(number(11)? + number(12)?),
        reaped: ticks(number(13)? + number(14)?),
    })
}

/// Every process of the machine. One that ends meanwhile is left out.
pub(crate) fn processes() -> Result<BTreeMap<Pid, ProcessStat>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let entry = entry.context("list /proc")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<Pid>().ok()) else { continue };
        let Ok(line) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(stat) = parse_stat(&line) {
            found.insert(pid, stat);
        }
    }
    Ok(found)
}

/// `root` and all that descend from it.
pub(crate) fn tree(processes: &BTreeMap<Pid, ProcessStat>, root: Pid) -> BTreeSet<Pid> {
    let mut members = BTreeSet::from([root]);
    loop {
        let before = members.len();
        members.extend(
            processes
                .iter()
                .filter(|(_, stat)| members.contains(&stat.parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if members.len() == before {
            return members;
        }
    }
}

/// CPU time of a server since it was started, over all its processes.
pub(crate) fn cpu_time(root: Pid) -> Result<Duration> {
    let processes = processes()?;
    let stats = tree(&processes, root).into_iter().filter_map(|pid| Some((pid, processes.get(&pid)?)));
    Ok(stats.map(|(pid, stat)| if pid == root { stat.own + stat.reaped } else { stat.own }).sum())
}

/// Bytes that were ever written to the device that `folder` lies on, once all that is due to it has been written;
/// `None` where it lies on no device of its own.
///
/// Of the whole device, so other writers count too. The `write_bytes` of a process would not, but the kernel counts
/// them when pages become dirty, in units of up to 256 KiB, whatever is written of them later.
pub(crate) fn device_written_bytes(folder: &Path) -> Result<Option<u64>> {
    let open = fs::File::open(folder).with_context(|| format!("open {}", folder.display()))?;
    rustix::fs::syncfs(&open).context("write out what is due")?;
    let device = open.metadata().with_context(|| format!("look at {}", folder.display()))?.dev();
    let devices = fs::read_to_string("/proc/diskstats").context("read /proc/diskstats")?;
    Ok(written_of(&devices, rustix::fs::major(device), rustix::fs::minor(device)))
}

fn written_of(devices: &str, major: u32, minor: u32) -> Option<u64> {
    devices.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_it = fields.first()?.parse() == Ok(major) && fields.get(1)?.parse() == Ok(minor);
        is_it.then(|| fields.get(9)?.parse::<u64>().ok())?.map(|sectors| sectors * SECTOR_BYTES)
    })
}

/// Does this process run, started by us?
pub(crate) fn is_child(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|line| parse_stat(&line));
    stat.is_some_and(|stat| stat.parent == std::process::id())
}

/// The memory of a process and its descendants.
pub(crate) fn memory(root: Pid) -> Result<Memory> {
    let mut sum = Memory::default();
    for pid in tree(&processes()?, root) {
        sum.processes += 1;
        let rollup = format!("/proc/{pid}/smaps_rollup");
        sum.resident_kib += keyed_number(&rollup, "Rss").unwrap_or(0);
        sum.proportional_kib += keyed_number(&rollup, "Pss").unwrap_or(0);
        sum.peak_resident_kib += keyed_number(&format!("/proc/{pid}/status"), "VmHWM").unwrap_or(0);
    }
    Ok(sum)
}

/// Bytes that a server's processes have made dirty or written past the cache, since each was started. Those of children
/// that have ended are gone from it. On file systems with large folios it counts too much: see
/// [`device_written_bytes`].
pub(crate) fn process_written_bytes(root: Pid) -> Result<u64> {
    let written = |pid| keyed_number(&format!("/proc/{pid}/io"), "write_bytes").unwrap_or(0);
    Ok(tree(&processes()?, root).into_iter().map(written).sum())
}

/// Open descriptors of a server's processes.
pub(crate) fn descriptors(root: Pid) -> Result<usize> {
    let open = |pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    Ok(tree(&processes()?, root).into_iter().map(open).sum())
}

/// What a folder takes on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) files: u64,
    /// Blocks that are given to its files.
    pub(crate) bytes: u64,
}

/// Files that vanish meanwhile are left out.
pub(crate) fn footprint(folder: &Path) -> Footprint {
    let mut sum = Footprint::default();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            let below = footprint(&entry.path());
            sum.files += below.files;
            sum.bytes += below.bytes;
        } else {
            sum.files += 1;
            sum.bytes += meta.blocks() * SECTOR_BYTES;
        }
    }
    sum
}

/// Forgets what was resident before, so that a server's set-up is not taken for its load.
pub(crate) fn reset_peaks(root: Pid) -> Result<()> {
    for pid in tree(&processes()?, root) {
        let file = format!("/proc/{pid}/clear_refs");
        fs::write(&file, "5").with_context(|| format!("write {file}"))?;
    }
    Ok(())
}

/// The number behind `key:` in one of the kernel's lists of keys and numbers.
pub(crate) fn keyed_number(path: &str, key: &str) -> Option<u64> {
    number_of(&fs::read_to_string(path).ok()?, key)
}

fn number_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, rest) = line.split_once(':')?;
        (name == key).then(|| rest.split_ascii_whitespace().next()?.parse().ok())?
    })
}

/// CPU time that all cores together have spent working, stolen time included: another tenant's work delays us too.
pub(crate) fn machine_busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    busy_of(&text).context("/proc/stat has no line of all processors")
}

fn busy_of(text: &str) -> Option<Duration> {
    let mut fields =
        text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
    let mut field = || fields.next().flatten();
    let (user, nice, system, _idle, _waiting) = (field()?, field()?, field()?, field()?, field()?);
    let (interrupts, soft_interrupts, stolen) = (field()?, field()?, field()?);
    Some(ticks(user + nice + system + interrupts + soft_interrupts + stolen))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(parent: Pid) -> ProcessStat {
        ProcessStat { name: String::new(), parent, own: Duration::ZERO, reaped: Duration::ZERO }
    }

    #[test]
    fn a_name_may_hold_brackets() {
        let line = "71 (a) (b) S 1 71 71 0 -1 4194560 9 9 9 9 100 50 20 10 20 0 4 0 100 0 0";
        let parsed = parse_stat(line).expect("the line is whole");
        assert_eq!((parsed.name.as_str(), parsed.parent), ("a) (b", 1));
        assert_eq!((parsed.own, parsed.reaped), (ticks(150), ticks(30)));
        assert_eq!(parse_stat("71 (short) S 1"), None);
    }

    #[test]
    fn a_tree_holds_grandchildren_and_nobody_else() {
        let processes = BTreeMap::from([(1, stat(0)), (5, stat(1)), (3, stat(5)), (9, stat(3)), (4, stat(1))]);
        assert_eq!(tree(&processes, 5), BTreeSet::from([3, 5, 9]));
        assert_eq!(tree(&processes, 4), BTreeSet::from([4]));
    }

    #[test]
    fn keys_are_matched_whole() {
        let text = "Pss_Anon:  7 kB\nPss:  12 kB\nname: x\n";
        assert_eq!(number_of(text, "Pss"), Some(12));
        assert_eq!(number_of(text, "Rss"), None);
        assert_eq!(number_of(text, "name"), None);
    }

    #[test]
    fn a_device_is_found_by_its_numbers() {
        let devices = " 254 0 vda 9 9 9 9 10 11 12 13 0 0 0\n 254 1 vda1 9 9 9 9 10 11 20 13 0 0 0\n";
        assert_eq!(written_of(devices, 254, 1), Some(20 * SECTOR_BYTES));
        assert_eq!(written_of(devices, 0, 42), None);
    }

    #[test]
    fn a_footprint_counts_all_files_below() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("below")).expect("made");
        for name in ["a", "below/b"] {
            fs::write(folder.path().join(name), [1; 5_000]).expect("written");
        }
        let found = footprint(folder.path());
        assert_eq!(found.files, 2);
        assert!(found.bytes.is_multiple_of(SECTOR_BYTES), "{found:?}");
    }

    #[test]
    fn our_own_process_is_seen() {
        let own = std::process::id();
        assert!(descriptors(own).expect("counted") >= 3);
        assert!(memory(own).expect("looked at").proportional_kib > 0);
    }

    #[test]
    fn idle_and_waiting_are_not_work() {
        assert_eq!(busy_of("cpu  1 2 3 1000 1000 4 5 6 0 0\ncpu0 …"), Some(ticks(21)));
        assert_eq!(busy_of("cpu  1 2"), None);
    }
}
