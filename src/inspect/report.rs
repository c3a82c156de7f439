//! What an inspection shows in a terminal: a bar while segments are read, then tables of figures and the faults.
//!
//! Owns the layout. Columns are as wide as what is in them; a fault takes two lines, its file whole so that it can be copied.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

use super::findings::{Count, Findings};
use crate::demo;
use crate::model::TableName;

/// A bar on stderr, where a terminal is.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// `bytes` of segments to read; 0 where none is read.
    pub fn new(bytes: u64) -> Self {
        let bar = ProgressBar::new(bytes);
        let template = match bytes {
            0 => "  {spinner} {msg}",
            _ => "  {wide_bar} {binary_bytes}/{binary_total_bytes}  {elapsed}  {msg}",
        };
        // A template that is wrong leaves the bar's own style.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    pub fn at(&self, table: &TableName) {
        self.0.set_message(table.to_string());
    }

    pub fn done(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// The findings for people.
pub(super) fn text(found: &Findings) -> String {
    #[expect(clippy::disallowed_methods, reason = "the terminal's wish, no setting of ours")]
    let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut out = String::new();
    let commits = counted(found.commits, "commit");
    out.push_str(&format!("{}: format {}, {commits}\n", found.data, found.format));
    for part in [hot(found), namespaces(found), storages(found), tables(found), owners(found), topics(found)] {
        if !part.is_empty() {
            out.push('\n');
            out.push_str(&part);
        }
    }
    out.push('\n');
    if found.dropped_tables > 0 {
        let dropped = counted(found.dropped_tables as u64, "dropped table");
        out.push_str(&format!("  {dropped} still to be removed by the server\n"));
    }
    out.push_str(&verdict(found, colours));
    out
}

fn hot(found: &Findings) -> String {
    let mut rows = vec![texts(["keyspace", "entries", "on disk"])];
    for keyspace in &found.hot.keyspaces {
        let entries = keyspace.entries.map_or_else(|| "?".to_owned(), thousands);
        rows.push(vec![keyspace.name.clone(), entries, size(keyspace.bytes)]);
    }
    rows.push(vec!["journal".to_owned(), String::new(), size(found.hot.journal_bytes)]);
    aligned(&rows, 1)
}

fn namespaces(found: &Findings) -> String {
    let mut rows = vec![texts(["namespace", "tables"])];
    rows.extend(found.namespaces.iter().map(|n| vec![n.name.clone(), thousands(n.tables as u64)]));
    aligned(&rows, 1)
}

fn storages(found: &Findings) -> String {
    let mut rows = vec![texts(["storage", "type", "base", "tables", "segments", "bytes"])];
    for storage in &found.storages {
        let mut row = vec![storage.id.clone(), storage.kind.to_owned(), storage.base.clone()];
        row.extend([thousands(storage.tables as u64), thousands(storage.segments), size(storage.bytes)]);
        rows.push(row);
    }
    aligned(&rows, 3)
}

fn topics(found: &Findings) -> String {
    if found.topics.is_empty() {
        return String::new();
    }
    let mut rows = vec![texts(["topic", "partitions", "entries", "bytes", "groups"])];
    for topic in &found.topics {
        let mut row = vec![topic.topic.clone(), thousands(u64::from(topic.partitions)), thousands(topic.entries)];
        row.extend([size(topic.bytes), thousands(topic.groups)]);
        rows.push(row);
    }
    aligned(&rows, 1)
}

const COUNTS: [&str; 5] = ["hot rows", "segments", "cold rows", "deleted", "bytes"];

fn counts(count: &Count) -> [String; 5] {
    let Count { hot_rows, segments, cold_rows, deleted_rows, bytes, .. } = *count;
    [thousands(hot_rows), thousands(segments), thousands(cold_rows), thousands(deleted_rows), size(bytes)]
}

fn tables(found: &Findings) -> String {
    if found.tables.is_empty() {
        return "  no tables\n".to_owned();
    }
    let mut head = texts(["table", "kind", "storage", "partitions"]);
    head.extend(texts(COUNTS));
    let mut rows = vec![head];
    for table in &found.tables {
        let mut row = vec![table.table.clone(), table.kind.to_owned(), table.storage.clone()];
        row.push(thousands(table.partitions as u64));
        row.extend(counts(&table.count));
        rows.push(row);
    }
    aligned(&rows, 3)
}

fn owners(found: &Findings) -> String {
    let mut head = texts(["owner"]);
    head.extend(texts(COUNTS));
    let mut rows = vec![head];
    for partition in found.tables.iter().filter_map(|table| table.owners.as_ref()).flatten() {
        let mut row = vec![partition.owner.clone().unwrap_or_else(|| "(shared)".to_owned())];
        row.extend(counts(&partition.count));
        rows.push(row);
    }
    if rows.len() == 1 { String::new() } else { aligned(&rows, 1) }
}

fn verdict(found: &Findings, colours: bool) -> String {
    let mark = |mark: &str, colour: u8| if colours { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_owned() };
    let mut out = String::new();
    match &found.verified {
        Some(v) if v.segments > 0 => {
            let (segments, rows) = (counted(v.segments, "segment"), counted(v.rows, "row"));
            let were = if v.segments == 1 { "is as it was" } else { "are as they were" };
            out.push_str(&format!("  {} {segments} {were} written: {rows}, {}\n", mark("✓", 32), size(v.bytes)));
        }
        Some(_) => {}
        None => out.push_str("  segments were not read: --no-verify\n"),
    }
    if found.faults.is_empty() {
        out.push_str(&format!("  {} no faults\n", mark("✓", 32)));
    }
    for fault in &found.faults {
        out.push_str(&format!("  {} {}\n      {}\n", mark("✗", 31), fault.file, fault.reason));
    }
    out
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// Columns under each other: the first `words` to the left, figures to the right.
fn aligned(rows: &[Vec<String>], words: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cell = if column < words { format!(" {cell:<width$}") } else { format!("  {cell:>width$}") };
            line.push_str(&cell);
            if column + 1 < words {
                line.push(' ');
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// `1 fault`, `1,000 faults`.
pub(super) fn counted(number: u64, what: &str) -> String {
    demo::counted(usize::try_from(number).unwrap_or(usize::MAX), what)
}

fn thousands(number: u64) -> String {
    demo::thousands(usize::try_from(number).unwrap_or(usize::MAX))
}
