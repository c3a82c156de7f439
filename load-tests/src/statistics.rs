//! The little statistics of a report: medians, ranges and ratios over rounds.
//!
//! Owns [`Spread`]. Latencies within a turn are HDR histograms (`drive.rs`); this is what happens to their quantiles
//! over the rounds.

use serde::Serialize;

/// What a measure was over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, least, most })
    }

    /// Ours ÷ theirs, round by round: turns of one round ran within the same minute, so noise that comes and goes
    /// with the minutes cancels. Rounds that lack a side, or where theirs is zero, are left out.
    pub(crate) fn of_ratios(ours: &[(u32, f64)], theirs: &[(u32, f64)]) -> Option<Self> {
        let ratios: Vec<f64> = ours
            .iter()
            .filter_map(|&(round, value)| {
                let &(_, other) = theirs.iter().find(|(theirs, _)| *theirs == round)?;
                (other != 0.0).then_some(value / other)
            })
            .collect();
        Self::of(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        assert_eq!(Spread::of(&[]), None);
        let cases: [(&[f64], [f64; 3]); 3] =
            [(&[3.0], [3.0, 3.0, 3.0]), (&[9.0, 1.0, 2.0], [2.0, 1.0, 9.0]), (&[4.0, 1.0, 3.0, 2.0], [2.5, 1.0, 4.0])];
        for (values, [median, least, most]) in cases {
            assert_eq!(Spread::of(values), Some(Spread { median, least, most }), "{values:?}");
        }
    }

    #[test]
    fn ratios_pair_rounds() {
        let ours = [(1, 10.0), (2, 30.0), (3, 5.0)];
        let theirs = [(3, 10.0), (1, 10.0), (2, 10.0)];
        assert_eq!(Spread::of_ratios(&ours, &theirs), Some(Spread { median: 1.0, least: 0.5, most: 3.0 }));
        assert_eq!(Spread::of_ratios(&ours, &[(2, 15.0), (1, 0.0)]), Spread::of(&[2.0]));
        assert_eq!(Spread::of_ratios(&ours, &[]), None);
    }
}
