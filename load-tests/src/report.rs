//! What a run found: every turn, the medians over the rounds, the ratios, and what was lost.
//!
//! Owns the shape of a result; `report/markdown.rs` writes it for people. The JSON is this shape as it is.
//! Invariant: a measure keeps its unit: it stands in the measure's name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::conditions::{Machine, Others};
use crate::drive::Tally;
use crate::peers::{PeerKind, Stored};
use crate::statistics::Spread;

mod markdown;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Measure {
    RowsPerSecond,
    RequestsPerSecond,
    P50Microseconds,
    P99Microseconds,
    P999Microseconds,
    CpuSecondsPerMillion,
    WrittenBytesPerPayloadByte,
    ResidentKib,
    ProportionalKib,
    SocketKib,
    FsyncFloorMicroseconds,
    Seconds,
    Milliseconds,
    ProcessWrittenPerPayloadByte,
    DiskBytesPerPayloadByte,
    PeakGrowthKib,
    Files,
    Descriptors,
    Segments,
    FlushedMib,
    RewrittenMib,
    Flushes,
    DeliveredPerSecond,
    SubscriptionBytes,
    UserBytes,
    Kills,
    Doubled,
    Busy,
}

/// A figure and what it must keep to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Limit {
    pub(crate) what: String,
    pub(crate) value: f64,
    #[serde(flatten)]
    pub(crate) bound: Bound,
    pub(crate) met: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    pub(crate) fn new(what: impl Into<String>, value: f64, at_most: f64) -> Self {
        Self { what: what.into(), value, bound: Bound::AtMost(at_most), met: value <= at_most }
    }

    pub(crate) fn at_least(what: impl Into<String>, value: f64, at_least: f64) -> Self {
        Self { what: what.into(), value, bound: Bound::AtLeast(at_least), met: value >= at_least }
    }
}

/// One server's go at one workload in one round.
#[derive(Debug, Serialize)]
pub(crate) struct Turn {
    pub(crate) round: u32,
    pub(crate) workload: String,
    pub(crate) peer: PeerKind,
    pub(crate) figures: BTreeMap<Measure, f64>,
    /// Of one core. Near 100, the client is what was measured.
    pub(crate) client_cpu_percent: f64,
    pub(crate) others: Others,
}

/// What a server did at a workload, over the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) workload: String,
    pub(crate) peer: PeerKind,
    pub(crate) figures: BTreeMap<Measure, Spread>,
}

/// What became of the rows that one server was given, over all turns.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Audit {
    pub(crate) peer: PeerKind,
    pub(crate) version: String,
    pub(crate) settings: String,
    pub(crate) acknowledged: u64,
    /// Acknowledged or promised, but not there.
    pub(crate) lost: u64,
    /// `None` where the server cannot tell.
    pub(crate) doubled: Option<u64>,
    /// Stored, though the client never heard so.
    pub(crate) stored_unanswered: u64,
    pub(crate) refused: u64,
    pub(crate) wrong: u64,
    pub(crate) unanswered: u64,
    pub(crate) first_failure: Option<String>,
    pub(crate) peak_memory_kib: u64,
}

impl Audit {
    pub(crate) fn new(peer: PeerKind, version: &str, settings: String) -> Self {
        Self {
            peer,
            version: version.to_owned(),
            settings,
            acknowledged: 0,
            lost: 0,
            doubled: None,
            stored_unanswered: 0,
            refused: 0,
            wrong: 0,
            unanswered: 0,
            first_failure: None,
            peak_memory_kib: 0,
        }
    }

    /// Adds what the clients saw.
    pub(crate) fn add_tally(&mut self, tally: Tally) {
        self.acknowledged += tally.acknowledged;
        self.lost += tally.lost;
        self.add_doubled(tally.doubled);
        self.refused += tally.refused;
        self.wrong += tally.wrong;
        self.unanswered += tally.unanswered;
        self.first_failure = self.first_failure.take().or(tally.first_failure);
    }

    /// Adds what the server holds at the end.
    pub(crate) fn add_stored(&mut self, stored: Stored) {
        let kept = stored.distinct.unwrap_or(stored.rows);
        self.lost += self.acknowledged.saturating_sub(kept);
        self.stored_unanswered += kept.saturating_sub(self.acknowledged);
        self.add_doubled(stored.distinct.map(|distinct| stored.rows - distinct));
    }

    /// Adds another run of the same server.
    fn add(&mut self, other: Audit) {
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.add_doubled(other.doubled);
        self.stored_unanswered += other.stored_unanswered;
        self.refused += other.refused;
        self.wrong += other.wrong;
        self.unanswered += other.unanswered;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.peak_memory_kib = self.peak_memory_kib.max(other.peak_memory_kib);
    }

    fn add_doubled(&mut self, more: Option<u64>) {
        if let Some(more) = more {
            *self.doubled.get_or_insert(0) += more;
        }
    }

    /// A fast row that lost one event is a failed row.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled.unwrap_or(0) == 0 && self.wrong == 0
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) row: &'static str,
    pub(crate) title: &'static str,
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) configuration: BTreeMap<String, String>,
    /// What makes the figures worth less than they look.
    pub(crate) warnings: Vec<String>,
    pub(crate) lines: Vec<Line>,
    /// InboxDB ÷ the peer, round by round.
    pub(crate) comparisons: Vec<Line>,
    pub(crate) limits: Vec<Limit>,
    /// Wrong answers that no audit counts.
    pub(crate) failures: Vec<String>,
    pub(crate) audits: Vec<Audit>,
    pub(crate) turns: Vec<Turn>,
}

impl Report {
    /// A server that was started more than once has one audit.
    pub(crate) fn add_audit(&mut self, audit: Audit) {
        match self.audits.iter_mut().find(|known| known.peer == audit.peer) {
            Some(known) => known.add(audit),
            None => self.audits.push(audit),
        }
    }

    /// Of one series, over its rounds.
    pub(crate) fn median(&self, measure: Measure, workload: &str, peer: PeerKind) -> Option<f64> {
        let all = series_of(&self.turns);
        let found = all.iter().find(|series| series.workload == workload && series.peer == peer)?;
        let values: Vec<f64> = found.rounds.get(&measure)?.iter().map(|(_, value)| *value).collect();
        Spread::of(&values).map(|spread| spread.median)
    }

    /// A measure of two series, one ÷ the other, round by round.
    pub(crate) fn ratio(&self, measure: Measure, ours: (&str, PeerKind), theirs: (&str, PeerKind)) -> Option<Spread> {
        let all = series_of(&self.turns);
        let find = |(workload, peer): (&str, PeerKind)| {
            all.iter().find(|series| series.workload == workload && series.peer == peer)?.rounds.get(&measure)
        };
        Spread::of_ratios(find(ours)?, find(theirs)?)
    }

    /// Adds up `turns` into lines and comparisons.
    pub(crate) fn summarise(&mut self) {
        let series = series_of(&self.turns);
        for Series { workload, peer, rounds } in &series {
            let spread =
                |values: &[(u32, f64)]| Spread::of(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>());
            let figures = rounds.iter().filter_map(|(measure, values)| Some((*measure, spread(values)?))).collect();
            self.lines.push(Line { workload: workload.clone(), peer: *peer, figures });
        }
        for Series { workload, peer, rounds } in series.iter().filter(|series| series.peer != PeerKind::InboxDb) {
            let ours = series.iter().find(|ours| ours.workload == *workload && ours.peer == PeerKind::InboxDb);
            let Some(ours) = ours else { continue };
            // The floor is the machine's: a ratio of it would look like one of the servers'.
            let compared = rounds.iter().filter(|(measure, _)| **measure != Measure::FsyncFloorMicroseconds);
            let figures = compared
                .filter_map(|(measure, theirs)| Some((*measure, Spread::of_ratios(ours.rounds.get(measure)?, theirs)?)))
                .collect();
            self.comparisons.push(Line { workload: workload.clone(), peer: *peer, figures });
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.audits.iter().all(Audit::is_clean)
    }

    /// Writes the JSON and the Markdown, named after the row and the date; tells where the Markdown is.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let name = format!("{}-{}", self.row, self.date.replace(':', ""));
        let (data, text) = (folder.join(format!("{name}.json")), folder.join(format!("{name}.md")));
        let json = serde_json::to_string_pretty(self).context("write the result as JSON")?;
        fs::write(&data, json + "\n").with_context(|| format!("write {}", data.display()))?;
        fs::write(&text, self.to_markdown()).with_context(|| format!("write {}", text.display()))?;
        Ok(text)
    }
}

/// The turns of one server at one workload.
struct Series {
    workload: String,
    peer: PeerKind,
    /// The round and the value of each turn.
    rounds: BTreeMap<Measure, Vec<(u32, f64)>>,
}

/// In the order in which they first ran.
fn series_of(turns: &[Turn]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for turn in turns {
        let known = all.iter().position(|series| series.workload == turn.workload && series.peer == turn.peer);
        let index = known.unwrap_or_else(|| {
            all.push(Series { workload: turn.workload.clone(), peer: turn.peer, rounds: BTreeMap::new() });
            all.len() - 1
        });
        for (measure, value) in &turn.figures {
            all[index].rounds.entry(*measure).or_default().push((turn.round, *value));
        }
    }
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Report {
        let turn = |round, peer, rate| Turn {
            round,
            workload: "1 client".to_owned(),
            peer,
            figures: BTreeMap::from([(Measure::RowsPerSecond, rate), (Measure::FsyncFloorMicroseconds, 160.0)]),
            client_cpu_percent: 20.0,
            others: Others::default(),
        };
        let audit = |peer| {
            let mut audit = Audit::new(peer, "1", "-x".to_owned());
            (audit.acknowledged, audit.doubled, audit.peak_memory_kib) = (600, Some(0), 2_048);
            audit
        };
        let machine =
            Machine { processor: "a processor".to_owned(), cores: 2, memory_mib: 1_024, kernel: "Linux 6".to_owned() };
        let mut report = Report {
            row: "b1",
            title: "Durable insert",
            date: "2026-01-02T03:04:05Z".to_owned(),
            machine,
            configuration: BTreeMap::from([("rounds".to_owned(), "2".to_owned())]),
            warnings: vec!["the machine was busy".to_owned()],
            lines: Vec::new(),
            comparisons: Vec::new(),
            limits: vec![
                Limit::new("p99 ÷ p99", 2.5, 2.0),
                Limit::new("refused", 0.0, 0.0),
                Limit::at_least("speed ÷ speed", 0.4, 0.5),
            ],
            failures: Vec::new(),
            audits: vec![audit(PeerKind::InboxDb), audit(PeerKind::Postgres)],
            turns: vec![
                turn(1, PeerKind::InboxDb, 300.0),
                turn(1, PeerKind::Postgres, 100.0),
                turn(2, PeerKind::InboxDb, 100.0),
                turn(2, PeerKind::Postgres, 100.0),
            ],
        };
        report.summarise();
        report
    }

    #[test]
    fn rounds_become_lines_and_ratios() {
        let report = sample();
        let ours = &report.lines[0];
        assert_eq!((ours.peer, ours.figures[&Measure::RowsPerSecond].median), (PeerKind::InboxDb, 200.0));
        assert_eq!(report.comparisons.len(), 1);
        let ratios = &report.comparisons[0].figures;
        assert_eq!(ratios[&Measure::RowsPerSecond], Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert!(!ratios.contains_key(&Measure::FsyncFloorMicroseconds));
        let (ours, theirs) = (("1 client", PeerKind::InboxDb), ("1 client", PeerKind::Postgres));
        assert_eq!(report.ratio(Measure::RowsPerSecond, ours, theirs), Some(ratios[&Measure::RowsPerSecond]));
        assert_eq!(report.ratio(Measure::RowsPerSecond, ours, ("", PeerKind::Postgres)), None);
    }

    #[test]
    fn one_lost_or_doubled_row_fails_the_report() {
        let mut report = sample();
        assert!(report.is_clean());
        report.audits[0].lost = 1;
        assert!(!report.is_clean());
        report.audits[0].lost = 0;
        report.audits[1].doubled = Some(1);
        assert!(!report.is_clean());
        report.audits[1].doubled = None;
        report.failures.push("a wrong answer".to_owned());
        assert!(!report.is_clean());
    }

    #[test]
    fn what_is_stored_is_held_against_what_was_acknowledged() {
        let cases = [
            (Stored { rows: 600, distinct: Some(600) }, (0, Some(0), 0)),
            (Stored { rows: 599, distinct: Some(598) }, (2, Some(1), 0)),
            (Stored { rows: 603, distinct: None }, (0, None, 3)),
        ];
        for (stored, expected) in cases {
            let mut audit = Audit::new(PeerKind::Redis, "1", String::new());
            audit.acknowledged = 600;
            audit.add_stored(stored);
            assert_eq!((audit.lost, audit.doubled, audit.stored_unanswered), expected, "{stored:?}");
        }
    }

    #[test]
    fn both_files_are_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = sample().write(folder.path()).expect("written");
        assert_eq!(text.file_name().and_then(|name| name.to_str()), Some("b1-2026-01-02T030405Z.md"));
        let json = fs::read(text.with_extension("json")).expect("the JSON is there");
        let value: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
        assert_eq!(value["lines"][0]["figures"]["rows_per_second"]["median"], 200.0);
        assert_eq!((&value["limits"][0]["at_most"], &value["limits"][2]["at_least"]), (&2.0.into(), &0.5.into()));
    }
}
