//! The contract of floor 2: a graph and the files beside it to a model of texts.

use std::sync::Arc;

use coracle_base::{Clock, SystemClock};
use coracle_model::{FilesBeside, LoadError, LoadErrorKind, Model, Restated, TextEngine};

use crate::padded::Part;
use crate::settings::{Fill, Settings};
use crate::task::Task;
use crate::text_model::{Runner, TextModel};
use crate::tokens::{self, Head, Tokens};

/// The tokeniser's file: where it lies beside a graph, the graph may be one of texts.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// Makes models of texts of graphs that take tokens.
#[derive(Clone, Debug)]
pub struct TextSteps {
    clock: Arc<dyn Clock>,
    takes_pairs: bool,
}

impl TextSteps {
    /// Returns the steps, which tell by `clock` when the time of a call is over.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            takes_pairs: false,
        }
    }

    /// Returns the steps with two texts for each row of a classifier, whether or not its files say so.
    #[must_use]
    pub fn with_pairs(mut self) -> Self {
        self.takes_pairs = true;
        self
    }
}

impl Default for TextSteps {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock::new()))
    }
}

impl TextEngine for TextSteps {
    fn takes_pairs(&self) -> bool {
        self.takes_pairs
    }

    fn around(
        &self,
        graph: Box<dyn Model>,
        files: &dyn FilesBeside,
    ) -> Result<Box<dyn Model>, LoadError> {
        let inputs = &graph.signature().inputs;
        let parts: Vec<Option<Part>> = inputs.iter().map(Part::of).collect();
        if !parts.contains(&Some(Part::Ids)) {
            return Ok(graph);
        }
        let as_it_is = |graph: Box<dyn Model>, why: String| {
            let why = format!("not taken: {why}");
            let noted: Box<dyn Model> = Box::new(Restated::noted(graph, "texts", why));
            Ok(noted)
        };
        let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>() else {
            let others = inputs.iter().filter(|input| Part::of(input).is_none());
            let others: Vec<&str> = others.map(|input| input.name.as_str()).collect();
            let why = format!("the graph takes {} too", others.join(", "));
            return as_it_is(graph, why);
        };
        let Some(bytes) = files.read(TOKENIZER_FILE, tokens::FILE_BYTES_MAX)? else {
            return Ok(graph);
        };
        let head = Head::read(&bytes).map_err(|error| error.at(TOKENIZER_FILE))?;
        let mut settings = Settings::read(files, head)?;
        let task = match Task::of(graph.signature(), &settings) {
            Ok(task) => task,
            Err(why) => return as_it_is(graph, why),
        };
        let width = match width(graph.as_ref()) {
            Ok(width) => width,
            Err(why) => return as_it_is(graph, why),
        };
        let takes_pairs = self.takes_pairs || settings.takes_pairs;
        let takes_pairs = takes_pairs && matches!(task, Task::Classes { .. });
        let limits = &mut settings.limits;
        limits.n_tokens_max = limits.n_tokens_max.into_iter().chain(width).min();
        let mut tokens =
            Tokens::read(&bytes, limits, takes_pairs).map_err(|error| error.at(TOKENIZER_FILE))?;
        if let Task::Words { .. } = task {
            tokens = tokens.with_places(settings.unknown.as_deref());
        }
        let (name, number) = &settings.filler;
        let id = name.as_deref().and_then(|name| tokens.id_of(name));
        let fill = Fill {
            side: settings.fill_side,
            id: id.or(*number).unwrap_or(0),
            type_id: settings.filler_type,
        };
        let runner = Runner {
            graph,
            tokens,
            parts,
            fill,
            width,
            task,
            takes_pairs,
            clock: Arc::clone(&self.clock),
        };
        Ok(Box::new(TextModel::try_new(runner, &settings)?))
    }
}

/// Returns how many tokens each text has, where the graph takes no other number.
///
/// # Errors
/// Says so where the graph takes no other number of texts than one that is not one.
fn width(graph: &dyn Model) -> Result<Option<usize>, String> {
    let mut width = None;
    for input in &graph.signature().inputs {
        match input.shape.as_slice() {
            [None | Some(1), sizes] => width = width.or(*sizes),
            shape => return Err(format!("the graph takes {shape:?} of {}", input.name)),
        }
    }
    Ok(width)
}

/// Returns an error of what is not done here.
pub(crate) fn unsupported(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests;
