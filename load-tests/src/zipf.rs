//! Which user is next: a small random generator, and the Zipf distribution over it.
//!
//! Owns [`Random`] and [`Zipf`]. Never reads a clock or the system's entropy: equal seeds give equal loads, so both
//! sides of a comparison get the same sequence of users.

/// SplitMix64: one multiplication chain a number, good enough to spread load, useless for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly in `0..bound`, but for a bias of 2⁻⁶⁴ × bound.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        (wide >> 64) as usize
    }

    /// Evenly in `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Rank `k` (from 0) is drawn with a probability proportional to `1 / (k + 1)^exponent`.
#[derive(Debug)]
pub(crate) struct Zipf {
    /// `cumulative[k]`: the probability of a rank ≤ k. The last is 1.
    cumulative: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(ranks: usize, exponent: f64) -> Self {
        let mut cumulative = Vec::with_capacity(ranks);
        let mut sum = 0.0;
        for rank in 1..=ranks {
            sum += (rank as f64).powf(-exponent);
            cumulative.push(sum);
        }
        for value in &mut cumulative {
            *value /= sum;
        }
        Self { cumulative }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let point = random.unit();
        self.cumulative.partition_point(|&up_to| up_to <= point).min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ranks_get_their_share() {
        let zipf = Zipf::new(10_000, 0.99);
        let mut random = Random::new(7);
        let mut drawn = vec![0u32; 10_000];
        for _ in 0..200_000 {
            drawn[zipf.draw(&mut random)] += 1;
        }
        let normaliser: f64 = (1..=10_000).map(|rank| f64::from(rank).powf(-0.99)).sum();
        for rank in [0usize, 1, 9, 99] {
            let expected = 200_000.0 * ((rank + 1) as f64).powf(-0.99) / normaliser;
            let got = f64::from(drawn[rank]);
            assert!((got - expected).abs() < 5.0 * expected.sqrt(), "rank {rank}: {got} drawn, {expected} expected");
        }
        assert_eq!(drawn.iter().sum::<u32>(), 200_000);
    }

    #[test]
    fn exponent_zero_is_even_and_one_rank_is_certain() {
        let even = Zipf::new(4, 0.0);
        assert_eq!(even.cumulative, [0.25, 0.5, 0.75, 1.0]);
        let certain = Zipf::new(1, 0.99);
        assert!((0..100).all(|seed| certain.draw(&mut Random::new(seed)) == 0));
    }

    #[test]
    fn below_stays_below_and_reaches_all() {
        let mut random = Random::new(1);
        let mut seen = [false; 10];
        for _ in 0..1_000 {
            seen[random.below(10)] = true;
        }
        assert_eq!(seen, [true; 10]);
    }

    #[test]
    fn equal_seeds_give_equal_sequences() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..5).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
