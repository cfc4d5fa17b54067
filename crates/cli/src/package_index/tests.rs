//! Settings of pip in files and variables. What counts is as pip's own `configuration.py` and `cli/parser.py` (24) have it.

use super::*;
use crate::engine_args::Variables;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn find(&self, asked: Option<&str>, variables: Variables) -> anyhow::Result<IndexSettings> {
        let environment = Environment {
            home: Some(self.0.path().to_path_buf()),
            engines: variables,
            ..Environment::default()
        };
        IndexSettings::find(asked, &environment)
    }
}

fn pip(options: &[(&str, &str)]) -> Variables {
    let options = options.iter();
    Variables {
        pip: options
            .map(|(name, value)| (option_name(name), (*value).to_owned()))
            .collect(),
        ..Variables::default()
    }
}

fn indexes(urls: &[&str]) -> Vec<Place> {
    let urls = urls.iter();
    urls.map(|url| Place::Index((*url).to_owned())).collect()
}

#[test]
fn pip_files_are_read_as_pip_reads_them() {
    let home = Home::new();
    let text = "# ours\n[global]\ntimeout = 60\nindex_url = https://a.example/simple/\ncert=~/ca.pem\nProxy: http://user@proxy.example:3128\n\
                extra-index-url =\n    https://x.example/simple\n    # not this\n    https://y.example/simple\ntrusted-host = a.example\n    x.example:8443\n\
                [install]\nindex-url: https://user:secret@b.example/simple\n; no\n[list]\nindex-url = c\n";
    home.write(".config/pip/pip.conf", text);
    let found = home.find(None, Variables::default()).unwrap();
    let expected = [
        "https://user:secret@b.example/simple",
        "https://x.example/simple",
        "https://y.example/simple",
    ];
    assert_eq!(found.places, indexes(&expected));
    assert_eq!(found.access.authorities, Some(home.0.path().join("ca.pem")));
    let proxy = found.access.proxy.as_deref();
    assert_eq!(proxy, Some("http://user@proxy.example:3128"));
    assert_eq!(found.access.netrc, Some(home.0.path().join(".netrc")));
    assert_eq!(found.trusted_hosts, ["a.example", "x.example:8443"]);
    // Outside of a section, and two names that are indented alike.
    home.write(
        ".config/pip/pip.conf",
        "index-url = https://a.example\n[global]\n  cert = a\n  index-url = https://c.example",
    );
    let found = home.find(None, Variables::default()).unwrap();
    assert_eq!(found.places, indexes(&["https://c.example"]));
}

#[test]
fn what_is_nearer_counts() {
    let home = Home::new();
    let index = |url: &str| format!("[global]\nindex-url = {url}\n");
    let url = |asked: Option<&str>, variables: Variables| {
        let places = home.find(asked, variables).unwrap().places;
        let [Place::Index(url)] = places.as_slice() else {
            panic!("{places:?}")
        };
        url.clone()
    };
    assert_eq!(url(None, Variables::default()), DEFAULT_URL);
    home.write(".pip/pip.conf", &index("https://old.example"));
    assert_eq!(url(None, Variables::default()), "https://old.example");
    home.write(".config/pip/pip.conf", &index("https://user.example"));
    assert_eq!(url(None, Variables::default()), "https://user.example");
    home.write("venv/pip.conf", &index("https://site.example"));
    let mut variables = Variables {
        virtual_env: Some(home.0.path().join("venv")),
        ..Variables::default()
    };
    assert_eq!(url(None, variables.clone()), "https://site.example");
    variables.pip_config_file = Some(home.write("given.conf", &index("https://given.example")));
    assert_eq!(url(None, variables.clone()), "https://given.example");
    let name = "index-url".to_owned();
    variables
        .pip
        .insert(name, "https://variable.example".to_owned());
    assert_eq!(url(None, variables.clone()), "https://variable.example");
    let asked = Some("https://option.example");
    assert_eq!(url(asked, variables), "https://option.example");
    let given = |path: PathBuf| Variables {
        pip_config_file: Some(path),
        ..Variables::default()
    };
    assert_eq!(url(None, given("/dev/null".into())), DEFAULT_URL);
    // A file that is named takes the place of the user's, if it is there.
    let other = home.write("other.conf", "[global]\ntimeout = 3\n");
    assert_eq!(url(None, given(other)), DEFAULT_URL);
    let absent = home.0.path().join("absent.conf");
    assert_eq!(url(None, given(absent)), "https://user.example");
    // A section of a command counts more than one for all of a nearer file; what is empty says nothing.
    home.write(
        ".pip/pip.conf",
        "[install]\nindex-url = https://command.example\n",
    );
    assert_eq!(url(None, Variables::default()), "https://command.example");
    let empty = pip(&[("index-url", " ")]);
    assert_eq!(url(None, empty), "https://command.example");
}

#[test]
fn links_come_before_indexes_or_instead_of_them() {
    let home = Home::new();
    let wheels = home
        .write("wheels/a.whl", "")
        .parent()
        .unwrap()
        .to_path_buf();
    let links = format!(
        "file://{} ~/wheels https://links.example/page",
        wheels.display()
    );
    let found = home.find(None, pip(&[("FIND_LINKS", &links)])).unwrap();
    let mut expected = vec![
        Place::Directory(wheels.clone()),
        Place::Directory(wheels),
        Place::Page("https://links.example/page".to_owned()),
    ];
    expected.push(Place::Index(DEFAULT_URL.to_owned()));
    assert_eq!(found.places, expected);
    let alone = home.find(None, pip(&[("find-links", &links), ("no-index", "1")]));
    assert_eq!(alone.unwrap().places, expected[..3]);
    let wrong = |options: &[(&str, &str)]| home.find(None, pip(options)).unwrap_err().to_string();
    assert!(wrong(&[("no-index", "yes")]).contains("nowhere to look"));
    assert!(wrong(&[("no-index", "perhaps")]).contains("no-index"));
    let missing = wrong(&[("find-links", "./no-such-directory")]);
    assert!(
        missing.contains("'./no-such-directory' is no http URL"),
        "{missing}"
    );
    assert!(wrong(&[("client-cert", "me.pem")]).contains("client-cert is not supported"));
}

#[test]
fn hosts_that_pip_trusts_are_known() {
    let settings = IndexSettings {
        trusted_hosts: vec!["a.example".to_owned(), "b.example:8443".to_owned()],
        ..IndexSettings::default()
    };
    let trusting = |url: &str| settings.trusting(&Place::Index(url.to_owned())).is_some();
    assert!(trusting("https://user:secret@a.example/simple"));
    assert!(trusting("https://a.example:1234/simple"));
    assert!(trusting("https://b.example:8443/simple"));
    assert!(!trusting("https://b.example/simple"));
    // Plain HTTP has no certificate.
    assert!(!trusting("http://a.example/simple"));
}
