//! Files of several places under one directory, as their mount paths say: links, no copies.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cache::{self, Cache};
use crate::config::{Artifact, Assembly, StorageLimits};
use crate::digest;
use crate::error::{StorageError, StorageErrorKind};
use crate::leases::Lease;

/// Where a runtime looks for its model.
const MODEL_PATH: &str = "/mnt/models";

/// Artifacts with the mount path of each.
pub(crate) type Placed = Vec<(String, Artifact)>;

/// Puts the files of all artifacts under one directory of the cache.
///
/// # Errors
/// [`UnsupportedUri`](StorageErrorKind::UnsupportedUri) if two places give the same file,
/// [`Local`](StorageErrorKind::Local) if the links cannot be made.
pub(crate) fn assemble(
    placed: Placed,
    cache: &Cache,
    limits: &StorageLimits,
) -> Result<Assembly, StorageError> {
    let paths: Vec<Vec<&str>> = placed.iter().map(|(path, _)| parts(path)).collect();
    let common = common_parent(&paths);
    let key = digest::hash_texts(placed.iter().flat_map(|(path, artifact)| {
        [
            path.as_str(),
            artifact.digest.as_str(),
            artifact.directory.to_str().unwrap_or_default(),
        ]
    }));
    let root = cache.assembled(&key);
    let links = links(&placed, &paths, common, limits)?;
    if !is_whole(&root, &links) {
        link_all(&root, &links)?;
    }
    let below = |path: &[&str]| -> PathBuf { root.join(path.iter().collect::<PathBuf>()) };
    let model = parts(MODEL_PATH);
    let holds_model = model.len() > common
        && paths
            .iter()
            .any(|path| path.get(..model.len()) == Some(&model));
    let directory = match model.get(common..) {
        Some(rest) if holds_model => below(rest),
        _ => root.clone(),
    };
    let places = paths.iter().map(|path| below(&path[common..])).collect();
    let artifact = Artifact {
        directory,
        digest: key,
        bytes: placed.iter().map(|(_, artifact)| artifact.bytes).sum(),
        n_files: links.len(),
        is_from_before: placed.iter().any(|(_, artifact)| artifact.is_from_before),
        lease: Lease::together(placed.into_iter().map(|(_, artifact)| artifact.lease)),
    };
    Ok(Assembly { artifact, places })
}

fn parts(path: &str) -> Vec<&str> {
    let parts = path.split('/');
    parts
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .collect()
}

/// Returns how many components all paths begin with.
fn common_parent(paths: &[Vec<&str>]) -> usize {
    let Some((first, others)) = paths.split_first() else {
        return 0;
    };
    let is_common = |index: &usize| {
        others
            .iter()
            .all(|path| path.get(*index) == first.get(*index))
    };
    (0..first.len()).take_while(is_common).count()
}

/// Returns what is linked to where, by path below the common parent.
fn links(
    placed: &Placed,
    paths: &[Vec<&str>],
    common: usize,
    limits: &StorageLimits,
) -> Result<BTreeMap<PathBuf, PathBuf>, StorageError> {
    let mut links = BTreeMap::new();
    for ((mount_path, artifact), path) in placed.iter().zip(paths) {
        let below: PathBuf = path[common..].iter().collect();
        for file in digest::walk(&artifact.directory, None, limits)? {
            let target = std::path::absolute(&file.path)
                .map_err(|source| StorageError::local("find", &file.path, source))?;
            let relative = below.join(&file.relative);
            if links.insert(relative, target).is_some() {
                return Err(clash(mount_path, &file.relative));
            }
        }
    }
    // A file of one place may have the name of a directory of another.
    for relative in links.keys() {
        let above = relative.ancestors().skip(1);
        if let Some(file) = above.into_iter().find(|path| links.contains_key(*path)) {
            return Err(clash("/", file));
        }
    }
    Ok(links)
}

fn clash(mount_path: &str, file: &Path) -> StorageError {
    StorageError::new(
        StorageErrorKind::UnsupportedUri,
        format!(
            "two of the storageUris give `{}`: name places that differ, or give them different mountPaths",
            Path::new(mount_path).join(file).display()
        ),
    )
}

fn is_whole(root: &Path, links: &BTreeMap<PathBuf, PathBuf>) -> bool {
    links.iter().all(|(relative, target)| {
        fs::read_link(root.join(relative)).is_ok_and(|there| there == *target)
    })
}

/// Makes the links beside and moves them there whole.
fn link_all(root: &Path, links: &BTreeMap<PathBuf, PathBuf>) -> Result<(), StorageError> {
    let staging = root.with_extension("new");
    cache::remove(&staging)?;
    for (relative, target) in links {
        let path = staging.join(relative);
        let parent = path.parent().unwrap_or(&staging);
        fs::create_dir_all(parent)
            .map_err(|source| StorageError::local("create", parent, source))?;
        link(target, &path).map_err(|source| StorageError::local("link", &path, source))?;
    }
    cache::remove(root)?;
    fs::rename(&staging, root)
        .map_err(|source| StorageError::local("move what was assembled to", root, source))
}

#[cfg(unix)]
fn link(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn link(target: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(target, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_the_components_in_common_that_all_begin_with() {
        let cases: [(&[&str], usize); 5] = [
            (&["/mnt/models"], 2),
            (&["/mnt/models/a", "/mnt/models/b"], 2),
            (&["/mnt/models", "/mnt/models/b"], 2),
            (&["/mnt/models", "/mnt/more"], 1),
            (&["/mnt/models", "/opt/models"], 0),
        ];
        for (paths, expected) in cases {
            let paths: Vec<Vec<&str>> = paths.iter().map(|path| parts(path)).collect();
            assert_eq!(common_parent(&paths), expected, "{paths:?}");
        }
    }
}
