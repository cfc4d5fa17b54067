//! Kubernetes' quantities: `500m`, `2Gi`, `1e3`.

/// Returns the number that a quantity means, in its base unit (cores, bytes); `None` if it is no quantity.
///
/// Suffixes are those of Kubernetes: `n u m k M G T P E`, `Ki Mi Gi Ti Pi Ei`, or a decimal exponent.
#[must_use]
pub fn parse(text: &str) -> Option<f64> {
    let end = text
        .find(|letter: char| !(letter.is_ascii_digit() || matches!(letter, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            10_f64.powi(digits.parse::<i8>().ok()?.into())
        }
    };
    let number: f64 = number.parse().ok()?;
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_kubernetes() {
        for (text, expected) in [
            ("2", Some(2.0)),
            ("0.5", Some(0.5)),
            ("500m", Some(0.5)),
            ("256Mi", Some(268_435_456.0)),
            ("1e3", Some(1_000.0)),
            ("1E", Some(1e18)),
            ("1E2", Some(100.0)),
            ("", None),
            ("Mi", None),
            ("1x", None),
            ("1e999", None),
            ("ä", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
