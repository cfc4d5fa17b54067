//! Special functions, by the methods that scipy uses.

/// Returns the value of a polynomial, highest power first.
fn polynomial(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

/// The same with a leading coefficient of one.
fn monic(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().fold(1.0, |sum, c| sum * x + c)
}

const P0: [f64; 5] = [
    -5.996_335_010_141_079e1,
    9.800_107_541_859_997e1,
    -5.667_628_574_690_703e1,
    1.393_126_093_872_795_8e1,
    -1.239_165_838_673_812_5,
];
const Q0: [f64; 8] = [
    1.954_488_583_381_417_6,
    4.676_279_128_988_815,
    8.636_024_213_908_905e1,
    -2.254_626_878_541_193_7e2,
    2.002_602_123_800_606_6e2,
    -8.203_722_561_683_334e1,
    1.590_562_251_262_117e1,
    -1.183_316_211_213_3,
];
const P1: [f64; 9] = [
    4.055_448_923_059_624_5,
    3.152_510_945_998_938_8e1,
    5.716_281_922_464_213e1,
    4.408_050_738_932_008e1,
    1.468_495_619_288_580_2e1,
    2.186_633_068_507_902_5,
    -1.402_560_791_713_545e-1,
    -3.504_246_268_278_482e-2,
    -8.574_567_851_546_854e-4,
];
const Q1: [f64; 8] = [
    1.577_998_832_564_667_5e1,
    4.539_076_351_288_792e1,
    4.131_720_382_546_72e1,
    1.504_253_856_929_075e1,
    2.504_649_462_083_094,
    -1.421_829_228_547_877_9e-1,
    -3.808_064_076_915_783e-2,
    -9.332_594_808_954_574e-4,
];
const P2: [f64; 9] = [
    3.237_748_917_769_460_4,
    6.915_228_890_689_842,
    3.938_810_252_924_744_4,
    1.333_034_608_158_075_4,
    2.014_853_895_491_790_8e-1,
    1.237_166_348_178_200_2e-2,
    3.015_815_535_082_354e-4,
    2.658_069_746_867_375_5e-6,
    6.239_745_391_849_833e-9,
];
const Q2: [f64; 8] = [
    6.024_270_393_647_42,
    3.679_835_638_561_608_7,
    1.377_020_994_890_813_2,
    2.162_369_935_944_966_3e-1,
    1.342_040_060_885_431_8e-2,
    3.280_144_646_821_277_4e-4,
    2.892_478_647_453_807e-6,
    6.790_194_080_099_813e-9,
];

/// Returns the number below which a standard normal variable lies with probability `p` (Cephes' `ndtri`).
#[must_use]
pub(crate) fn normal_quantile(p: f64) -> f64 {
    const EXP_MINUS_2: f64 = 0.135_335_283_236_612_7;
    const SQRT_2PI: f64 = 2.506_628_274_631_000_2;
    if p <= 0.0 {
        return if p == 0.0 {
            f64::NEG_INFINITY
        } else {
            f64::NAN
        };
    }
    if p >= 1.0 {
        return if p == 1.0 { f64::INFINITY } else { f64::NAN };
    }
    let is_upper = p > 1.0 - EXP_MINUS_2;
    let y = if is_upper { 1.0 - p } else { p };
    if y > EXP_MINUS_2 {
        let y = y - 0.5;
        let square = y * y;
        let x = y + y * (square * polynomial(square, &P0) / monic(square, &Q0));
        return x * SQRT_2PI;
    }
    let x = (-2.0 * y.ln()).sqrt();
    let start = x - x.ln() / x;
    let z = 1.0 / x;
    let correction = if x < 8.0 {
        z * polynomial(z, &P1) / monic(z, &Q1)
    } else {
        z * polynomial(z, &P2) / monic(z, &Q2)
    };
    let x = start - correction;
    if is_upper { x } else { -x }
}

/// Returns the logarithm of the sum of exponentials.
#[must_use]
pub(crate) fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return largest;
    }
    let sum: f64 = values.iter().map(|value| (value - largest).exp()).sum();
    sum.ln() + largest
}

/// Returns the derivative of the logarithm of the gamma function, for positive `x`.
#[must_use]
pub fn digamma(mut x: f64) -> f64 {
    // Recurrence up to where the asymptotic series is exact to double precision.
    let mut result = 0.0;
    while x < 10.0 {
        result -= 1.0 / x;
        x += 1.0;
    }
    let z = 1.0 / (x * x);
    let series = [
        8.333_333_333_333_333e-2,
        -2.109_279_609_279_609_3e-2,
        7.575_757_575_757_576e-3,
        -4.166_666_666_666_667e-3,
        3.968_253_968_253_968e-3,
        -8.333_333_333_333_333e-3,
        8.333_333_333_333_333e-2,
    ];
    result + x.ln() - 0.5 / x - z * polynomial(z, &series)
}

/// Returns the error function.
#[must_use]
pub(crate) fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    if magnitude > 6.0 {
        return x.signum();
    }
    if x.is_nan() || x == 0.0 {
        return x;
    }
    // exp(-x^2) times a series of positive terms, which lose nothing by cancelling.
    let square = magnitude * magnitude;
    let (mut term, mut sum, mut odd) = (magnitude, magnitude, 1.0);
    while term > sum * 1e-17 {
        odd += 2.0;
        term *= 2.0 * square / odd;
        sum += term;
    }
    let value = std::f64::consts::FRAC_2_SQRT_PI * (-square).exp() * sum;
    value.min(1.0).copysign(x)
}

/// Returns the share of a normal distribution below `x`.
pub(crate) fn normal_share(x: f64) -> f64 {
    0.5 + 0.5 * erf(x * std::f64::consts::FRAC_1_SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_scipy() {
        // scipy.special.ndtri
        let cases = [
            (0.5, 0.0),
            (0.975, 1.959963984540054),
            (0.3, -0.5244005127080409),
            (1e-7, -5.199337582192816),
            (1e-20, -9.262340089798409),
        ];
        for (p, expected) in cases {
            let got = normal_quantile(p);
            assert!(
                (got - expected).abs() <= 1e-14 * expected.abs(),
                "{p}: {got}"
            );
        }
    }

    #[test]
    fn erf_is_that_of_scipy() {
        // scipy.special.erf
        for (x, expected) in [
            (1e-8, 1.1283791670955126e-8),
            (0.5, 0.5204998778130465),
            (-2.0, -0.9953222650189527),
            (5.5, 0.9999999999999927),
        ] {
            let got = erf(x);
            assert!(
                (got - expected).abs() <= 2e-15 * expected.abs(),
                "{x}: {got}"
            );
        }
    }

    #[test]
    fn digamma_is_that_of_scipy() {
        // scipy.special.digamma
        for (x, expected) in [
            (1.0, -0.5772156649015329),
            (0.1, -10.423754940411076),
            (25.5, 3.2189424728839198),
        ] {
            let got = digamma(x);
            assert!(
                (got - expected).abs() <= 1e-14 * expected.abs(),
                "{x}: {got}"
            );
        }
    }
}
