//! Where what is read from storage ends and what happens live begins.
//!
//! Owns LQ-1: joined, the two give each change once, in order; a gap or a step back is found, not passed on.
//!
//! A subscriber is attached first and the view is opened after: so a change is in the view, or delivered live, or both.
//! The *cut* is the last position of the view. Up to the cut storage tells, above it the live events do.

use crate::model::Seq;

/// Joins what is replayed with what is delivered live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    cut: Seq,
    /// Everything up to here has been told.
    told: Seq,
}

/// A position that is not above the one before it: a fault of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("position {seq} came after {told}")]
pub struct OutOfOrder {
    pub told: Seq,
    pub seq: Seq,
}

impl Merge {
    /// For a subscriber that knows everything up to `known`, and a view that ends at `cut`.
    pub fn new(known: Seq, cut: Seq) -> Self {
        // A client may claim more than there is, after data loss: then it is told what is there from the cut on.
        Self { cut, told: known.min(cut) }
    }

    pub fn cut(&self) -> Seq {
        self.cut
    }

    /// Everything up to here has been told.
    pub fn told(&self) -> Seq {
        self.told
    }

    /// Takes a change read from the view.
    ///
    /// # Errors
    /// [`OutOfOrder`], also for one above the cut.
    pub fn replayed(&mut self, seq: Seq) -> Result<(), OutOfOrder> {
        if seq <= self.told || seq > self.cut {
            return Err(OutOfOrder { told: self.told, seq });
        }
        self.told = seq;
        Ok(())
    }

    /// Everything in the view has been told.
    pub fn replay_done(&mut self) {
        self.told = self.told.max(self.cut);
    }

    /// Is a live change at `seq` in the view as well?
    pub fn is_double(&self, seq: Seq) -> bool {
        seq <= self.cut
    }

    /// Takes a live change: `true` where it is to be told, `false` where the view told it.
    ///
    /// # Errors
    /// [`OutOfOrder`], also where the view is not told yet.
    pub fn live(&mut self, seq: Seq) -> Result<bool, OutOfOrder> {
        if self.is_double(seq) {
            return Ok(false);
        }
        if self.told < self.cut || seq <= self.told {
            return Err(OutOfOrder { told: self.told, seq });
        }
        self.told = seq;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::live::testing::seq;

    #[test]
    fn finds_what_is_out_of_order() {
        let mut merge = Merge::new(seq(5), seq(10));
        assert!(merge.live(seq(11)).is_err(), "the view is not told yet");
        merge.replayed(seq(7)).unwrap();
        assert!(merge.replayed(seq(7)).is_err());
        assert!(merge.replayed(seq(6)).is_err());
        assert!(merge.replayed(seq(11)).is_err());
        merge.replay_done();
        assert_eq!(merge.live(seq(10)), Ok(false));
        assert_eq!(merge.live(seq(12)), Ok(true));
        assert!(merge.live(seq(12)).is_err());
        assert!(merge.live(seq(11)).is_err());
    }

    #[test]
    fn a_client_that_claims_more_than_there_is_misses_nothing_new() {
        let mut merge = Merge::new(seq(50), seq(10));
        merge.replay_done();
        assert_eq!(merge.live(seq(11)), Ok(true));
    }

    proptest! {
        /// Commits happen; at `attach` the subscriber is registered, at `view` its view is opened. Both lie anywhere.
        #[test]
        fn any_interleaving_gives_each_change_once_in_order(
            steps in proptest::collection::vec(1i64..5, 0..40),
            from in 0usize..40,
            attach in 0usize..40,
            view in 0usize..40,
        ) {
            let commits: Vec<Seq> = steps.iter().scan(0, |at, step| { *at += step; Some(seq(*at)) }).collect();
            let attach = attach.min(commits.len());
            let view = view.clamp(attach, commits.len());
            let from = from.min(attach);
            let known = if from == 0 { Seq::ZERO } else { commits[from - 1] };

            let head = |count: usize| if count == 0 { Seq::ZERO } else { commits[count - 1] };
            let mut merge = Merge::new(known, head(attach).max(head(view)));
            let mut told = Vec::new();
            for replayed in &commits[from..view] {
                merge.replayed(*replayed).unwrap();
                told.push(*replayed);
            }
            merge.replay_done();
            for live in &commits[attach..] {
                if merge.live(*live).unwrap() {
                    told.push(*live);
                }
            }
            prop_assert_eq!(&told[..], &commits[from..]);
        }
    }
}
