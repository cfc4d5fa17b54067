//! Manifests as kubectl's users name them: a file, a directory of them, or `-` for what comes in.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The endings of the files that a directory is looked through for.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// A text of manifests, with what messages call it.
pub(crate) struct ManifestText {
    pub(crate) shown: String,
    pub(crate) text: String,
}

/// Reads what `path` names; the files of a directory by name, without those below.
///
/// # Errors
/// If something cannot be read, or a directory holds no manifest.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<ManifestText>> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read the standard input")?;
        let shown = "standard input".to_owned();
        return Ok(vec![ManifestText { shown, text }]);
    }
    let files = if path.is_dir() {
        files_of(path)?
    } else {
        vec![path.to_owned()]
    };
    let read = |file: PathBuf| {
        let shown = file.display().to_string();
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {shown}"))?;
        Ok(ManifestText { shown, text })
    };
    files.into_iter().map(read).collect()
}

fn files_of(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let shown = directory.display();
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {shown}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {shown}"))?
            .path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_manifest = extension.is_some_and(|extension| EXTENSIONS.contains(&extension));
        if is_manifest && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{shown} holds no *.yaml, *.yml or *.json file");
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_its_manifests_by_name() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.yml", "b"),
            ("a.yaml", "a"),
            ("c.json", "c"),
            ("d.txt", "d"),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        fs::create_dir(directory.path().join("deeper.yaml")).unwrap();
        let texts = read(directory.path()).unwrap();
        let texts: Vec<&str> = texts.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts, ["a", "b", "c"]);
        let one = read(&directory.path().join("d.txt")).unwrap();
        assert_eq!(one[0].text, "d");
        let empty = directory.path().join("deeper.yaml");
        let problem = read(&empty).err().unwrap().to_string();
        assert!(problem.contains("holds no *.yaml"), "{problem}");
        assert!(read(&directory.path().join("none.yaml")).is_err());
    }
}
