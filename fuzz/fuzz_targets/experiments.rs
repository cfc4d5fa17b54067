//! Reads bytes as the body of a request with outcomes, as a body with a unit in it, and as a message with one.
#![no_main]

use bytes::Bytes;
use coracle_protocol::experiments::{
    Element, OUTCOMES_MAX, UNIT_BYTES_MAX, VALUE_MAX, grpc_input, grpc_number, grpc_unit,
    json_number, json_unit, read_outcomes, v1_input, v1_number, v1_unit, v2_input,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(outcomes) = read_outcomes(bytes) {
        assert!(outcomes.len() <= OUTCOMES_MAX);
        for outcome in outcomes.into_iter().flatten() {
            assert!(outcome.unit.is_some() != outcome.request_id.is_some());
            assert!(!outcome.metrics.is_empty());
            assert!(
                outcome
                    .metrics
                    .iter()
                    .all(|(_, value)| value.abs() <= VALUE_MAX)
            );
        }
    }
    let is_unit = |unit: &String| (1..=UNIT_BYTES_MAX).contains(&unit.len());
    for path in ["unit", "a.b", "parameters.user"] {
        assert!(json_unit(bytes, path).is_none_or(|unit| is_unit(&unit)));
        assert!(json_number(bytes, path).is_none_or(f64::is_finite));
    }
    assert!(v1_unit(bytes, "instances.0.1").is_none_or(|unit| is_unit(&unit)));
    assert!(v1_number(bytes, "inputs.0.a").is_none_or(f64::is_finite));
    let message = Bytes::copy_from_slice(bytes);
    assert!(grpc_unit(&message, "user").is_none_or(|unit| is_unit(&unit)));
    let middle = bytes.len() / 2;
    let (head, tail) = bytes.split_at(middle);
    for found in [
        v1_input(bytes, "user"),
        v2_input(bytes, b"", "user"),
        v2_input(head, tail, "user"),
        grpc_input(&message, "user"),
    ] {
        let unit = found.clone().and_then(Element::unit);
        assert!(unit.is_none_or(|unit| is_unit(&unit)));
        assert!(found.and_then(Element::number).is_none_or(f64::is_finite));
    }
    assert!(grpc_number(&message, "user").is_none_or(f64::is_finite));
});
