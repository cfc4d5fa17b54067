//! Distances between rows of truth values: whatever is not zero is true.

use super::count;

/// A distance that compares truth values, by its name in scikit-learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TruthMetric {
    /// Differing over twice both and differing.
    Dice,
    /// Differing over any.
    Jaccard,
    /// Columns without both, and differing, over all columns and differing.
    Kulsinski,
    /// Differing over all columns.
    Matching,
    /// Twice differing over all columns and differing.
    RogersTanimoto,
    /// Columns without both over all columns.
    RussellRao,
    /// Differing over differing and half of both.
    SokalSneath,
    /// How far apart the odds of agreement are.
    Yule,
}

impl TruthMetric {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "dice" => Self::Dice,
            "jaccard" => Self::Jaccard,
            "kulsinski" => Self::Kulsinski,
            "matching" => Self::Matching,
            "rogerstanimoto" | "sokalmichener" => Self::RogersTanimoto,
            "russellrao" => Self::RussellRao,
            "sokalsneath" => Self::SokalSneath,
            "yule" => Self::Yule,
            _ => return None,
        })
    }

    /// Returns the distance of two rows.
    pub(super) fn of(self, left: &[f64], right: &[f64]) -> f64 {
        let [mut both, mut only_left, mut only_right] = [0_usize; 3];
        for (left, right) in left.iter().zip(right) {
            match (*left != 0.0, *right != 0.0) {
                (true, true) => both += 1,
                (true, false) => only_left += 1,
                (false, true) => only_right += 1,
                (false, false) => {}
            }
        }
        let all = count(left.len());
        let neither = count(left.len() - both - only_left - only_right);
        let [both, only_left, only_right] = [both, only_left, only_right].map(count);
        let differing = only_left + only_right;
        match self {
            Self::Dice => differing / (2.0 * both + differing),
            Self::Jaccard if both + differing == 0.0 => 0.0,
            Self::Jaccard => differing / (both + differing),
            Self::Kulsinski => (differing - both + all) / (differing + all),
            Self::Matching => differing / all,
            Self::RogersTanimoto => 2.0 * differing / (all + differing),
            Self::RussellRao => (all - both) / all,
            Self::SokalSneath => differing / (differing + 0.5 * both),
            Self::Yule => {
                let half = only_left * only_right;
                if half == 0.0 {
                    return 0.0;
                }
                2.0 * half / (both * neither + half)
            }
        }
    }
}
