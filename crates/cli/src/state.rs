//! The directory of a control plane: its objects, downloads, kubeconfig, and the process that uses it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::Environment;
use crate::kubeconfig::Kubeconfig;

/// The directory of a control plane.
#[derive(Clone, Debug)]
pub(crate) struct StateDirectory(PathBuf);

impl StateDirectory {
    /// Returns the directory that was asked for, else the one in the user's home.
    pub(crate) fn new(asked: Option<&Path>, environment: &Environment) -> anyhow::Result<Self> {
        match (asked, &environment.home) {
            (Some(path), _) => Ok(Self(std::path::absolute(path)?)),
            (None, Some(home)) => Ok(Self(home.join(".coracle"))),
            (None, None) => anyhow::bail!(
                "there is no home directory to keep state in; name one with --state DIR"
            ),
        }
    }

    /// Makes the directory, for its owner alone: it holds secrets.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.0).with_context(|| format!("cannot make {}", self.0.display()))?;
        restrict(&self.0, 0o700)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.0.join("objects.redb")
    }

    pub(crate) fn downloads(&self) -> PathBuf {
        self.0.join("downloads")
    }

    /// Where replicas that are processes have their directories.
    pub(crate) fn processes(&self) -> PathBuf {
        self.0.join("processes")
    }

    /// Where what is known of experiments is.
    pub(crate) fn experiments(&self) -> PathBuf {
        self.0.join("experiments")
    }

    /// Where what routers have learnt is.
    pub(crate) fn routers(&self) -> PathBuf {
        self.0.join("routers")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    fn process(&self) -> PathBuf {
        self.0.join("process")
    }

    pub(crate) fn access(&self) -> PathBuf {
        self.0.join("access")
    }

    /// Writes the kubeconfig of this machine's owner.
    pub(crate) fn write_kubeconfig(&self, config: &Kubeconfig<'_>) -> anyhow::Result<()> {
        self.write(&self.kubeconfig(), &config.to_yaml())
    }

    /// Returns the URL of the API in the kubeconfig.
    pub(crate) fn api_url(&self) -> Option<String> {
        let text = fs::read_to_string(self.kubeconfig()).ok()?;
        let server = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("server: "))?;
        Some(server.to_owned())
    }

    /// Notes which process uses the directory.
    pub(crate) fn write_process(&self) -> anyhow::Result<()> {
        self.write(&self.process(), &format!("{}\n", std::process::id()))
    }

    pub(crate) fn remove_process(&self) {
        // One that is left behind is not believed: the process must exist and be ours.
        drop(fs::remove_file(self.process()));
    }

    /// Returns the process that uses the directory, if it runs.
    pub(crate) fn running_process(&self) -> Option<i32> {
        let id: i32 = fs::read_to_string(self.process())
            .ok()?
            .trim()
            .parse()
            .ok()?;
        if !Path::new("/proc/self").exists() {
            // Without /proc the number alone must do.
            return Some(id);
        }
        // A process that has ended and was not waited for has a name still, but no command line.
        let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        let command = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let own = fs::read_to_string("/proc/self/comm").unwrap_or_default();
        (is_ours(name.trim(), own.trim()) && !command.is_empty()).then_some(id)
    }

    /// Writes a file that only its owner may read, and its directory.
    pub(crate) fn write_secret(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
            restrict(directory, 0o700)?;
        }
        self.write(path, text)
    }

    /// Writes a file whole or not at all.
    fn write(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let temporary = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().with_context(|| format!("cannot write {}", temporary.display()))?;
        restrict(&temporary, 0o600)?;
        fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot restrict {}", path.display()))
}

#[cfg(not(unix))]
fn restrict(_path: &Path, _mode: u32) -> anyhow::Result<()> {
    Ok(())
}

/// Whether a process of this name may be a Coracle: a binary keeps its name or is given one that says what it is (`coracle-0.2`), and one
/// that asks is often the same file as the one that runs.
fn is_ours(name: &str, own: &str) -> bool {
    name.starts_with("coracle") || (!own.is_empty() && name == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamed_binaries_know_each_other() {
        assert!(is_ours("coracle", "coracle"));
        assert!(is_ours("coracle-0.2", "coracle"));
        assert!(is_ours("serve-it", "serve-it"));
        assert!(!is_ours("bash", "coracle") && !is_ours("", ""));
    }
}
