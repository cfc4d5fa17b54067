//! What a V1 request of 1,000 rows costs beside its floor, for `cargo xtask bench rows`.
//!
//! The floor is the sum of three parts, each measured alone: reading the same bytes as numbers with the quickest routine known and no checks of
//! what is between them, running the model on a table that is ready, and writing the same outputs with commas between them. What is compared
//! with it is what the server does: decode the body with all its checks, run, encode the answer.
//!
//! `rows MODEL_FILE...`
#![expect(clippy::print_stdout, reason = "prints its results")]
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a measurement reads what it has made"
)]

use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use coracle_base::{Clock, SystemClock};
use coracle_formats::{LoadOptions, load, locate_all};
use coracle_model::Model;
use coracle_protocol::{DecodeContext, NoRegions, v1};
use coracle_tensor::{Tensor, Values};

const ROWS: usize = 1_000;
/// The time spent on each measurement.
const BUDGET: Duration = Duration::from_millis(600);

/// How numbers look in the body.
#[derive(Clone, Copy)]
enum Look {
    /// With one decimal or two, as people measure.
    Short,
    /// With all the digits of a double, as programs write what they have computed.
    Full,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "| model | numbers | body | floor: parse + run + write = us | whole: decode + run + encode = us | whole / floor |"
    );
    println!("|---|---|---|---|---|---|");
    let clock = SystemClock::new();
    for directory in std::env::args().skip(1) {
        for file in locate_all(Path::new(&directory))? {
            let model = load(&file.path, &LoadOptions::default(), &clock)?.model;
            for look in [Look::Short, Look::Full] {
                compare(&clock, &file.name, model.as_ref(), look)?;
            }
        }
    }
    Ok(())
}

fn compare(
    clock: &dyn Clock,
    name: &str,
    model: &dyn Model,
    look: Look,
) -> Result<(), Box<dyn Error>> {
    let signature = model.signature();
    let n_columns = signature.inputs[0].n_columns().ok_or("no table")?;
    let values = numbers(ROWS * n_columns, look);
    let body = body(&values, n_columns);
    let ctx = DecodeContext {
        signature,
        default_outputs: &signature.default_outputs,
        method: None,
        elements_max: usize::MAX,
        filled_bytes_max: usize::MAX,
        regions: &NoRegions,
    };
    // Both ways come to the same numbers.
    let call = v1::decode_predict(body.as_bytes(), &ctx)?;
    let table = [Tensor::try_new(
        vec![ROWS, n_columns],
        Values::F64(values.into()),
    )?];
    if call.inputs != table || parse(body.as_bytes()) != *table[0].values() {
        return Err("the parsers disagree".into());
    }
    let outputs = model.run(&table, &call.outputs)?;
    let floor = [
        time(clock, || drop(black_box(parse(black_box(body.as_bytes()))))),
        time(clock, || {
            drop(black_box(model.run(black_box(&table), &call.outputs)))
        }),
        time(clock, || {
            drop(black_box(write(black_box(outputs[0].values()))))
        }),
    ];
    let mut answer = Vec::new();
    let whole = [
        time(clock, || {
            drop(black_box(v1::decode_predict(
                black_box(body.as_bytes()),
                &ctx,
            )))
        }),
        floor[1],
        time(clock, || {
            answer.clear();
            v1::encode_predict(signature, &call, &outputs, black_box(&mut answer));
        }),
    ];
    let all = time(clock, || {
        let call = v1::decode_predict(black_box(body.as_bytes()), &ctx);
        let Ok(call) = call else { return };
        if let Ok(outputs) = model.run(&call.inputs, &call.outputs) {
            let mut answer = Vec::new();
            v1::encode_predict(signature, &call, &outputs, &mut answer);
            black_box(answer);
        }
    });
    let sum: f64 = floor.iter().sum();
    let show = |parts: [f64; 3]| parts.map(|part| format!("{part:.0}")).join(" + ");
    let numbers = match look {
        Look::Short => "short",
        Look::Full => "17 digits",
    };
    println!(
        "| {name}, {n_columns} columns | {numbers} | {} KB | {} = {sum:.0} | {} = {all:.0} | {:.2} |",
        body.len() / 1_000,
        show(floor),
        show(whole),
        all / sum
    );
    Ok(())
}

/// Returns the median time of `work` in microseconds.
fn time(clock: &dyn Clock, mut work: impl FnMut()) -> f64 {
    let mut samples = Vec::new();
    let started = clock.monotonic();
    while clock.monotonic() - started < BUDGET || samples.len() < 20 {
        let before = clock.monotonic();
        work();
        samples.push((clock.monotonic() - before).as_secs_f64() * 1e6);
    }
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Returns numbers from 0 to 10, always the same.
fn numbers(n: usize, look: Look) -> Vec<f64> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let number = |uniform: f64| match look {
        Look::Short => (uniform * 1_000.0).round() / 100.0,
        Look::Full => uniform * 10.0,
    };
    (0..n).map(|_| number(next())).collect()
}

fn body(values: &[f64], n_columns: usize) -> String {
    let mut body = "{\"instances\": [".to_owned();
    for (index, row) in values.chunks(n_columns).enumerate() {
        let row: Vec<String> = row.iter().map(f64::to_string).collect();
        let comma = if index > 0 { ", " } else { "" };
        let _infallible = write!(body, "{comma}[{}]", row.join(", "));
    }
    body + "]}"
}

/// Reads every number in `bytes`, whatever is between them.
fn parse(bytes: &[u8]) -> Values {
    let mut values = Vec::new();
    let mut position = bytes.iter().position(|byte| *byte == b'[').unwrap_or(0);
    while let Some(byte) = bytes.get(position) {
        if byte.is_ascii_digit() || *byte == b'-' {
            match fast_float2::parse_partial::<f64, _>(&bytes[position..]) {
                Ok((value, length)) => {
                    values.push(value);
                    position += length;
                }
                Err(_no_number) => break,
            }
        } else {
            position += 1;
        }
    }
    Values::F64(values.into())
}

/// Writes every value with commas between.
fn write(values: &Values) -> Vec<u8> {
    let mut out = Vec::new();
    match values {
        Values::F64(values) => {
            for value in values {
                out.extend_from_slice(ryu::Buffer::new().format(*value).as_bytes());
                out.push(b',');
            }
        }
        Values::I64(values) => {
            for value in values {
                out.extend_from_slice(itoa::Buffer::new().format(*value).as_bytes());
                out.push(b',');
            }
        }
        other => {
            let texts = (0..other.len()).map(|index| match other {
                Values::Bytes(strings) => strings.get(index).unwrap_or_default(),
                _ => b"",
            });
            for text in texts {
                out.push(b'"');
                out.extend_from_slice(text);
                out.extend_from_slice(b"\",");
            }
        }
    }
    out
}
