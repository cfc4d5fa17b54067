//! Seasons that are found, learnt and trusted, and loads that have none.

use super::*;
use crate::random::Random;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn given(period: u64, lead: u64) -> Forecaster {
    Forecaster::new(Prediction {
        period: Period::Given(seconds(period)),
        lead: seconds(lead),
    })
}

fn detecting() -> Forecaster {
    Forecaster::new(Prediction {
        period: Period::Detected,
        lead: seconds(60),
    })
}

fn spike(period: u64, second: u64) -> f64 {
    if second % period < period / 10 {
        50.0
    } else {
        5.0
    }
}

fn feed(forecaster: &mut Forecaster, until: u64, load: impl Fn(u64) -> f64) {
    for second in 0..until {
        forecaster.learn(second, load(second));
    }
}

#[test]
fn a_spike_is_predicted_once_it_recurred() {
    let mut forecaster = given(600, 30);
    feed(&mut forecaster, 800, |second| spike(600, second));
    assert!(
        forecaster
            .predict(seconds(800))
            .is_some_and(|p| p.value < 10.0)
    );
    feed(&mut forecaster, 1_180, |second| spike(600, second));
    let predicted = forecaster.predict(seconds(1_180)).unwrap();
    assert!((predicted.value - 50.0).abs() < 10.0, "{predicted:?}");
    assert_eq!(predicted.ahead, seconds(20));
    assert_eq!(predicted.period, seconds(600));
}

#[test]
fn nothing_is_predicted_in_the_first_season() {
    let mut forecaster = given(600, 30);
    feed(&mut forecaster, 600, |second| spike(600, second));
    assert_eq!(forecaster.predict(seconds(600)), None);
}

#[test]
fn noise_is_not_trusted() {
    let mut random = Random::new(1);
    let noise: Vec<f64> = (0..12_000).map(|_| 20.0 * random.unit()).collect();
    let mut forecaster = given(600, 30);
    feed(&mut forecaster, 12_000, |second| noise[second as usize]);
    assert_eq!(forecaster.predict(seconds(12_000)), None);
}

#[test]
fn a_profile_that_stops_recurring_loses_trust() {
    let mut forecaster = given(600, 30);
    feed(&mut forecaster, 3_000, |second| spike(600, second));
    assert!(forecaster.predict(seconds(3_000)).is_some());
    for second in 3_000..6_000 {
        forecaster.learn(second, spike(770, second));
    }
    assert_eq!(forecaster.predict(seconds(6_000)), None);
}

#[test]
fn today_s_level_scales_the_profile() {
    let mut forecaster = given(1_200, 0);
    let wave = |second: u64| 30.0 + 20.0 * (second as f64 / 1_200.0 * std::f64::consts::TAU).sin();
    for second in 0..4_800 {
        forecaster.learn(second, wave(second));
    }
    for second in 4_800..5_000 {
        forecaster.learn(second, 1.5 * wave(second));
    }
    let predicted = forecaster.predict(seconds(5_000)).unwrap();
    let expected = 1.5 * wave(5_000);
    assert!(
        (predicted.value / expected - 1.0).abs() < 0.1,
        "{} {expected}",
        predicted.value
    );
}

#[test]
fn lengths_of_seasons_are_found() {
    for minutes in [10, 30, 60, 1_440] {
        let period = minutes * 60;
        let mut forecaster = detecting();
        let until = (3 * period).min(2 * 86_400) + 1_200;
        feed(&mut forecaster, until, |second| spike(period, second));
        let found = forecaster.season.as_ref().map(Season::period);
        assert_eq!(found, Some(period));
        assert!(forecaster.predict(seconds(until)).is_some());
    }
}

#[test]
fn a_daily_wave_is_not_taken_for_a_short_season() {
    let mut forecaster = detecting();
    let wave = |second: u64| 30.0 + 20.0 * (second as f64 / 86_400.0 * std::f64::consts::TAU).sin();
    feed(&mut forecaster, 86_400, wave);
    assert!(forecaster.season.is_none());
    for second in 86_400..2 * 86_400 + 1_200 {
        forecaster.learn(second, wave(second));
    }
    assert_eq!(forecaster.season.as_ref().map(Season::period), Some(86_400));
}

#[test]
fn constants_and_noise_have_no_season() {
    let mut random = Random::new(3);
    let noise: Vec<f64> = (0..20_000).map(|_| random.unit()).collect();
    let mut forecaster = detecting();
    feed(&mut forecaster, 20_000, |second| noise[second as usize]);
    assert!(forecaster.season.is_none());
    let mut forecaster = detecting();
    feed(&mut forecaster, 20_000, |_| 7.0);
    assert!(forecaster.season.is_none());
}

#[test]
fn what_was_learnt_goes_on_after_a_restart_at_the_right_time() {
    let mut before = given(600, 30);
    feed(&mut before, 2_900, |second| spike(600, second));
    let learnt = before.learnt(seconds(2_900)).unwrap();
    assert_eq!(learnt.phase, seconds(500));
    // 1,000 seconds later, on a clock that began anew 7 seconds ago, the season is at 500 + 1,000 - 1,200 = 300.
    for mut after in [given(600, 30), detecting()] {
        assert!(after.resume(seconds(7), &learnt, seconds(1_000)));
        let calm = after.predict(seconds(7)).unwrap();
        assert!(calm.value < 10.0, "{calm:?}");
        let coming = after.predict(seconds(7 + 280)).unwrap();
        assert!((coming.value - 50.0).abs() < 5.0, "{coming:?}");
        let ahead = coming.ahead.as_secs();
        assert!((18..=25).contains(&ahead), "{ahead} s");
    }
}

#[test]
fn what_cannot_be_right_is_not_gone_on_with() {
    let mut before = given(600, 30);
    feed(&mut before, 2_900, |second| spike(600, second));
    let learnt = before.learnt(seconds(2_900)).unwrap();
    let mut after = given(600, 30);
    let mut refuses = |change: fn(&mut Learnt)| {
        let mut changed = learnt.clone();
        change(&mut changed);
        assert!(
            !after.resume(seconds(0), &changed, seconds(0)),
            "{changed:?}"
        );
    };
    refuses(|learnt| learnt.period = seconds(1_200));
    refuses(|learnt| learnt.profile.truncate(7));
    refuses(|learnt| learnt.profile[0] = -1.0);
    refuses(|learnt| learnt.profile[0] = f32::INFINITY);
    refuses(|learnt| learnt.mean_error = f64::NAN);
    assert_eq!(
        given(60, 30)
            .learnt(seconds(0))
            .map(|learnt| learnt.n_scored),
        Some(0)
    );
    assert_eq!(detecting().learnt(seconds(0)), None);
}
