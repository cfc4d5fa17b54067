//! Which package indexes are asked: as pip would be told, so that one place says it for both.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use coracle_storage::IndexAccess;

use crate::Environment;

/// The index of whoever says nothing else.
const DEFAULT_URL: &str = "https://pypi.org/simple";
/// The variables of pip that count here.
pub(crate) const VARIABLES: [&str; 8] = [
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_NO_INDEX",
    "PIP_PROXY",
    "PIP_TRUSTED_HOST",
];
/// The sections of pip's files that count here, the last one most.
const SECTIONS: [&str; 3] = ["global", "download", "install"];

/// Where wheels are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The root of an index.
    Index(String),
    /// A page with links.
    Page(String),
    /// A directory with wheels.
    Directory(PathBuf),
}

/// Where wheels are looked for, and how that is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexSettings {
    /// In this order.
    pub(crate) places: Vec<Place>,
    pub(crate) access: IndexAccess,
    /// Hosts whose certificates pip would not check.
    pub(crate) trusted_hosts: Vec<String>,
}

/// Settings by pip's names of them.
type Options = BTreeMap<String, String>;

impl IndexSettings {
    /// Returns what is set: by the option, else by pip's variables, else by pip's files.
    ///
    /// # Errors
    /// Names the setting that is not understood, or asks for what is not done.
    pub(crate) fn find(asked: Option<&str>, environment: &Environment) -> anyhow::Result<Self> {
        let mut sections: BTreeMap<String, Options> = BTreeMap::new();
        for path in files(environment) {
            // What cannot be read is not there, as for pip.
            if let Ok(text) = fs::read_to_string(path) {
                read(&text, &mut sections);
            }
        }
        let mut options = Options::new();
        let sections = SECTIONS.map(|section| sections.remove(section).unwrap_or_default());
        for more in sections
            .into_iter()
            .chain([environment.engines.pip.clone()])
        {
            let more = more.into_iter();
            options.extend(more.filter(|(_, value)| !value.trim().is_empty()));
        }
        if let Some(url) = asked {
            options.insert("index-url".to_owned(), url.to_owned());
        }
        Self::of(&options, environment)
    }

    fn of(options: &Options, environment: &Environment) -> anyhow::Result<Self> {
        let one = |name: &str| options.get(name).map(|value| value.trim().to_owned());
        let several = |name: &str| -> Vec<String> {
            let values = options.get(name).map_or("", String::as_str);
            values.split_whitespace().map(str::to_owned).collect()
        };
        if one("client-cert").is_some() {
            bail!(
                "pip's setting client-cert is not supported: package indexes that ask for a certificate cannot be used"
            );
        }
        let home = environment.home.as_deref();
        let mut places = Vec::new();
        for link in several("find-links") {
            places.push(find_links(&link, home)?);
        }
        let no_index = one("no-index");
        let no_index = no_index
            .as_deref()
            .map_or(Ok(false), truth)
            .context("pip's setting no-index")?;
        match no_index {
            true if places.is_empty() => {
                bail!("pip's setting no-index leaves nowhere to look, as there are no find-links")
            }
            true => {}
            false => {
                let first = one("index-url").unwrap_or_else(|| DEFAULT_URL.to_owned());
                let urls = [first].into_iter().chain(several("extra-index-url"));
                places.extend(urls.map(Place::Index));
            }
        }
        let netrc = environment.engines.netrc.clone();
        Ok(Self {
            places,
            access: IndexAccess {
                authorities: one("cert").map(|path| expanded(&path, home)),
                netrc: netrc.or_else(|| home.map(|home| home.join(".netrc"))),
                proxy: one("proxy"),
            },
            trusted_hosts: several("trusted-host"),
        })
    }

    /// Returns the setting by which pip would not check the certificate of a place, if there is one.
    pub(crate) fn trusting(&self, place: &Place) -> Option<&str> {
        let (Place::Index(url) | Place::Page(url)) = place else {
            return None;
        };
        let authority = url.strip_prefix("https://")?.split('/').next()?;
        let host = authority.rsplit('@').next()?;
        let name = host.split(':').next()?;
        let mut trusted = self.trusted_hosts.iter().map(String::as_str);
        trusted.find(|trusted| *trusted == host || *trusted == name)
    }
}

/// Returns a place of `find-links`: a page, or a directory of this machine.
fn find_links(link: &str, home: Option<&Path>) -> anyhow::Result<Place> {
    if link.starts_with("https://") || link.starts_with("http://") {
        return Ok(Place::Page(link.to_owned()));
    }
    let path = expanded(link.strip_prefix("file://").unwrap_or(link), home);
    match path.is_dir() {
        true => Ok(Place::Directory(path)),
        false => bail!("pip's setting find-links: '{link}' is no http URL and no directory"),
    }
}

fn expanded(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below),
        _ => PathBuf::from(path),
    }
}

/// Reads a truth value in the words that pip knows.
fn truth(word: &str) -> anyhow::Result<bool> {
    match word.to_ascii_lowercase().as_str() {
        "y" | "yes" | "t" | "true" | "on" | "1" => Ok(true),
        "n" | "no" | "f" | "false" | "off" | "0" => Ok(false),
        _ => bail!("'{word}' is none of true, false"),
    }
}

/// Returns pip's files, the one that counts most last.
fn files(environment: &Environment) -> Vec<PathBuf> {
    let variables = &environment.engines;
    let given = variables.pip_config_file.clone();
    if given.as_deref() == Some(Path::new("/dev/null")) {
        return Vec::new();
    }
    let home = environment.home.as_deref();
    let config = variables.config_home.clone();
    let config = config.or_else(|| home.map(|home| home.join(".config")));
    let of_user = [
        home.map(|home| home.join(".pip/pip.conf")),
        config.map(|config| config.join("pip/pip.conf")),
    ];
    // A file that is named goes for those of the user.
    let is_given = given.as_deref().is_some_and(Path::exists);
    let of_user = of_user.into_iter().filter(|_| !is_given);
    let of_all = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf"].map(|path| Some(path.into()));
    let site = variables.virtual_env.as_ref();
    let site = site.map(|environment| environment.join("pip.conf"));
    let files = of_all.into_iter().chain(of_user).chain([site, given]);
    files.flatten().collect()
}

/// Reads a file of pip's over what others say; lines that are indented further than a name's go on with its value.
fn read(text: &str, sections: &mut BTreeMap<String, Options>) {
    let mut section = String::new();
    let mut current: Option<(usize, String)> = None;
    for line in text.lines() {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let options = sections.entry(section.clone()).or_default();
        if let Some((of_name, name)) = &current
            && indent > *of_name
        {
            let value = options.entry(name.clone()).or_default();
            value.push('\n');
            value.push_str(content);
            continue;
        }
        let is_section = content
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'));
        if let Some(name) = is_section {
            section = name.trim().to_owned();
            current = None;
            continue;
        }
        if let Some((name, value)) = content.split_once(['=', ':']) {
            let name = option_name(name);
            options.insert(name.clone(), value.trim().to_owned());
            current = Some((indent, name));
        }
    }
}

/// Returns the name of the setting that a variable is of.
pub(crate) fn option_of(variable: &str) -> String {
    option_name(variable.trim_start_matches("PIP_"))
}

/// Returns the name of a setting as pip's options have it.
fn option_name(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase().replace('_', "-");
    name.trim_start_matches("--").to_owned()
}

#[cfg(test)]
mod tests;
