//! A result as a page for people.
//!
//! Owns the layout and how many digits a figure deserves. Never computes: the figures are `report.rs`'s.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::{Audit, Bound, Limit, Line, Measure, Report};
use crate::statistics::Spread;

impl Measure {
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Measure::RowsPerSecond => "rows/s",
            Measure::RequestsPerSecond => "requests/s",
            Measure::P50Microseconds => "p50 µs",
            Measure::P99Microseconds => "p99 µs",
            Measure::P999Microseconds => "p99.9 µs",
            Measure::CpuSecondsPerMillion => "server CPU s/M",
            Measure::WrittenBytesPerPayloadByte => "bytes written/payload byte",
            Measure::ResidentKib => "RSS KiB",
            Measure::ProportionalKib => "PSS KiB",
            Measure::SocketKib => "PSS KiB/socket",
            Measure::FsyncFloorMicroseconds => "fsync floor µs",
            Measure::Seconds => "s",
            Measure::Milliseconds => "ms",
            Measure::ProcessWrittenPerPayloadByte => "written by its processes/payload byte",
            Measure::DiskBytesPerPayloadByte => "on disk/payload byte",
            Measure::PeakGrowthKib => "peak growth KiB",
            Measure::Files => "files",
            Measure::Descriptors => "descriptors",
            Measure::Segments => "segments",
            Measure::FlushedMib => "flushed MiB",
            Measure::RewrittenMib => "rewritten MiB",
            Measure::Flushes => "flushes",
            Measure::DeliveredPerSecond => "delivered/s",
            Measure::SubscriptionBytes => "PSS bytes/subscription",
            Measure::UserBytes => "PSS bytes/user",
            Measure::Kills => "kills",
            Measure::Doubled => "doubled",
            Measure::Busy => "told to come back",
        }
    }
}

impl Report {
    pub(super) fn to_markdown(&self) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_page(&mut page);
        page
    }

    fn write_page(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "# {}: {}\n", self.row, self.title)?;
        let machine = &self.machine;
        writeln!(
            page,
            "{} · {} × {} · {} MiB · {}\n",
            self.date, machine.cores, machine.processor, machine.memory_mib, machine.kernel
        )?;
        if !self.is_clean() {
            writeln!(page, "**FAILED: rows were lost, doubled or answered wrongly (see below).**\n")?;
        }
        for warning in &self.warnings {
            writeln!(page, "**Warning:** {warning}\n")?;
        }
        for failure in &self.failures {
            writeln!(page, "**Wrong:** {failure}\n")?;
        }
        self.write_limits(page)?;
        writeln!(page, "Median (least – most) over the rounds.\n")?;
        write_lines(page, &self.lines)?;
        if !self.comparisons.is_empty() {
            writeln!(page, "## InboxDB ÷ server, round by round\n")?;
            write_lines(page, &self.comparisons)?;
        }
        self.write_audits(page)?;
        writeln!(page, "## Configuration\n")?;
        for (name, value) in &self.configuration {
            writeln!(page, "- {name}: {value}")?;
        }
        for audit in &self.audits {
            writeln!(page, "- {}: {}, started with `{}`", audit.peer, audit.version, audit.settings)?;
        }
        Ok(())
    }

    fn write_limits(&self, page: &mut String) -> std::fmt::Result {
        if self.limits.is_empty() {
            return Ok(());
        }
        write_row(page, &["limit", "measured", "bound", ""])?;
        write_rule(page, 4)?;
        for Limit { what, value, bound, met } in &self.limits {
            let verdict = if *met { "met" } else { "**MISSED**" };
            write_row(page, &[what, &show(*value), &bound.to_string(), verdict])?;
        }
        writeln!(page)
    }

    fn write_audits(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "## What became of it\n")?;
        let headings = [
            "server",
            "acknowledged",
            "lost",
            "doubled",
            "refused",
            "wrong",
            "unanswered",
            "of them stored",
            "peak memory MiB",
            "first failure",
        ];
        write_row(page, &headings)?;
        write_rule(page, headings.len())?;
        for audit in &self.audits {
            write_row(page, &audit_cells(audit))?;
        }
        writeln!(page)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtMost(most) => write!(f, "at most {}", show(*most)),
            Bound::AtLeast(least) => write!(f, "at least {}", show(*least)),
        }
    }
}

fn write_lines(page: &mut String, lines: &[Line]) -> std::fmt::Result {
    let measures: BTreeSet<Measure> = lines.iter().flat_map(|line| line.figures.keys().copied()).collect();
    let headings: Vec<&str> =
        ["workload", "server"].into_iter().chain(measures.iter().map(|measure| measure.heading())).collect();
    write_row(page, &headings)?;
    write_rule(page, headings.len())?;
    for Line { workload, peer, figures } in lines {
        let mut cells = vec![workload.clone(), peer.to_string()];
        for measure in &measures {
            cells.push(figures.get(measure).map_or_else(String::new, |spread| show_spread(*spread)));
        }
        write_row(page, &cells)?;
    }
    writeln!(page)
}

fn audit_cells(audit: &Audit) -> Vec<String> {
    vec![
        audit.peer.to_string(),
        audit.acknowledged.to_string(),
        audit.lost.to_string(),
        audit.doubled.map_or_else(|| "not told".to_owned(), |count| count.to_string()),
        audit.refused.to_string(),
        audit.wrong.to_string(),
        audit.unanswered.to_string(),
        audit.stored_unanswered.to_string(),
        show(audit.peak_memory_kib as f64 / 1024.0),
        audit.first_failure.as_deref().unwrap_or_default().replace(['|', '\n'], " "),
    ]
}

fn write_row<S: AsRef<str>>(page: &mut String, cells: &[S]) -> std::fmt::Result {
    for cell in cells {
        write!(page, "| {} ", cell.as_ref())?;
    }
    writeln!(page, "|")
}

fn write_rule(page: &mut String, columns: usize) -> std::fmt::Result {
    writeln!(page, "{}|", "|---".repeat(columns))
}

fn show_spread(spread: Spread) -> String {
    format!("**{}** ({} – {})", show(spread.median), show(spread.least), show(spread.most))
}

/// Three digits are more than these machines repeat; whole numbers above that.
fn show(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => with_thousands(value),
    }
}

fn with_thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let mut shown = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn figures_have_the_digits_they_deserve() {
        let cases = [
            (0.0, "0"),
            (0.1234, "0.123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-1_000.0, "-1,000"),
        ];
        for (value, expected) in cases {
            assert_eq!(show(value), expected);
        }
    }

    #[test]
    fn the_page_says_it_all() {
        let mut report = sample();
        let page = report.to_markdown();
        for part in [
            "# b1: Durable insert",
            "**Warning:** the machine was busy",
            "| workload | server | rows/s | fsync floor µs |",
            "| 1 client | InboxDB | **200** (100 – 300) | **160** (160 – 160) |",
            "| 1 client | PostgreSQL | **2.00** (1.00 – 3.00) |",
            "| p99 ÷ p99 | 2.50 | at most 2.00 | **MISSED** |",
            "| refused | 0 | at most 0 | met |",
            "| speed ÷ speed | 0.400 | at least 0.500 | **MISSED** |",
            "| PostgreSQL | 600 | 0 | 0 | 0 | 0 | 0 | 0 | 2.00 |  |",
            "- rounds: 2",
            "- InboxDB: 1, started with `-x`",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        assert!(!page.contains("FAILED"));
        report.audits[0].lost = 1;
        assert!(report.to_markdown().contains("FAILED"));
    }
}
