//! Modules in memory, and what becomes of vectors.

use super::*;
use crate::tokens::tests::Files;

const CONFIG: &str = r#"{"in_features": 2, "out_features": 3, "activation_function": "torch.nn.modules.linear.Identity"}"#;

fn weights(entries: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let (mut head, mut numbers) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in entries {
        let start = numbers.len();
        numbers.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = serde_json::json!({
            "dtype": "F32", "shape": shape, "data_offsets": [start, numbers.len()],
        });
        head.insert((*name).to_owned(), entry);
    }
    let head = serde_json::to_vec(&head).unwrap();
    let length = u64::try_from(head.len()).unwrap();
    [length.to_le_bytes().to_vec(), head, numbers].concat()
}

fn read(config: &str, weights: Vec<u8>) -> Result<Dense, LoadError> {
    let files = [
        ("2_Dense/config.json", config.as_bytes().to_vec()),
        ("2_Dense/model.safetensors", weights),
    ];
    let files = files.map(|(name, bytes)| (name.to_owned(), bytes));
    Dense::read(&Files(files.into()), "2_Dense")
}

const WEIGHT: (&str, &[usize], &[f32]) =
    ("linear.weight", &[3, 2], &[1.0, 2.0, -3.0, 0.5, 0.0, -1.0]);
const BIAS: (&str, &[usize], &[f32]) = ("linear.bias", &[3], &[0.25, 0.0, -1.0]);

fn answer(dense: &Dense, vectors: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    dense.apply(vectors, &mut out);
    out
}

#[test]
fn vectors_are_multiplied_and_each_number_goes_through_the_function() {
    let file = || weights(&[WEIGHT, BIAS]);
    let dense = read(CONFIG, file()).unwrap();
    assert_eq!((dense.n_in(), dense.n_out()), (2, 3));
    let two = [1.0, 1.0, 2.0, -1.0];
    assert_eq!(answer(&dense, &two), [3.25, -2.5, -2.0, 0.25, -6.5, 0.0]);
    let of = |name: &str| {
        let config = CONFIG.replace("torch.nn.modules.linear.Identity", name);
        answer(&read(&config, file()).unwrap(), &two[..2])
    };
    assert_eq!(of("torch.nn.modules.activation.ReLU"), [3.25, 0.0, 0.0]);
    let tanh = [3.25_f32.tanh(), (-2.5_f32).tanh(), (-2.0_f32).tanh()];
    assert_eq!(of("torch.nn.modules.activation.Tanh"), tanh);
    let none = CONFIG.replace(
        r#", "activation_function": "torch.nn.modules.linear.Identity""#,
        "",
    );
    assert_eq!(answer(&read(&none, file()).unwrap(), &two[..2]), tanh);
    let bare = CONFIG.replace("\"in_features\"", "\"bias\": false, \"in_features\"");
    let bare = read(&bare, weights(&[WEIGHT])).unwrap();
    assert_eq!(answer(&bare, &two[..2]), [3.0, -2.5, -1.0]);
}

#[test]
fn residuals_are_added() {
    let config = CONFIG.replace("\"in_features\"", "\"use_residual\": true, \"in_features\"");
    let residual: (&str, &[usize], &[f32]) =
        ("residual.weight", &[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    let dense = read(&config, weights(&[WEIGHT, BIAS, residual])).unwrap();
    assert_eq!(answer(&dense, &[1.0, 1.0]), [4.25, -1.5, 0.0]);
    let square: (&str, &[usize], &[f32]) = ("linear.weight", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let config = config.replace(
        "\"out_features\": 3",
        "\"bias\": false, \"out_features\": 2",
    );
    let dense = read(&config, weights(&[square])).unwrap();
    assert_eq!(answer(&dense, &[1.0, 10.0]), [22.0, 53.0]);
}

#[test]
fn long_vectors_are_added_up_whole() {
    let values: Vec<f32> = (0_u8..19).map(f32::from).collect();
    let ones = vec![1.0; 19];
    let config = r#"{"in_features": 19, "out_features": 1, "bias": false, "activation_function": "Identity"}"#;
    let dense = read(config, weights(&[("linear.weight", &[1, 19], &ones)])).unwrap();
    assert_eq!(answer(&dense, &values), [171.0]);
}

#[test]
fn files_at_fault_are_told() {
    let good = || weights(&[WEIGHT, BIAS]);
    let cases: [(String, Vec<u8>, &str); 8] = [
        (CONFIG.replace('2', "0"), good(), "in_features is 0"),
        (
            CONFIG.replace("Identity", "GELU"),
            good(),
            "Identity, Tanh, ReLU and Sigmoid",
        ),
        (
            CONFIG.replace('2', "4"),
            good(),
            "shape [3, 2], the settings say [3, 4]",
        ),
        (
            CONFIG.to_owned(),
            weights(&[WEIGHT]),
            "no tensor 'linear.bias'",
        ),
        (CONFIG.to_owned(), vec![1, 2], "ends within its head"),
        (CONFIG.to_owned(), vec![255; 16], "at most 1048576 are read"),
        (
            CONFIG.to_owned(),
            good()[..good().len() - 1].to_vec(),
            "lies beyond the file",
        ),
        ("{}".to_owned(), good(), "in_features"),
    ];
    for (config, weights, expected) in cases {
        let error = read(&config, weights).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let whole = good();
    for end in 0..whole.len() {
        assert!(read(CONFIG, whole[..end].to_vec()).is_err(), "{end}");
        let mut damaged = whole.clone();
        damaged[end] ^= 4;
        drop(read(CONFIG, damaged));
    }
    let files = [("2_Dense/config.json".to_owned(), CONFIG.as_bytes().to_vec())];
    let error = Dense::read(&Files(files.into()), "2_Dense").unwrap_err();
    assert!(error.to_string().contains("safe_serialization"), "{error}");
}

#[test]
fn modules_follow_from_each_other_and_are_few() {
    let narrow = |n: usize| {
        let config = r#"{"in_features": 1, "out_features": 1, "bias": false}"#;
        let config = config.replace("\"out_features\": 1", &format!("\"out_features\": {n}"));
        let values = vec![1.0; n];
        read(&config, weights(&[("linear.weight", &[n, 1], &values)])).unwrap()
    };
    let mut dense = Vec::new();
    for _ in 0..8 {
        crate::settings::append(&mut dense, narrow(1)).unwrap();
    }
    let error = crate::settings::append(&mut dense, narrow(1)).unwrap_err();
    assert!(error.starts_with("there are 9 Dense"), "{error}");
    let mut dense = vec![narrow(3)];
    let error = crate::settings::append(&mut dense, narrow(1)).unwrap_err();
    assert_eq!(error, "a Dense takes 1 numbers of the 3 before it");
    assert_eq!(narrow(3).memory_bytes(), 12);
}
