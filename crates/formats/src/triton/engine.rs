//! What a configuration says of how ONNX Runtime runs a graph, in the words of our engine's settings.
//!
//! Accelerators are marked as ones that may be missing: a model moves from one machine to another with its configuration.

use std::collections::BTreeMap;

use super::fields::{Notes, message, number, once, string, wrong};
use super::text::{Fault, Field};

/// The parameters of Triton's backend of ONNX Runtime that are settings of our engine, too.
const PARAMETERS: [&str; 5] = [
    "intra_op_thread_count",
    "inter_op_thread_count",
    "execution_mode",
    "enable_mem_arena",
    "enable_mem_pattern",
];
/// Parameters of the accelerator TensorRT whose names are others for ONNX Runtime.
const RENAMED: [(&str, &str); 5] = [
    ("max_workspace_size_bytes", "trt_max_workspace_size"),
    ("max_partition_iterations", "trt_max_partition_iterations"),
    ("min_subgraph_size", "trt_min_subgraph_size"),
    (
        "int8_calibration_table_name",
        "trt_int8_calibration_table_name",
    ),
    (
        "int8_use_native_calibration_table",
        "trt_int8_use_native_calibration_table",
    ),
];

/// What `optimization` and `instance_group` say.
#[derive(Debug, Default)]
pub(super) struct Engine {
    level: Option<i32>,
    /// Whether there are instances on a graphics processor.
    pub(super) is_on_gpu: bool,
    on_gpu: Vec<Accelerator>,
    on_cpu: Vec<Accelerator>,
}

#[derive(Debug)]
struct Accelerator {
    name: String,
    options: BTreeMap<String, String>,
}

impl Engine {
    /// Reads `optimization`.
    pub(super) fn read(&mut self, field: &Field, notes: &mut Notes<'_>) -> Result<(), Fault> {
        for inner in &message(field)?.fields {
            match inner.name.as_str() {
                "graph" => self.graph(inner, notes)?,
                "execution_accelerators" => self.accelerators(inner, notes)?,
                _ => notes.unknown(inner, &field.name),
            }
        }
        Ok(())
    }

    fn graph(&mut self, field: &Field, notes: &mut Notes<'_>) -> Result<(), Fault> {
        for inner in &message(field)?.fields {
            match inner.name.as_str() {
                "level" => {
                    let level = number(inner, -1, 2)?;
                    once(&mut self.level, inner, level)?;
                }
                _ => notes.unknown(inner, &field.name),
            }
        }
        Ok(())
    }

    fn accelerators(&mut self, field: &Field, notes: &mut Notes<'_>) -> Result<(), Fault> {
        for inner in &message(field)?.fields {
            let (known, place): (&[&str], _) = match inner.name.as_str() {
                "gpu_execution_accelerator" => (&["tensorrt", "cuda"], &mut self.on_gpu),
                "cpu_execution_accelerator" => (&["openvino"], &mut self.on_cpu),
                _ => {
                    notes.unknown(inner, &field.name);
                    continue;
                }
            };
            let accelerator = accelerator(inner, notes)?;
            if !known.contains(&accelerator.name.as_str()) {
                notes.add(inner, "ONNX Runtime has no such accelerator here");
            } else if !place.iter().any(|before| before.name == accelerator.name) {
                place.push(accelerator);
            }
        }
        Ok(())
    }

    /// Returns the settings, with those of the `parameters`.
    pub(super) fn settings(
        mut self,
        parameters: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let named = PARAMETERS.iter().filter_map(|name| {
            let value = parameters.get(*name)?;
            Some(((*name).to_owned(), value.clone()))
        });
        let mut settings: BTreeMap<String, String> = named.collect();
        let level = match self.level {
            Some(-1) => Some("basic"),
            Some(1) => Some("extended"),
            Some(2) => Some("disabled"),
            _ => None,
        };
        settings
            .extend(level.map(|level| ("graph_optimization_level".to_owned(), level.to_owned())));
        if self.is_on_gpu || !self.on_gpu.is_empty() {
            // What TensorRT does not run is CUDA's, as in Triton.
            let has_cuda = self.on_gpu.iter().any(|found| found.name == "cuda");
            self.on_gpu.extend((!has_cuda).then(|| Accelerator {
                name: "cuda".to_owned(),
                options: BTreeMap::new(),
            }));
            self.on_gpu.sort_by_key(|found| found.name == "cuda");
        }
        let accelerators = self.on_gpu.into_iter().chain(self.on_cpu);
        let mut names = Vec::new();
        for Accelerator { name, options } in accelerators {
            let options = options.into_iter();
            settings.extend(options.map(|(option, value)| (format!("{name}.{option}"), value)));
            names.push(name + "?");
        }
        if !names.is_empty() {
            settings.insert("providers".to_owned(), names.join(","));
        }
        settings
    }
}

fn accelerator(field: &Field, notes: &mut Notes<'_>) -> Result<Accelerator, Fault> {
    let mut name = None;
    let mut parameters = Vec::new();
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "name" => once(&mut name, inner, string(inner)?)?,
            "parameters" => parameters.push((inner, parameter(inner, notes)?)),
            _ => notes.unknown(inner, &field.name),
        }
    }
    let name = name.ok_or_else(|| {
        let what = format!("{} has no name", field.name);
        Fault::new(field.position, what)
    })?;
    let mut options = BTreeMap::new();
    for (place, (key, value)) in parameters {
        match name.as_str() {
            "tensorrt" => options.extend(tensorrt(place, &key, value)?),
            _ => options.extend([(key, value)]),
        }
    }
    Ok(Accelerator { name, options })
}

fn parameter(field: &Field, notes: &mut Notes<'_>) -> Result<(String, String), Fault> {
    let (mut key, mut value) = (None, None);
    for inner in &message(field)?.fields {
        match inner.name.as_str() {
            "key" => once(&mut key, inner, string(inner)?)?,
            "value" => once(&mut value, inner, string(inner)?)?,
            _ => notes.unknown(inner, &field.name),
        }
    }
    let key = key.ok_or_else(|| Fault::new(field.position, "parameters has no key"))?;
    Ok((key, value.unwrap_or_default()))
}

/// Returns the options of ONNX Runtime that a parameter of the accelerator TensorRT stands for.
fn tensorrt(field: &Field, key: &str, value: String) -> Result<Vec<(String, String)>, Fault> {
    let option = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    if key == "precision_mode" {
        return match value.as_str() {
            "FP32" => Ok(Vec::new()),
            "FP16" => Ok(option("trt_fp16_enable", "1")),
            "INT8" => Ok(option("trt_int8_enable", "1")),
            _ => {
                let what = "precision_mode may be FP32, FP16 or INT8";
                Err(Fault::new(field.position, what))
            }
        };
    }
    let value = match value.as_str() {
        "true" => "1",
        "false" => "0",
        value => value,
    };
    let renamed = RENAMED.iter().find(|(known, _)| *known == key);
    match renamed {
        Some((_, name)) => Ok(option(name, value)),
        None if key.starts_with("trt_") => Ok(option(key, value)),
        None => Err(wrong_key(field)),
    }
}

fn wrong_key(field: &Field) -> Fault {
    wrong(
        field,
        "a parameter of TensorRT: precision_mode, max_workspace_size_bytes, or one that begins with trt_",
    )
}
