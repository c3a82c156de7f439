//! What the demo shows: steps and a progress bar while it plays, then the findings and the figures.
//!
//! Owns the layout: 80 columns, colour only on a terminal that wants it, and a bar only where somebody watches.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use super::proof::{Finding, thousands};

const WIDTH: usize = 80;
/// Where the details of a finding begin.
const CLAIM_WIDTH: usize = 46;

pub(crate) struct Screen {
    started: Instant,
    bar: ProgressBar,
    colours: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the terminal's wish, no setting of ours")]
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { started: Instant::now(), bar: ProgressBar::hidden(), colours }
    }

    /// Text without a time.
    pub(crate) fn line(&self, text: &str) {
        // Nobody may be reading; that is no reason to stop.
        self.bar.suspend(|| {
            let _ = writeln!(io::stdout().lock(), "{text}");
        });
    }

    /// What happened, when, and to whom.
    pub(crate) fn event(&self, who: &str, what: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.line(&format!("{seconds:>6.1} s  {who:<8} {what}"));
    }

    /// From here on the bar is shown; it hides itself where no terminal is.
    pub(crate) fn begin_progress(&mut self, messages: usize) {
        self.bar = ProgressBar::new(u64::try_from(messages).unwrap_or(u64::MAX));
        // A template that is wrong leaves the bar's own style.
        if let Ok(style) = ProgressStyle::with_template("  {wide_bar} {human_pos}/{human_len} {per_sec:>10}") {
            self.bar.set_style(style);
        }
    }

    pub(crate) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    pub(crate) fn end_progress(&self) {
        self.bar.finish_and_clear();
    }

    pub(crate) fn findings(&self, findings: &[Finding]) {
        self.line("\nSeen from the outside:");
        for finding in findings {
            for line in finding_lines(finding, self.colours) {
                self.line(&line);
            }
        }
    }

    pub(crate) fn figures(&self, figures: &Figures<'_>) {
        self.line("\nRates and latencies, the server and all its clients on this machine:");
        for line in figures.lines() {
            self.line(&line);
        }
    }
}

/// One line where it holds; where it does not, what is wrong goes below, wrapped.
fn finding_lines(finding: &Finding, colours: bool) -> Vec<String> {
    let (mark, colour) = if finding.holds { ("✓", "\x1b[32m") } else { ("✗", "\x1b[31m") };
    let mark = if colours { format!("{colour}{mark}\x1b[0m") } else { mark.to_owned() };
    if finding.holds {
        return vec![format!("  {mark} {:<CLAIM_WIDTH$} {}", finding.claim, finding.detail)];
    }
    let mut lines = vec![format!("  {mark} {}", finding.claim)];
    lines.extend(wrap(&finding.detail, WIDTH - 6).into_iter().map(|line| format!("      {line}")));
    lines
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let taken = lines.last().map_or(0, |line| line.chars().count());
        if taken > 0 && taken + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The figures of a run.
pub(crate) struct Figures<'a> {
    pub(crate) messages: usize,
    pub(crate) playing: Duration,
    /// Writes that got no answer when the server was killed, and had been kept.
    pub(crate) found_written: usize,
    pub(crate) write: &'a Histogram<u64>,
    pub(crate) receive: &'a Histogram<u64>,
}

impl Figures<'_> {
    fn lines(&self) -> Vec<String> {
        let seconds = self.playing.as_secs_f64().max(f64::EPSILON);
        // A rate for people: what lies behind the point does not matter.
        let rate = (self.messages as f64 / seconds).round() as usize;
        let messages = thousands(self.messages);
        vec![
            format!(
                "  {messages} durable writes in {seconds:.1} s: {} a second, interruptions included",
                thousands(rate)
            ),
            format!("  write → acknowledged   {}", quantiles(self.write)),
            format!("  write → received live  {}", quantiles(self.receive)),
            format!("  {} writes had no answer when the server was killed, and were kept", self.found_written),
        ]
    }
}

fn quantiles(histogram: &Histogram<u64>) -> String {
    let millis = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile)).as_secs_f64() * 1_000.0;
    format!("p50 {:>7.2} ms   p99 {:>7.2} ms   max {:>7.2} ms", millis(0.5), millis(0.99), millis(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_fit_the_terminal() {
        let long = "user_001 waited 60 s for message 12 ".repeat(6);
        let findings = [
            Finding {
                claim: "each came once and in order to its user",
                holds: true,
                detail: "19,587 rows, 100 sockets".to_owned(),
            },
            Finding { claim: "kill -9 lost nothing acknowledged", holds: false, detail: long },
        ];
        for finding in &findings {
            for line in finding_lines(finding, false) {
                assert!(line.chars().count() <= WIDTH && line.is_ascii() == !line.contains(['✓', '✗']), "{line}");
            }
        }
        assert!(finding_lines(&findings[0], true)[0].contains("\x1b[32m✓\x1b[0m"));
    }

    #[test]
    fn figures_fit_the_terminal() {
        let mut histogram = Histogram::new(3).unwrap();
        histogram.record(1_234_567).unwrap();
        let figures = Figures {
            messages: 19_587,
            playing: Duration::from_millis(12_340),
            found_written: 96,
            write: &histogram,
            receive: &histogram,
        };
        let lines = figures.lines();
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        assert!(lines[0].contains("19,587 durable writes in 12.3 s: 1,587 a second"), "{lines:#?}");
    }
}
