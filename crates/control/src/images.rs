//! Which program runs here in place of a container image: this machine runs no images.

use std::collections::BTreeMap;

/// Images with the programs that run in their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images(BTreeMap<String, Vec<String>>);

impl Images {
    /// Reads `IMAGE=PROGRAM ARGUMENT...` entries. Arguments are parted by spaces; quotes keep them together.
    ///
    /// # Errors
    /// Says which entry is none.
    pub fn read(entries: &[String]) -> Result<Self, String> {
        let mut images = BTreeMap::new();
        for entry in entries {
            let (image, command) = entry
                .split_once('=')
                .filter(|(image, _)| !image.is_empty())
                .ok_or_else(|| format!("{entry:?} is no IMAGE=COMMAND"))?;
            let argv = split(command).ok_or_else(|| format!("{entry:?}: a quote has no end"))?;
            if argv.is_empty() {
                return Err(format!("{entry:?} names no command"));
            }
            images.insert(image.to_owned(), argv);
        }
        Ok(Self(images))
    }

    /// Returns the program for an image, by its whole name or by its name without tag and digest.
    #[must_use]
    pub fn command(&self, image: &str) -> Option<&[String]> {
        let found = self.0.get(image).or_else(|| self.0.get(without_tag(image)));
        found.map(Vec::as_slice)
    }
}

/// Returns an image's name without tag and digest.
fn without_tag(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        // A colon before the last slash is of a port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// Parts a command line; `None` if a quote has no end.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match quote {
            Some(end) if letter == end => quote = None,
            Some(_) => word.get_or_insert_default().push(letter),
            None if letter == '"' || letter == '\'' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_with_and_without_their_tags() {
        let entries = [
            "kserve/custom=python3 -m 'my model' --x=\"a b\" ''".to_owned(),
            "host:5000/other:v1=run".to_owned(),
        ];
        let images = Images::read(&entries).unwrap();
        let custom: &[&str] = &["python3", "-m", "my model", "--x=a b", ""];
        for image in [
            "kserve/custom",
            "kserve/custom:latest",
            "kserve/custom@sha256:00",
            "kserve/custom:v1@sha256:00",
        ] {
            assert_eq!(images.command(image).unwrap(), custom, "{image}");
        }
        assert!(images.command("host:5000/other:v1").is_some());
        for image in ["host:5000/other", "host:5000/other:v2", "custom", ""] {
            assert_eq!(images.command(image), None, "{image}");
        }
        for (entry, why) in [
            ("x", "no IMAGE=COMMAND"),
            ("=x", "no IMAGE=COMMAND"),
            ("x=", "names no command"),
            ("x='y", "has no end"),
        ] {
            let error = Images::read(&[entry.to_owned()]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
