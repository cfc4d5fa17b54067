//! Patterns against what Python finds with them, and damaged ones.

use super::*;
use serde_json::Value;

fn expected() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/sklearn/patterns.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list<'v, T>(value: &'v Value, of: impl Fn(&'v Value) -> Option<T>) -> Vec<T> {
    let items = value.as_array().unwrap().iter();
    items.map(|item| of(item).unwrap()).collect()
}

#[test]
fn tokens_are_what_pythons_findall_finds() {
    let expected = expected();
    let texts = list(&expected["texts"], Value::as_str);
    let mut n_linear = 0;
    for found in expected["found"].as_array().unwrap() {
        let pattern = found["pattern"].as_str().unwrap();
        let parsed = parse(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        let program = Program::new(&parsed);
        let linear = regex(&parsed);
        n_linear += usize::from(linear.is_some());
        for (text, tokens) in texts.iter().zip(found["tokens"].as_array().unwrap()) {
            let tokens = list(tokens, Value::as_str);
            let mut own = Vec::new();
            each_token(&program, text, &mut Steps::default(), |token| {
                own.push(token)
            })
            .unwrap();
            assert_eq!(own, tokens, "{pattern} in {text:?}");
            let Some(linear) = linear
                .as_ref()
                .filter(|_| !parsed.has_boundaries() || text.is_ascii())
            else {
                continue;
            };
            let groups = linear.captures_iter(text).map(|captures| {
                let group = captures.get(parsed.n_groups);
                group.map_or("", |group| group.as_str())
            });
            assert_eq!(
                groups.collect::<Vec<_>>(),
                tokens,
                "{pattern} in {text:?}, linear"
            );
        }
    }
    assert!(n_linear > 50, "only {n_linear} patterns are linear");
}

#[test]
fn sets_of_characters_are_pythons() {
    let expected = expected();
    let ranges = |value: &Value| -> ClassUnicode {
        let code = |bound: &Value| u32::try_from(bound.as_u64()?).ok().and_then(char::from_u32);
        ClassUnicode::new(value.as_array().unwrap().iter().map(|range| {
            ClassUnicodeRange::new(code(&range[0]).unwrap(), code(&range[1]).unwrap())
        }))
    };
    let old = ranges(&expected["unicode_3_2"]);
    for set in expected["sets"].as_array().unwrap() {
        let pattern = set["pattern"].as_str().unwrap();
        let parsed = parse(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        let Node::Set(mut own) = parsed.node else {
            panic!("{pattern} is no set");
        };
        own.intersect(&old);
        let mut differing = own.clone();
        differing.symmetric_difference(&ranges(&set["ranges"]));
        assert_eq!(differing, ClassUnicode::empty(), "{pattern}");
    }
}

#[test]
fn damaged_patterns_are_errors_or_patterns() {
    let expected = expected();
    let text = list(&expected["texts"], Value::as_str).concat();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    let parts: Vec<char> = r"()[]{}|?*+^$.\-:=!<>P#&,a1b0wWdDsSxuUiLmZ"
        .chars()
        .collect();
    for found in expected["found"].as_array().unwrap() {
        let pattern: Vec<char> = found["pattern"].as_str().unwrap().chars().collect();
        for _ in 0..10 {
            let mut damaged = pattern.clone();
            for _ in 0..=next(2) {
                let place = next(damaged.len() + 1);
                match next(3) {
                    0 => damaged.insert(place, parts[next(parts.len())]),
                    1 if place < damaged.len() => damaged[place] = parts[next(parts.len())],
                    _ if place < damaged.len() => drop(damaged.remove(place)),
                    _ => {}
                }
            }
            let damaged: String = damaged.into_iter().collect();
            let Ok(parsed) = parse(&damaged) else {
                continue;
            };
            regex(&parsed);
            let short: String = text.chars().take(24).collect();
            // An answer or an error, in time.
            let found = each_token(
                &Program::new(&parsed),
                &short,
                &mut Steps::default(),
                |_| (),
            );
            assert!(found.is_ok() || found == Err(OutOfSteps));
        }
    }
}

#[test]
fn what_python_does_not_repeat_is_refused() {
    for (pattern, why) in [
        ("a**", "multiple repeat"),
        ("a{1}{1}", "multiple repeat"),
        ("a+?+", "multiple repeat"),
        ("a+++", "multiple repeat"),
        ("(?x)a+ *", "multiple repeat"),
        ("^*", "nothing to repeat"),
        (r"\b+", "nothing to repeat"),
        ("*a", "nothing to repeat"),
        (&"+".repeat(4_000), "nothing to repeat"),
    ] {
        assert_eq!(parse(pattern).err().as_deref(), Some(why), "{pattern}");
    }
    assert_eq!(
        parse(&format!("a{}", "+".repeat(4_000))).err().as_deref(),
        Some("multiple repeat")
    );
    for pattern in ["(?:a+)+", "(?:^)*a", "(?=a)*a", "(?:(?:a+)*)?"] {
        assert!(parse(pattern).is_ok(), "{pattern}");
    }
}

#[test]
fn every_step_counts_and_all_texts_of_a_call_share_them() {
    let found = |pattern: &str, text: &str, steps: &mut Steps| {
        let program = Program::new(&parse(pattern).unwrap());
        each_token(&program, text, steps, |_| ())
    };
    // A run that is too short is looked through at each place.
    let text = "a".repeat(20_000);
    let long = found("a{2000000}(?=b)", &text, &mut Steps::default());
    assert_eq!(long, Err(OutOfSteps));
    let mut steps = Steps::default();
    let text = "a".repeat(18);
    let fit = (0..1_000).take_while(|_| found("(?:a|aa)+(?=b)", &text, &mut steps).is_ok());
    let n_fit = fit.count();
    assert!((1..1_000).contains(&n_fit), "{n_fit}");
    // What is for a text's own length is always there.
    assert_eq!(found(r"\w+(?=b)", "ab", &mut steps), Ok(()));
}

#[test]
fn sets_that_are_the_same_are_held_once() {
    let parsed = parse(&r"\w".repeat(2_000)).unwrap();
    assert_eq!(Program::new(&parsed).sets.len(), 1);
    // Written out they would be megabytes.
    assert!(regex(&parsed).is_none());
}
