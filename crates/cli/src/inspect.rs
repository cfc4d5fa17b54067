//! `coracle inspect`: what a model file is.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use coracle_base::{ByteCount, SystemClock};
use coracle_formats::{
    LoadOptions, ModelFile, TritonConfig, load, locate, locate_versions, variants,
};
use coracle_model::{Component, Model, TensorSpec};
use coracle_protocol::content_type;
use serde_json::{Value, json};

use crate::args::InspectArguments;
use crate::compare::compare;
use crate::engine_settings::over;
use crate::model_repository::{check_config, file_place};
use crate::{Environment, engine, input_example};

/// The version of a model that has numbered directories.
struct Numbers {
    /// The newest, which is shown.
    version: u64,
    others: Vec<u64>,
}

/// The configuration beside a model.
struct Beside {
    path: PathBuf,
    /// What of it has no meaning here.
    notes: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &InspectArguments, environment: &Environment) -> anyhow::Result<()> {
    let clock = SystemClock::new();
    let options = options(arguments, environment)?;
    let onnxruntime = arguments.onnxruntime.as_deref();
    let engines = engine::Each::of(onnxruntime, &options.engine_settings, environment);
    let mut text = String::new();
    let mut documents = Vec::new();
    for path in &arguments.paths {
        let (models, errors) = locate_versions(path)?;
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        for found in models {
            // What is served unless something else is said.
            let Some((version, place)) = found.versions.last_key_value() else {
                continue;
            };
            let (file, config) = file_place(place)?;
            let file = ModelFile {
                name: found.name.clone(),
                path: locate(&file)?,
            };
            let others = found.versions.keys().filter(|other| *other != version);
            let numbers = place.is_dir().then(|| Numbers {
                version: *version,
                others: others.copied().collect(),
            });
            let mut options = options.clone();
            if let Some(config) = &config {
                options.engine_settings = over(config.engine.clone(), &options.engine_settings);
            }
            let model = load(&file.path, &options, &clock)?.model;
            let beside = config.map(|config| {
                let mut notes = config.notes.clone();
                notes.extend(check_config(&config, &file.name, place, model.as_ref())?);
                let path = TritonConfig::path_beside(place);
                anyhow::Ok(Beside { path, notes })
            });
            let beside = beside.transpose()?;
            let compared = arguments
                .compare_engines
                .then(|| compare(&file.path, &engines.named(), &options.engine_settings));
            let example = input_example::request(model.as_ref(), &file.path);
            if arguments.json {
                let mut document = document(&file, numbers.as_ref(), model.as_ref());
                document["example"] = example_document(example);
                document["config"] = beside.map_or(Value::Null, |beside| beside.document());
                if let Some(compared) = &compared {
                    document["engines"] = compared.document();
                }
                documents.push(document);
            } else {
                describe(&file, numbers.as_ref(), model.as_ref(), &mut text)?;
                describe_example(example, &mut text)?;
                if let Some(beside) = beside {
                    beside.describe(&mut text)?;
                }
                if let Some(compared) = &compared {
                    compared.describe(&mut text)?;
                }
            }
        }
    }
    if arguments.json {
        text = serde_json::to_string_pretty(&documents)?;
        text.push('\n');
    }
    // A reader that closes the pipe early (`| head`) has seen enough.
    drop(crate::printed::stdout().write_all(text.as_bytes()));
    Ok(())
}

/// Returns how models are loaded to be looked at.
fn options(arguments: &InspectArguments, environment: &Environment) -> anyhow::Result<LoadOptions> {
    let onnxruntime = arguments.onnxruntime.as_deref();
    let engine_settings = arguments.engine.settings(&environment.engines)?;
    Ok(LoadOptions {
        object: arguments.object.clone(),
        graph_engine: Some(engine::runtime(onnxruntime, &engine_settings, environment)),
        engine_settings,
        text_engine: Some(engine::texts()),
        ..LoadOptions::default()
    })
}

/// The most characters of an example that are shown.
const EXAMPLE_SHOWN_MAX: usize = 1_000;

fn describe_example(
    example: Result<Option<String>, String>,
    text: &mut String,
) -> std::fmt::Result {
    match example {
        Ok(None) => Ok(()),
        Ok(Some(body)) => writeln!(text, "  example     {}", shown(&body)),
        Err(why) => writeln!(text, "  example     not answered: {why}"),
    }
}

fn shown(body: &str) -> String {
    match body.char_indices().nth(EXAMPLE_SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &body[..end]),
        None => body.to_owned(),
    }
}

/// Returns an example as the request that it is, or why the model does not answer it.
fn example_document(example: Result<Option<String>, String>) -> Value {
    match example {
        Ok(body) => body.map_or(Value::Null, |body| {
            serde_json::from_str(&body).unwrap_or(Value::Null)
        }),
        Err(why) => json!({"error": why}),
    }
}

impl Beside {
    fn describe(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "  config      {}", self.path.display())?;
        for note in &self.notes {
            writeln!(text, "    {note}")?;
        }
        Ok(())
    }

    fn document(&self) -> Value {
        json!({"path": self.path.display().to_string(), "notes": self.notes})
    }
}

fn memory(model: &dyn Model) -> ByteCount {
    ByteCount::new(u64::try_from(model.memory_bytes()).unwrap_or(u64::MAX))
}

fn describe(
    file: &ModelFile,
    numbers: Option<&Numbers>,
    model: &dyn Model,
    text: &mut String,
) -> std::fmt::Result {
    let description = model.description();
    let signature = model.signature();
    if !text.is_empty() {
        text.push('\n');
    }
    let version = description
        .library_version
        .as_deref()
        .unwrap_or("(version unknown)");
    writeln!(text, "{}", file.path.display())?;
    let variants = variants(&file.path);
    if !variants.is_empty() {
        let variants = variants.join(", ");
        writeln!(
            text,
            "  variants    {variants} (not served; name the file instead of the directory to serve one)"
        )?;
    }
    writeln!(text, "  name        {}", file.name)?;
    if let Some(Numbers { version, others }) = numbers {
        let others: Vec<String> = others.iter().map(u64::to_string).collect();
        let others = match others.as_slice() {
            [] => String::new(),
            others => format!(" (older ones: {})", others.join(", ")),
        };
        writeln!(text, "  version     {version}{others}")?;
    }
    writeln!(text, "  format      {}", description.format)?;
    writeln!(text, "  written by  {} {version}", description.library)?;
    writeln!(text, "  memory      {}", memory(model).to_rounded())?;
    writeln!(text, "  inputs")?;
    for (index, input) in signature.inputs.iter().enumerate() {
        let is_keyed = signature.keyed_inputs.contains(&index);
        let note = match signature.unranked_inputs.contains(&index) {
            true => "  any number of dimensions",
            false => "",
        };
        describe_tensor(input, is_keyed, note, text)?;
    }
    writeln!(text, "  outputs")?;
    for (index, output) in signature.outputs.iter().enumerate() {
        let note = if signature.default_outputs.contains(&index) {
            "  (default)"
        } else {
            ""
        };
        let is_keyed = signature.keyed_outputs.contains(&index);
        describe_tensor(output, is_keyed, note, text)?;
    }
    writeln!(text, "  model")?;
    describe_component(&description.root, 2, text)
}

fn describe_tensor(
    spec: &TensorSpec,
    is_keyed: bool,
    note: &str,
    text: &mut String,
) -> std::fmt::Result {
    let content = match content_type(spec, is_keyed) {
        Some("json") => "  texts of JSON",
        Some(_) => "  texts",
        None => "",
    };
    let missing = if spec.accepts_missing {
        "  may be missing"
    } else {
        ""
    };
    writeln!(
        text,
        "    {:<18} {:<6} {:?}{content}{missing}{note}",
        spec.name,
        spec.dtype,
        spec.wire_shape()
    )?;
    if let Some(columns) = &spec.columns {
        writeln!(text, "      columns: {}", columns.join(", "))?;
    }
    Ok(())
}

fn describe_component(component: &Component, depth: usize, text: &mut String) -> std::fmt::Result {
    let indent = "  ".repeat(depth);
    let name = match component.name.as_str() {
        "" => String::new(),
        name => format!("{name}: "),
    };
    writeln!(text, "{indent}{name}{}", component.class)?;
    if !component.facts.is_empty() {
        let facts: Vec<String> = component
            .facts
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        writeln!(text, "{indent}  {}", facts.join(", "))?;
    }
    if !component.parameters.is_empty() {
        let parameters: Vec<String> = component
            .parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        writeln!(text, "{indent}  {}", parameters.join(", "))?;
    }
    for child in &component.children {
        describe_component(child, depth + 1, text)?;
    }
    Ok(())
}

fn document(file: &ModelFile, numbers: Option<&Numbers>, model: &dyn Model) -> Value {
    let description = model.description();
    let signature = model.signature();
    let defaults: Vec<&str> = signature
        .default_outputs
        .iter()
        .filter_map(|&index| signature.outputs.get(index))
        .map(|output| output.name.as_str())
        .collect();
    json!({
        "path": file.path.display().to_string(),
        "name": file.name,
        "variants": variants(&file.path),
        "version": numbers.map(|numbers| numbers.version),
        "format": description.format,
        "library": description.library,
        "library_version": description.library_version,
        "memory_bytes": memory(model).as_u64(),
        "inputs": tensor_documents(&signature.inputs, &signature.keyed_inputs),
        "outputs": tensor_documents(&signature.outputs, &signature.keyed_outputs),
        "default_outputs": defaults,
        "model": component_document(&description.root),
    })
}

fn tensor_documents(specs: &[TensorSpec], keyed: &[usize]) -> Vec<Value> {
    let specs = specs.iter().enumerate();
    let documents = specs.map(|(index, spec)| tensor_document(spec, keyed.contains(&index)));
    documents.collect()
}

fn tensor_document(spec: &TensorSpec, is_keyed: bool) -> Value {
    json!({
        "name": spec.name,
        "datatype": spec.dtype.name(),
        "shape": spec.wire_shape(),
        "columns": spec.columns,
        "content_type": content_type(spec, is_keyed),
        "accepts_missing": spec.accepts_missing,
    })
}

fn component_document(component: &Component) -> Value {
    let object = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect::<serde_json::Map<_, _>>()
    };
    json!({
        "name": component.name,
        "class": component.class,
        "parameters": object(&component.parameters),
        "facts": object(&component.facts),
        "children": component.children.iter().map(component_document).collect::<Vec<_>>(),
    })
}
