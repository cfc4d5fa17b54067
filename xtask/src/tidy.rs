//! `cargo xtask tidy`: the rules about structure that no compiler checks.
//!
//! Layer edges live in [`layers`], sizes and names in [`files`].

mod files;
mod layers;

use std::path::Path;

use anyhow::{Result, bail};

/// Runs every rule and lists what breaks them.
///
/// # Errors
/// If any rule is broken, or the workspace cannot be read.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut complaints = layers::check(root)?;
    complaints.extend(files::check(root)?);
    for complaint in &complaints {
        eprintln!("tidy: {complaint}");
    }
    if !complaints.is_empty() {
        bail!("tidy found {} problem(s)", complaints.len());
    }
    Ok(())
}
