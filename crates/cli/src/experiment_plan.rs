//! `coracle experiment plan`: how many units an experiment needs, and how long that takes.

use std::io::Write as _;

use anyhow::bail;
use clap::Args;
use coracle_policy::experiment::{
    Design, Spread, units_per_arm_mean, units_per_arm_proportion, units_per_arm_sequential,
};

/// What an experiment is to see.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  coracle experiment plan --baseline 0.05 --lift 0.05 --units-per-day 20000\n  coracle experiment plan --deviation 12.5 --difference 0.5 --variants 3"
)]
pub(crate) struct PlanArguments {
    /// The share of units that do it now, of a metric of the type Conversion
    #[arg(long, value_name = "SHARE", conflicts_with = "deviation")]
    baseline: Option<f64>,

    /// The standard deviation over units, of any other metric
    #[arg(long, value_name = "DEVIATION")]
    deviation: Option<f64>,

    /// The difference to be seen
    #[arg(
        long,
        value_name = "DIFFERENCE",
        allow_negative_numbers = true,
        conflicts_with = "lift"
    )]
    difference: Option<f64>,

    /// The difference to be seen, relative to the baseline
    #[arg(
        long,
        value_name = "RATIO",
        allow_negative_numbers = true,
        requires = "baseline"
    )]
    lift: Option<f64>,

    /// The number of variants, the control included
    #[arg(long, default_value_t = 2, value_name = "N")]
    variants: u32,

    /// The most probable that no difference is taken for one
    #[arg(long, default_value_t = 0.05, value_name = "ALPHA")]
    alpha: f64,

    /// The probability with which the difference is seen
    #[arg(long, default_value_t = 0.8, value_name = "POWER")]
    power: f64,

    /// New units that come in a day, for the duration
    #[arg(long, value_name = "N")]
    units_per_day: Option<f64>,
}

/// Who needs more units than this of a variant plans for a difference that cannot be seen.
const UNITS_MAX: u64 = 1_000_000_000_000;

/// The units of each variant, at a fixed horizon and with looks at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needed {
    fixed: u64,
    anytime: u64,
}

/// Runs the command.
pub(crate) fn run(arguments: &PlanArguments) -> anyhow::Result<()> {
    let needed = needed(arguments)?;
    let n_variants = u64::from(arguments.variants);
    let mut out = crate::printed::stdout();
    if arguments.variants > 2 {
        writeln!(
            out,
            "each of {} comparisons with the control at alpha {:.5} (Bonferroni)",
            arguments.variants - 1,
            corrected(arguments)
        )?;
    }
    for (units, method) in [
        (needed.fixed, "one look at the end (normal approximation)"),
        (
            needed.anytime,
            "looks at any time (mSPRT, normal mixture); it often ends earlier",
        ),
    ] {
        let all = units.saturating_mul(n_variants);
        let days = arguments.units_per_day.map(|per_day| {
            let days = (all as f64 / per_day).ceil();
            format!(", {days:.0} days")
        });
        writeln!(
            out,
            "{units} units of each variant, {all} in all{}: {method}",
            days.unwrap_or_default()
        )?;
    }
    Ok(())
}

/// The level of each comparison.
fn corrected(arguments: &PlanArguments) -> f64 {
    arguments.alpha / f64::from(arguments.variants.saturating_sub(1).max(1))
}

fn needed(arguments: &PlanArguments) -> anyhow::Result<Needed> {
    let needed = unbounded(arguments)?;
    if needed.fixed.max(needed.anytime) > UNITS_MAX {
        bail!("a difference this small takes more than {UNITS_MAX} units of each variant to see");
    }
    Ok(needed)
}

fn unbounded(arguments: &PlanArguments) -> anyhow::Result<Needed> {
    let is_share = |share: f64| share > 0.0 && share < 1.0;
    if !is_share(arguments.alpha) || !is_share(arguments.power) {
        bail!("--alpha and --power are between 0 and 1");
    }
    if !(2..=16).contains(&arguments.variants) {
        bail!("--variants: {} is not between 2 and 16", arguments.variants);
    }
    if arguments
        .units_per_day
        .is_some_and(|units| units.is_nan() || units <= 0.0)
    {
        bail!("--units-per-day is above 0");
    }
    let design = Design {
        alpha: corrected(arguments),
        power: arguments.power,
    };
    let lift = arguments.lift.zip(arguments.baseline);
    let lift = lift.map(|(lift, baseline)| lift * baseline);
    let Some(difference) = arguments.difference.or(lift) else {
        bail!("--difference or --lift says what is to be seen");
    };
    if difference == 0.0 || !difference.is_finite() {
        bail!("a difference of {difference} cannot be seen");
    }
    match (arguments.baseline, arguments.deviation) {
        (Some(baseline), _) => {
            let changed = baseline + difference;
            if !is_share(baseline) || !is_share(changed) {
                bail!("from a share of {baseline} to one of {changed}: both are between 0 and 1");
            }
            Ok(Needed {
                fixed: units_per_arm_proportion(baseline, changed, design),
                anytime: units_per_arm_sequential(
                    Spread::of_proportions(baseline, changed),
                    difference,
                    design,
                ),
            })
        }
        (None, Some(deviation)) if deviation > 0.0 && deviation.is_finite() => Ok(Needed {
            fixed: units_per_arm_mean(deviation, difference, design),
            anytime: units_per_arm_sequential(
                Spread::of_means(deviation, difference),
                difference,
                design,
            ),
        }),
        (None, Some(deviation)) => bail!("--deviation: {deviation} is not above 0"),
        (None, None) => bail!("--baseline or --deviation says how units are now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &[&str]) -> anyhow::Result<Needed> {
        #[derive(clap::Parser)]
        struct Typed {
            #[command(flatten)]
            plan: PlanArguments,
        }
        let typed = std::iter::once("plan").chain(arguments.iter().copied());
        let typed: Typed = clap::Parser::try_parse_from(typed)?;
        needed(&typed.plan)
    }

    /// The fixed horizon is the reference's: 5 % and a relative lift of 5 %, 122,121 units with the exact z.
    #[test]
    fn plans_are_the_reference_s() {
        let found = plan(&["--baseline", "0.05", "--lift", "0.05"]).unwrap();
        assert_eq!(found.fixed, 122_121);
        // SciPy's, as the lines of fixtures/statistics/reference.tsv are made.
        assert_eq!(found.anytime, 241_277);
        let same = plan(&["--baseline", "0.05", "--difference", "0.0025"]).unwrap();
        assert_eq!(same.fixed, found.fixed);
        let more = plan(&["--baseline", "0.05", "--lift", "0.05", "--variants", "3"]).unwrap();
        assert!(more.fixed > found.fixed);
    }

    #[test]
    fn falling_shares_are_planned_as_rising_ones_are() {
        let falls = plan(&["--baseline", "0.05", "--lift", "-0.05"]).unwrap();
        let by_difference = plan(&["--baseline", "0.05", "--difference", "-0.0025"]).unwrap();
        assert_eq!(falls, by_difference);
        let rises = plan(&["--baseline", "0.0475", "--difference", "0.0025"]).unwrap();
        assert_eq!(falls.fixed, rises.fixed);
    }

    #[test]
    fn what_nobody_could_see_is_refused() {
        for lift in ["1e-9", "1e-300"] {
            let refusal = plan(&["--baseline", "0.05", "--lift", lift]).unwrap_err();
            assert!(refusal.to_string().contains("1000000000000 units"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for arguments in [
            ["--baseline", "0.05"].as_slice(),
            &["--lift", "0.05"],
            &["--baseline", "0.9", "--lift", "0.5"],
            &["--deviation", "0", "--difference", "1"],
            &["--deviation", "1", "--difference", "0"],
            &["--difference", "1"],
            &["--baseline", "0.1", "--lift", "0.1", "--power", "1"],
            &["--baseline", "0.1", "--lift", "0.1", "--variants", "1"],
            &["--baseline", "0.1", "--lift", "0.1", "--units-per-day", "0"],
        ] {
            assert!(plan(arguments).is_err(), "{arguments:?}");
        }
    }
}
