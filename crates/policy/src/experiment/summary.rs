//! What is kept of a variant's units: counts, means and centred squares, updated one by one and merged without loss of precision.

/// Number, mean and spread of a value per unit (Welford, 1962; merging by Chan, Golub and LeVeque, 1979).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Units.
    pub units: u64,
    /// Mean.
    pub mean: f64,
    /// Sum of squared distances from the mean.
    pub squares: f64,
}

impl Moments {
    /// Returns the moments of `units` values with a mean and a sample variance.
    #[must_use]
    pub fn new(units: u64, mean: f64, variance: f64) -> Self {
        Self {
            units,
            mean,
            squares: variance * units.saturating_sub(1) as f64,
        }
    }

    /// Returns those of `units` ones.
    pub(crate) fn of_ones(units: u64) -> Self {
        Self {
            units,
            mean: 1.0,
            squares: 0.0,
        }
    }

    /// Takes a unit's value.
    pub fn push(&mut self, value: f64) {
        self.units += 1;
        let distance = value - self.mean;
        self.mean += distance / self.units as f64;
        self.squares += distance * (value - self.mean);
    }

    /// Takes the units of another summary.
    pub fn merge(&mut self, other: &Self) {
        let units = self.units.saturating_add(other.units);
        if units == 0 {
            return;
        }
        let (ours, theirs) = (self.units as f64, other.units as f64);
        let distance = other.mean - self.mean;
        self.mean += distance * theirs / units as f64;
        self.squares += other.squares + distance * distance * ours * theirs / units as f64;
        self.units = units;
    }

    /// Returns the sample variance; 0 for fewer than two units.
    #[must_use]
    pub fn variance(&self) -> f64 {
        match self.units {
            0 | 1 => 0.0,
            units => self.squares / (units - 1) as f64,
        }
    }

    /// Returns the variance of the mean.
    #[must_use]
    pub fn variance_of_mean(&self) -> f64 {
        self.variance() / self.units.max(1) as f64
    }
}

/// How many of so many units did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proportion {
    /// Units that did.
    pub successes: u64,
    /// All units.
    pub units: u64,
}

impl Proportion {
    /// Returns the share of units that did, 0 without units.
    #[must_use]
    pub fn rate(self) -> f64 {
        self.successes as f64 / self.units.max(1) as f64
    }

    /// Returns how many of values that are 0 or 1 are 1.
    #[must_use]
    pub fn of(values: &Moments) -> Self {
        let successes = (values.mean * values.units as f64).round();
        Self {
            // Numbers below 0 and none at all become 0.
            successes: (successes as u64).min(values.units),
            units: values.units,
        }
    }

    /// Returns the moments of the values 0 and 1, with the variance `p (1 - p)`.
    #[must_use]
    pub fn to_moments(self) -> Moments {
        let rate = self.rate();
        Moments::new(self.units, rate, rate * (1.0 - rate))
    }
}

/// Number, means and joint spread of two values per unit: a numerator and a denominator, or an outcome and what was known before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bivariate {
    /// The first value: numerator or outcome.
    pub first: Moments,
    /// The second value: denominator or covariate.
    pub second: Moments,
    /// Sum of products of distances from the means.
    pub products: f64,
}

impl Bivariate {
    /// Returns values that are ratios to 1: their ratio is their mean.
    pub(crate) fn of_mean(first: &Moments) -> Self {
        Self {
            first: *first,
            second: Moments::of_ones(first.units),
            products: 0.0,
        }
    }

    /// Returns the values of units of which each first one is less by `ratio` times the second.
    pub(crate) fn less(&self, ratio: f64) -> Self {
        let squares =
            self.first.squares - 2.0 * ratio * self.products + ratio * ratio * self.second.squares;
        Self {
            first: Moments {
                units: self.first.units,
                mean: self.first.mean - ratio * self.second.mean,
                squares: squares.max(0.0),
            },
            second: self.second,
            products: self.products - ratio * self.second.squares,
        }
    }

    /// Takes a unit's values.
    pub fn push(&mut self, first: f64, second: f64) {
        let distance = first - self.first.mean;
        self.first.push(first);
        self.second.push(second);
        self.products += distance * (second - self.second.mean);
    }

    /// Takes the units of another summary.
    pub fn merge(&mut self, other: &Self) {
        let (ours, theirs) = (self.first.units as f64, other.first.units as f64);
        if theirs > 0.0 {
            let first = other.first.mean - self.first.mean;
            let second = other.second.mean - self.second.mean;
            self.products += other.products + first * second * ours * theirs / (ours + theirs);
        }
        self.first.merge(&other.first);
        self.second.merge(&other.second);
    }

    /// Returns the ratio of the means as if it were a mean over units, with its variance by the delta method
    /// (Deng, Knoblich and Lu, 2018); `None` if the second mean is 0.
    ///
    /// This is how requests per user are compared when users are what was split.
    #[must_use]
    pub fn to_ratio(&self) -> Option<Moments> {
        let ratio = self.first.mean / self.second.mean;
        ratio.is_finite().then(|| Moments {
            units: self.first.units,
            mean: ratio,
            squares: self.less(ratio).first.squares / (self.second.mean * self.second.mean),
        })
    }
}

/// Returns both variants' outcomes without what the covariate explains (CUPED: Deng, Xu, Kohavi and Walker, 2013).
///
/// The covariate must not depend on the variant: something known of the unit before the experiment. The coefficient is that of
/// both variants together, so the difference stays unbiased.
#[must_use]
pub fn cuped(a: &Bivariate, b: &Bivariate) -> (Moments, Moments) {
    let covariate_squares = a.second.squares + b.second.squares;
    let coefficient = if covariate_squares > 0.0 {
        (a.products + b.products) / covariate_squares
    } else {
        0.0
    };
    let mut pooled = a.second;
    pooled.merge(&b.second);
    let adjust = |side: &Bivariate| Moments {
        units: side.first.units,
        mean: side.first.mean - coefficient * (side.second.mean - pooled.mean),
        squares: (side.first.squares - 2.0 * coefficient * side.products
            + coefficient * coefficient * side.second.squares)
            .max(0.0),
    };
    (adjust(a), adjust(b))
}
