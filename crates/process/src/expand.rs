//! From what a manifest says to what is run: `$(VAR)`, the model's path and the port become the replica's own.
//!
//! On a cluster every replica has a file system and a network of its own, so that all of them can use `/mnt/models` and
//! port 8080. Here they share both: wherever a manifest names the one or the other, the replica's own takes its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coracle_serving::{MODEL_PATH, ProcessSpec};

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) argv: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) working_directory: PathBuf,
    /// The ports as the manifest has them, with the replica's own; the first takes requests.
    pub(crate) ports: Vec<(u16, u16)>,
}

impl Command {
    /// Returns the replica's own port in place of a declared one.
    pub(crate) fn port(&self, declared: u16) -> u16 {
        let own = self.ports.iter().find(|(port, _)| *port == declared);
        own.map_or(declared, |(_, own)| *own)
    }

    /// Returns another program's arguments, such as a probe's, as this one's are.
    pub(crate) fn expand(&self, argument: &str, models: Option<&Path>) -> String {
        place(
            &substitute(argument, &self.environment),
            models,
            &self.ports,
        )
    }
}

/// Returns what a replica runs. `base` is the environment that every program gets; `ports` are the declared ports with
/// the replica's own.
pub(crate) fn command(
    spec: &ProcessSpec,
    base: &BTreeMap<String, String>,
    (directory, models): (&Path, Option<&Path>),
    ports: Vec<(u16, u16)>,
) -> Command {
    let mut environment = base.clone();
    if let Some((_, own)) = ports.first() {
        environment.insert("PORT".to_owned(), own.to_string());
    }
    for (name, value) in &spec.environment {
        let value = substitute(value, &environment);
        environment.insert(name.clone(), place(&value, models, &ports));
    }
    let working_directory = match &spec.working_directory {
        Some(path) => PathBuf::from(place(path, models, &[])),
        None => directory.to_owned(),
    };
    let argv = spec.argv.iter();
    Command {
        argv: argv
            .map(|argument| place(&substitute(argument, &environment), models, &ports))
            .collect(),
        environment,
        working_directory,
        ports,
    }
}

/// Replaces `$(VAR)` as Kubernetes does: one that is not known stays as it is, and `$$` is a `$`.
fn substitute(text: &str, environment: &BTreeMap<String, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|after| after.split_once(')'))
        {
            match environment.get(name) {
                Some(value) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    result
}

/// Puts the replica's own path and ports in the places of the declared ones.
fn place(text: &str, models: Option<&Path>, ports: &[(u16, u16)]) -> String {
    let mut text = text.to_owned();
    if let Some(models) = models {
        text = replace_whole(&text, MODEL_PATH, &models.to_string_lossy(), is_of_name);
    }
    // All ports in one pass, lest one's own be taken for another's declared one.
    let mut result = String::with_capacity(text.len());
    let mut last = ' ';
    let mut digits = String::new();
    for letter in text.chars().chain(std::iter::once('\0')) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        if !digits.is_empty() {
            let declared: Option<u16> = digits.parse().ok();
            let own = ports.iter().find(|(port, _)| Some(*port) == declared);
            let starts = result.is_empty() || matches!(last, '=' | ':');
            let ends = matches!(letter, '\0' | '/' | '?' | ',' | ' ' | '"' | '\'');
            match own.filter(|_| starts && ends && !digits.starts_with('0')) {
                Some((_, own)) => result.push_str(&own.to_string()),
                None => result.push_str(&digits),
            }
            digits.clear();
        }
        if letter != '\0' {
            result.push(letter);
        }
        last = letter;
    }
    result
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.')
}

/// Replaces `from` where it is not a part of a longer name.
fn replace_whole(text: &str, from: &str, to: &str, is_of_name: fn(char) -> bool) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(from) {
        result.push_str(before);
        let is_whole = !result.ends_with(is_of_name) && !after.starts_with(is_of_name);
        result.push_str(if is_whole { to } else { from });
        rest = after;
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> BTreeMap<String, String> {
        let pairs = [("A", "a"), ("B", "b"), ("EMPTY", "")];
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn variables_are_replaced_as_kubernetes_does() {
        // From the table of k8s.io/kubernetes/third_party/forked/golang/expansion.
        let cases = [
            ("$(A)", "a"),
            ("___$(A)___", "___a___"),
            ("$(A)$(B)", "ab"),
            ("f000-$$(A)", "f000-$(A)"),
            ("$$$$(A)", "$$(A)"),
            ("$$$(A)", "$a"),
            ("$(C)", "$(C)"),
            ("$(EMPTY)x", "x"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("$", "$"),
            ("$$", "$"),
            ("foo$", "foo$"),
            ("$()", "$()"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(substitute(text, &environment()), expected, "{text}");
        }
    }

    #[test]
    fn paths_and_ports_become_the_replicas_own() {
        let ports = [(8080, 40_001), (8081, 8080)];
        let cases = [
            ("/mnt/models", "/r/models"),
            ("--model_dir=/mnt/models/a", "--model_dir=/r/models/a"),
            ("file:///mnt/models", "file:///r/models"),
            (
                "/mnt/models2 /data/mnt/models.old",
                "/mnt/models2 /data/mnt/models.old",
            ),
            ("/mnt/models:/mnt/models", "/r/models:/r/models"),
            ("--http_port=8080", "--http_port=40001"),
            ("8080", "40001"),
            ("0.0.0.0:8080", "0.0.0.0:40001"),
            (
                "http://localhost:8080/v1?x=8081",
                "http://localhost:40001/v1?x=8080",
            ),
            ("8081", "8080"),
            ("--grpc=8081", "--grpc=8080"),
            ("18080", "18080"),
            ("8080MB", "8080MB"),
            ("a8080", "a8080"),
            ("8080.5", "8080.5"),
            ("size 8080", "size 8080"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                place(text, Some(Path::new("/r/models")), &ports),
                expected,
                "{text}"
            );
        }
        assert_eq!(place("/mnt/models", None, &[]), "/mnt/models");
    }

    #[test]
    fn later_variables_see_earlier_ones_and_arguments_see_all() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let spec = ProcessSpec {
            argv: ["serve", "$(URL)", "$(LATER)"].map(str::to_owned).into(),
            environment: vec![
                pair("URL", "http://$(HOST):8080"),
                pair("EARLY", "$(LATER)"),
                pair("LATER", "x/$(A)"),
            ],
            ports: vec![8080],
            ..ProcessSpec::default()
        };
        let mut base = environment();
        base.insert("HOST".to_owned(), "h".to_owned());
        let command = command(&spec, &base, (Path::new("/r"), None), vec![(8080, 9)]);
        assert_eq!(command.argv, ["serve", "http://h:9", "x/a"]);
        assert_eq!(command.environment["EARLY"], "$(LATER)");
        assert_eq!(command.environment["PORT"], "9");
        assert_eq!(command.working_directory, Path::new("/r"));
        assert_eq!((command.port(8080), command.port(7)), (9, 7));
    }
}
