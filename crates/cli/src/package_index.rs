//! Which package index is asked: as pip would be told, so that one place says it for both.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Environment;

/// The index of whoever says nothing else.
const DEFAULT_URL: &str = "https://pypi.org/simple";

/// A package index, and whom it is trusted by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexSettings {
    pub(crate) url: Option<String>,
    /// Certificates of further authorities.
    pub(crate) cert: Option<PathBuf>,
}

impl IndexSettings {
    /// Returns what is set: by the option, else by pip's variables, else by pip's files.
    pub(crate) fn find(asked: Option<&str>, environment: &Environment) -> Self {
        let variables = &environment.engines;
        let mut settings = Self {
            url: asked.map(str::to_owned).or(variables.pip_index_url.clone()),
            cert: variables.pip_cert.clone(),
        };
        for path in files(environment) {
            // What cannot be read is not there, as for pip.
            if let Ok(text) = fs::read_to_string(path) {
                settings.fill(read(&text));
            }
        }
        settings
    }

    pub(crate) fn url(&self) -> &str {
        self.url.as_deref().unwrap_or(DEFAULT_URL)
    }

    fn fill(&mut self, other: Self) {
        self.url = self.url.take().or(other.url);
        self.cert = self.cert.take().or(other.cert);
    }
}

/// Returns pip's files, the one that counts most first.
fn files(environment: &Environment) -> Vec<PathBuf> {
    let variables = &environment.engines;
    let given = variables.pip_config_file.clone();
    if given.as_deref() == Some(Path::new("/dev/null")) {
        return Vec::new();
    }
    let home = environment.home.as_deref();
    let config = variables.config_home.clone();
    let config = config.or_else(|| home.map(|home| home.join(".config")));
    let files = [
        given,
        config.map(|config| config.join("pip/pip.conf")),
        home.map(|home| home.join(".pip/pip.conf")),
        Some(PathBuf::from("/etc/pip.conf")),
        Some(PathBuf::from("/etc/xdg/pip/pip.conf")),
    ];
    files.into_iter().flatten().collect()
}

/// Reads a file of pip's; a section for a command counts more than the one for all.
fn read(text: &str) -> IndexSettings {
    let mut of_command = IndexSettings::default();
    let mut of_all = IndexSettings::default();
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name.trim();
            continue;
        }
        if line.starts_with(['#', ';']) {
            continue;
        }
        let settings = match section {
            "global" => &mut of_all,
            "install" | "download" => &mut of_command,
            _ => continue,
        };
        let Some((name, value)) = line.split_once(['=', ':']) else {
            continue;
        };
        let value = value.trim();
        match name.trim().replace('_', "-").as_str() {
            "index-url" | "i" if !value.is_empty() => settings.url = Some(value.to_owned()),
            "cert" if !value.is_empty() => settings.cert = Some(PathBuf::from(value)),
            _ => {}
        }
    }
    of_command.fill(of_all);
    of_command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine_args::Variables;

    #[test]
    fn pip_files_are_read_as_pip_reads_them() {
        let text = "# ours\n[global]\ntimeout = 60\nindex_url = https://a.example/simple/\ncert=/etc/ca.pem\n\
                    [install]\nindex-url: https://user:secret@b.example/simple\n; no\n[list]\nindex-url = c\n";
        let found = read(text);
        assert_eq!(found.url(), "https://user:secret@b.example/simple");
        assert_eq!(found.cert, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(read("index-url = https://a.example").url, None);
    }

    #[test]
    fn what_is_nearer_counts() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, url: &str| {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("[global]\nindex-url = {url}\n")).unwrap();
            path
        };
        write(".pip/pip.conf", "https://old.example");
        let environment = |variables: Variables| Environment {
            home: Some(home.path().to_path_buf()),
            engines: variables,
            ..Environment::default()
        };
        let url = |asked: Option<&str>, variables: Variables| {
            let settings = IndexSettings::find(asked, &environment(variables));
            settings.url().to_owned()
        };
        assert_eq!(url(None, Variables::default()), "https://old.example");
        write(".config/pip/pip.conf", "https://user.example");
        assert_eq!(url(None, Variables::default()), "https://user.example");
        let mut variables = Variables {
            pip_config_file: Some(write("given.conf", "https://given.example")),
            ..Variables::default()
        };
        assert_eq!(url(None, variables.clone()), "https://given.example");
        variables.pip_index_url = Some("https://variable.example".to_owned());
        assert_eq!(url(None, variables.clone()), "https://variable.example");
        let asked = Some("https://option.example");
        assert_eq!(url(asked, variables), "https://option.example");
        let nothing = Variables {
            pip_config_file: Some(PathBuf::from("/dev/null")),
            ..Variables::default()
        };
        assert_eq!(url(None, nothing), DEFAULT_URL);
    }
}
