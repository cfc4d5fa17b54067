//! Which instructions the processor has, found out once when a forest is compiled.

/// Instructions that this processor has. A value of this type is the proof of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instructions(Level);

/// Each level has what the ones before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What every processor of the architecture has.
    Portable,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// And VBMI: permutations of bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512Bytes,
}

impl Instructions {
    /// Finds out.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn detect() -> Self {
        use std::arch::is_x86_feature_detected as has;
        let has_avx512 =
            has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
        Self(match (has!("avx2"), has_avx512, has!("avx512vbmi")) {
            (false, ..) => Level::Portable,
            (true, false, _) => Level::Avx2,
            (true, true, false) => Level::Avx512,
            (true, true, true) => Level::Avx512Bytes,
        })
    }

    /// Finds out.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn detect() -> Self {
        Self(Level::Portable)
    }

    /// Returns the highest level there is.
    pub(crate) fn level(self) -> Level {
        self.0
    }

    /// Returns every level that this processor has, for tests.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut levels = vec![Self(Level::Portable)];
        #[cfg(target_arch = "x86_64")]
        levels.extend([Level::Avx2, Level::Avx512, Level::Avx512Bytes].map(Self));
        levels.retain(|&level| level <= Self::detect());
        levels
    }
}
