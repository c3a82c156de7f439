//! One consumer group in one partition of a topic: what it has acknowledged, and who was given what.
//!
//! Owns the cursor, the claims with their time-outs, how often each message was delivered, and which go to the
//! dead-letter topic.
//! Never reads the log: its bounds come in; holes in it (entries of erased users) count as delivered with their
//! neighbours.
//! Invariants: what lies from the cursor on is acknowledged only by an offset that was delivered; a message stays to be
//! delivered until it is acknowledged, buried or lost. Claims are memory: what is [restored](GroupCore::restore) is
//! visible at once, so a restart delivers again what was not acknowledged.

use std::ops::Range;

use crate::model::{GroupRun, GroupState};

/// What a topic and the server say of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRules {
    /// How long a delivered message is hidden from its group.
    pub visibility_ms: i64,
    /// Deliveries behind which a message is to be buried; `None`: it is delivered for ever.
    pub max_deliveries: Option<u32>,
    /// Delivered and not acknowledged at most: nothing new is delivered beyond.
    pub max_in_flight: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCore {
    cursor: u64,
    /// Ascending, without gap, from the cursor on.
    runs: Vec<Run>,
    lost: u64,
    buried: u64,
}

/// Messages in a row to which the same happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    end: u64,
    deliveries: u32,
    state: RunState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunState {
    /// Until this time. In the past: visible.
    Hidden(i64),
    Buried,
}

impl Run {
    fn is_visible(&self, now_ms: i64) -> bool {
        matches!(self.state, RunState::Hidden(until) if until <= now_ms)
    }
}

/// The offset was never delivered to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeverDelivered {
    /// What would be delivered next.
    pub end: u64,
}

impl GroupCore {
    /// A group that begins at `offset`.
    pub fn new(offset: u64) -> Self {
        Self { cursor: offset, runs: Vec::new(), lost: 0, buried: 0 }
    }

    /// A group as it was stored: whatever it had been given is visible.
    pub fn restore(state: &GroupState) -> Self {
        let mut end = state.cursor;
        let run = |run: &GroupRun| {
            end += run.len;
            let state = if run.buried { RunState::Buried } else { RunState::Hidden(i64::MIN) };
            Run { end, deliveries: run.deliveries, state }
        };
        let runs = state.runs.iter().map(run).collect();
        Self { cursor: state.cursor, runs, lost: state.lost, buried: state.buried }
    }

    /// What is to be stored of it.
    pub fn state(&self, updated_at: i64) -> GroupState {
        let mut runs: Vec<GroupRun> = Vec::new();
        let mut first = self.cursor;
        for run in &self.runs {
            let (len, buried) = (run.end - first, run.state == RunState::Buried);
            first = run.end;
            match runs.last_mut().filter(|last| last.deliveries == run.deliveries && last.buried == buried) {
                Some(last) => last.len += len,
                None => runs.push(GroupRun { len, deliveries: run.deliveries, buried }),
            }
        }
        GroupState { cursor: self.cursor, lost: self.lost, buried: self.buried, runs, updated_at }
    }

    /// Everything below is done with.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// What would be delivered next, of what never was.
    pub fn end(&self) -> u64 {
        self.runs.last().map_or(self.cursor, |run| run.end)
    }

    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What lies below `first` is gone from the log: how many messages the group had not done with.
    pub fn lose(&mut self, first: u64) -> u64 {
        if first <= self.cursor {
            return 0;
        }
        let done = |(range, run): &(Range<u64>, Run)| match run.state {
            RunState::Buried => range.end.min(first).saturating_sub(range.start),
            RunState::Hidden(_) => 0,
        };
        let lost = first - self.cursor - self.ranges().map(|run| done(&run)).sum::<u64>();
        self.advance(first);
        self.lost += lost;
        lost
    }

    /// Messages that were delivered as often as the rules allow and are visible again: at most `limit`, the oldest first.
    pub fn overdue(&self, now_ms: i64, rules: &GroupRules, limit: u64) -> Vec<Range<u64>> {
        let Some(max) = rules.max_deliveries else { return Vec::new() };
        let mut left = limit;
        let mut found = Vec::new();
        for (range, run) in self.ranges() {
            if left == 0 {
                break;
            }
            if run.is_visible(now_ms) && run.deliveries >= max {
                let end = range.end.min(range.start + left);
                left -= end - range.start;
                found.push(range.start..end);
            }
        }
        found
    }

    /// These, which are overdue, are in the dead-letter topic.
    pub fn bury(&mut self, ranges: &[Range<u64>]) {
        for range in ranges {
            self.buried += range.end - range.start;
            self.change(range, |run| Run { state: RunState::Buried, ..run });
        }
        self.advance(self.cursor);
    }

    /// What may be delivered now, ascending. `next`: where the log ends.
    pub fn wanted(&self, now_ms: i64, next: u64, rules: &GroupRules) -> Vec<Range<u64>> {
        let may = |run: &Run| run.is_visible(now_ms) && rules.max_deliveries.is_none_or(|max| run.deliveries < max);
        let mut wanted: Vec<Range<u64>> = self.ranges().filter(|(_, run)| may(run)).map(|(range, _)| range).collect();
        let room = rules.max_in_flight.saturating_sub(self.in_flight());
        let end = self.end();
        let new = end..next.min(end.saturating_add(room)).max(end);
        if !new.is_empty() {
            wanted.push(new);
        }
        wanted
    }

    /// Of what is wanted, all below `up_to` was read and is delivered.
    pub fn claim(&mut self, now_ms: i64, up_to: u64, wanted: &[Range<u64>], rules: &GroupRules) {
        let until = now_ms.saturating_add(rules.visibility_ms);
        for range in wanted.iter().filter(|range| range.start < up_to) {
            let range = range.start..range.end.min(up_to);
            let end = self.end();
            if range.start >= end {
                self.runs.push(Run { end: range.end, deliveries: 0, state: RunState::Hidden(i64::MIN) });
            }
            let claimed =
                |run: Run| Run { deliveries: run.deliveries.saturating_add(1), state: RunState::Hidden(until), ..run };
            self.change(&range, claimed);
        }
    }

    /// How often the message was delivered.
    pub fn deliveries(&self, offset: u64) -> u32 {
        self.ranges().find(|(range, _)| range.contains(&offset)).map_or(0, |(_, run)| run.deliveries)
    }

    /// Everything up to this offset is done with. What was before that already stays so.
    ///
    /// # Errors
    /// Where the message was never delivered.
    pub fn ack(&mut self, upto: u64) -> Result<(), NeverDelivered> {
        if upto < self.cursor {
            return Ok(());
        }
        let end = self.end();
        if upto >= end {
            return Err(NeverDelivered { end });
        }
        self.advance(upto + 1);
        Ok(())
    }

    /// When the next of the messages that are hidden now is visible again.
    pub fn next_visible(&self, now_ms: i64) -> Option<i64> {
        let until = |run: &Run| match run.state {
            RunState::Hidden(until) if until > now_ms => Some(until),
            _ => None,
        };
        self.runs.iter().filter_map(until).min()
    }

    /// Delivered, and neither acknowledged nor buried.
    pub fn in_flight(&self) -> u64 {
        let counts = |(_, run): &(Range<u64>, Run)| run.state != RunState::Buried;
        self.ranges().filter(counts).map(|(range, _)| range.end - range.start).sum()
    }

    fn ranges(&self) -> impl Iterator<Item = (Range<u64>, Run)> {
        let mut first = self.cursor;
        self.runs.iter().map(move |run| {
            let range = first..run.end;
            first = run.end;
            (range, *run)
        })
    }

    /// The cursor moves to `to`, and over what is buried there.
    fn advance(&mut self, to: u64) {
        self.cursor = self.cursor.max(to);
        let done = self.runs.iter().take_while(|run| run.end <= self.cursor || run.state == RunState::Buried);
        if let Some((count, end)) = done.enumerate().last().map(|(at, run)| (at + 1, run.end)) {
            self.cursor = self.cursor.max(end);
            self.runs.drain(..count);
        }
    }

    /// Changes the runs of a range that lies within them, cutting those at its edges.
    fn change(&mut self, range: &Range<u64>, change: impl Fn(Run) -> Run) {
        let mut runs: Vec<Run> = Vec::with_capacity(self.runs.len() + 2);
        let mut push = |run: Run| match runs.last_mut() {
            Some(last) if (last.deliveries, last.state) == (run.deliveries, run.state) => last.end = run.end,
            _ => runs.push(run),
        };
        for (whole, run) in self.ranges() {
            let (start, end) = (whole.start.max(range.start), whole.end.min(range.end));
            if start >= end {
                push(run);
                continue;
            }
            if whole.start < start {
                push(Run { end: start, ..run });
            }
            push(change(Run { end, ..run }));
            if end < whole.end {
                push(run);
            }
        }
        self.runs = runs;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what is meant")]

    use super::*;

    const RULES: GroupRules = GroupRules { visibility_ms: 100, max_deliveries: None, max_in_flight: 100 };

    /// Delivers up to `limit` messages of a log that ends at `next`; the offsets.
    fn deliver(core: &mut GroupCore, now_ms: i64, next: u64, rules: &GroupRules, limit: usize) -> Vec<u64> {
        let wanted = core.wanted(now_ms, next, rules);
        let offsets: Vec<u64> = wanted.iter().cloned().flatten().take(limit).collect();
        if let Some(last) = offsets.last() {
            core.claim(now_ms, last + 1, &wanted, rules);
        }
        offsets
    }

    #[test]
    fn hidden_then_delivered_again_then_acknowledged() {
        let mut core = GroupCore::new(5);
        assert_eq!(deliver(&mut core, 0, 8, &RULES, 2), [5, 6]);
        assert_eq!(deliver(&mut core, 10, 8, &RULES, 9), [7], "another member gets what is left");
        assert_eq!(deliver(&mut core, 99, 9, &RULES, 9), [8]);
        assert_eq!(core.next_visible(99), Some(100));
        assert_eq!(deliver(&mut core, 100, 9, &RULES, 9), [5, 6], "whoever had them is late");
        assert_eq!((core.deliveries(5), core.deliveries(7), core.deliveries(9)), (2, 1, 0));
        assert_eq!(core.ack(9), Err(NeverDelivered { end: 9 }));
        core.ack(5).unwrap();
        assert_eq!((core.cursor(), core.in_flight()), (6, 3));
        core.ack(3).unwrap();
        assert_eq!(core.cursor(), 6, "a late acknowledgement changes nothing");
        core.ack(8).unwrap();
        assert_eq!((core.cursor(), core.end(), core.in_flight()), (9, 9, 0));
        assert_eq!(core.ack(9), Err(NeverDelivered { end: 9 }));
    }

    #[test]
    fn a_restart_delivers_again_and_goes_on_counting() {
        let mut core = GroupCore::new(0);
        deliver(&mut core, 0, 4, &RULES, 4);
        deliver(&mut core, 100, 4, &RULES, 2);
        let state = core.state(7);
        assert_eq!((state.end(), state.in_flight(), state.updated_at), (4, 4, 7));
        let mut again = GroupCore::restore(&state);
        assert_eq!(again.state(7), state);
        assert_eq!(deliver(&mut again, 101, 4, &RULES, 9), [0, 1, 2, 3], "claims are forgotten, counts are not");
        assert_eq!([0, 3].map(|offset| again.deliveries(offset)), [3, 2]);
    }

    #[test]
    fn too_often_is_buried_and_stepped_over() {
        let rules = GroupRules { max_deliveries: Some(2), ..RULES };
        let mut core = GroupCore::new(0);
        deliver(&mut core, 0, 1, &rules, 1);
        deliver(&mut core, 100, 3, &rules, 3);
        assert!(core.overdue(199, &rules, 9).is_empty(), "its last chance is under way");
        assert_eq!(core.overdue(200, &rules, 9), [0..1]);
        assert_eq!(core.wanted(200, 3, &rules), [1..3], "what is overdue is not delivered");
        core.bury(&[0..1]);
        assert_eq!((core.cursor(), core.state(0).buried), (1, 1));
        // One in the middle: the cursor waits for those before it.
        deliver(&mut core, 200, 3, &rules, 1);
        core.ack(0).unwrap();
        assert_eq!(deliver(&mut core, 250, 3, &rules, 9), [2]);
        assert_eq!(core.overdue(350, &rules, 9).into_iter().flatten().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(core.overdue(350, &rules, 1), [1..2], "some at a time");
        core.bury(&[2..3]);
        assert_eq!((core.cursor(), core.in_flight()), (1, 1));
        assert_eq!(GroupCore::restore(&core.state(0)).state(0), core.state(0));
        core.ack(1).unwrap();
        assert_eq!((core.cursor(), core.end()), (3, 3), "over what is buried");
    }

    #[test]
    fn what_retention_took_is_counted() {
        let rules = GroupRules { max_deliveries: Some(1), ..RULES };
        let mut core = GroupCore::new(0);
        deliver(&mut core, 0, 4, &rules, 4);
        core.bury(&[1..2]);
        assert_eq!(core.lose(0), 0);
        assert_eq!(core.lose(3), 2, "one of the three is in the dead-letter topic");
        assert_eq!((core.cursor(), core.end(), core.lost()), (3, 4, 2));
        assert_eq!(core.lose(9), 6);
        assert_eq!((core.cursor(), core.end(), core.lost()), (9, 9, 8));
        assert!(core.wanted(0, 9, &rules).is_empty());
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let rules = GroupRules { max_in_flight: 3, ..RULES };
        let mut core = GroupCore::new(0);
        assert_eq!(deliver(&mut core, 0, 9, &rules, 2), [0, 1]);
        assert_eq!(deliver(&mut core, 0, 9, &rules, 9), [2]);
        assert!(deliver(&mut core, 0, 9, &rules, 9).is_empty());
        assert_eq!(deliver(&mut core, 100, 9, &rules, 9), [0, 1, 2], "again is not new");
        core.ack(0).unwrap();
        assert_eq!(deliver(&mut core, 100, 9, &rules, 9), [3]);
    }
}
