//! Seeded randomness for simulations and tests: the same seed gives the same numbers on every machine.

/// A splitmix64 generator (Steele, Lea and Flood, 2014). Not for secrets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns an exponentially distributed number with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    /// The first outputs of the authors' C program for seed 1234567.
    #[test]
    fn gives_the_published_sequence() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
        assert_eq!(random.next_u64(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn means_are_as_stated() {
        let mut random = Random::new(7);
        let n = 100_000;
        let (mut units, mut exponentials) = (0.0, 0.0);
        for _ in 0..n {
            units += random.unit();
            exponentials += random.exponential();
        }
        assert!((units / f64::from(n) - 0.5).abs() < 0.005);
        assert!((exponentials / f64::from(n) - 1.0).abs() < 0.02);
    }
}
