//! The binary as its user runs it.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as expected"
)]

mod bench;
mod restart;
mod trial;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn examples(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(path)
}

fn coracle() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    command.stdin(Stdio::null()).env_remove("PREDICT_PROBA");
    command
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running server; killed when dropped.
struct Serving {
    child: Child,
    address: String,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
    before: Vec<String>,
}

/// Starts `command` and waits until it says where it listens.
fn serve(command: &mut Command) -> Serving {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // Owned from here on, so that it is ended whatever happens.
    let mut serving = Serving {
        child,
        address: String::new(),
        lines,
        before: Vec::new(),
    };
    while serving.address.is_empty() {
        let line = serving.lines.next();
        let line = line
            .unwrap_or_else(|| panic!("ended after {:?}", serving.before))
            .unwrap();
        let told = line.split_once("listening on http://");
        match told.or_else(|| line.split_once("serving on http://")) {
            Some((_, address)) => serving.address = address.trim_end_matches("\"}").to_owned(),
            None => serving.before.push(line),
        }
    }
    serving
}

impl Serving {
    fn post(&self, path: &str, body: &str) -> String {
        self.send("POST", path, body)
    }

    fn get(&self, path: &str) -> String {
        self.send("GET", path, "")
    }

    fn send(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const IRIS: &str = r#"{"instances": [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]}"#;

#[test]
fn the_first_command_of_the_readme_answers() {
    let server = serve(
        coracle()
            .args(["serve", "--port", "0"])
            .arg(examples("iris")),
    );
    assert_eq!(
        server.post("/v1/models/iris:predict", IRIS),
        r#"{"predictions":[0,2]}"#
    );
    assert!(
        server.before[0].starts_with("loaded iris from "),
        "{:?}",
        server.before
    );
}

#[test]
fn many_models_have_names_of_their_own() {
    let mut command = coracle();
    command
        .args(["serve", "--port", "0"])
        .arg(examples("models"));
    command
        .arg("--model")
        .arg(format!("flower={}", examples("iris").display()));
    let server = serve(&mut command);
    assert_eq!(
        server.post("/v1/models/flower:predict", IRIS),
        r#"{"predictions":[0,2]}"#
    );
    let wine = r#"{"instances": [[13.2, 1.78, 2.14, 11.2, 100.0, 2.65, 2.76, 0.26, 1.28, 4.38, 1.05, 3.4, 1050.0]]}"#;
    assert!(
        server
            .post("/v1/models/wine:predict", wine)
            .starts_with(r#"{"predictions":[""#)
    );
    let diabetes = r#"{"instances": [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]}"#;
    assert!(
        server
            .post("/v1/models/diabetes:predict", diabetes)
            .starts_with(r#"{"predictions":["#)
    );
}

/// Puts a copy of the iris model at `place`, whole at once.
fn put_version(directory: &std::path::Path, version: u64) {
    let aside = directory.join(".coming");
    std::fs::create_dir_all(&aside).unwrap();
    std::fs::copy(examples("iris/model.joblib"), aside.join("model.joblib")).unwrap();
    std::fs::create_dir_all(directory.join("iris")).unwrap();
    std::fs::rename(aside, directory.join("iris").join(version.to_string())).unwrap();
}

/// Tells the others that a thread has ended, however it did.
struct Ends<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn versions_are_replaced_under_load_without_a_failed_request() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let directory = tempfile::tempdir().unwrap();
    put_version(directory.path(), 1);
    let mut command = coracle();
    command.args(["serve", "--port", "0", "--poll", "10ms"]);
    let server = serve(command.arg(directory.path()));
    let (is_over, n_answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _ends = Ends(&is_over);
                while !is_over.load(Ordering::Relaxed) {
                    let answer = server.post("/v1/models/iris:predict", IRIS);
                    assert_eq!(answer, r#"{"predictions":[0,2]}"#);
                    n_answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _ends = Ends(&is_over);
        let wait_until = |is_there: &dyn Fn() -> bool| {
            while !is_there() {
                assert!(!is_over.load(Ordering::Relaxed), "a request failed");
            }
        };
        for version in 2..=6 {
            put_version(directory.path(), version);
            let old = directory.path().join(format!("iris/{}", version - 1));
            std::fs::remove_dir_all(old).unwrap();
            let available = format!(r#"{{"version":"{version}","state":"AVAILABLE""#);
            let left = format!(r#"{{"version":"{}","state":"END""#, version - 1);
            wait_until(&|| {
                let status = server.get("/v1/models/iris");
                status.contains(&available) && status.contains(&left)
            });
            let before = n_answered.load(Ordering::Relaxed);
            wait_until(&|| n_answered.load(Ordering::Relaxed) > before);
        }
    });
    let infer = r#"{"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}"#;
    let answer = server.post("/v2/models/iris/infer", infer);
    assert!(answer.contains(r#""model_version":"6""#), "{answer}");
}

#[test]
fn versions_and_labels_are_asked_for_by_path() {
    let directory = tempfile::tempdir().unwrap();
    for version in [1, 2, 3] {
        put_version(directory.path(), version);
    }
    let mut command = coracle();
    command.args(["serve", "--port", "0", "--versions", "2,3"]);
    command.args(["--label", "stable=iris:2"]);
    let server = serve(command.arg(directory.path().join("iris")));
    let cases = [
        ("/v1/models/iris/versions/2:predict", r#"{"predictions""#),
        ("/v1/models/iris/labels/stable:predict", r#"{"predictions""#),
        (
            "/v1/models/iris/versions/1:predict",
            "model 'iris' has no version '1'; it has 2, 3",
        ),
        (
            "/v1/models/iris/labels/2:predict",
            "model 'iris' has no label '2'",
        ),
    ];
    for (path, expected) in cases {
        let answer = server.post(path, IRIS);
        assert!(answer.contains(expected), "{path}: {answer}");
    }
    let metadata = server.get("/v2/models/iris");
    assert!(metadata.contains(r#""versions":["2","3"]"#), "{metadata}");
    for (label, message) in [
        ("a=wine:1", "there is no such model; there are iris"),
        ("a=iris:7", "there is no such version that serves"),
    ] {
        let mut command = coracle();
        command.args(["serve", "--port", "0", "--label", label]);
        let output = run(command.arg(directory.path()));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    }
}

#[test]
fn kserve_arguments_and_environment_work() {
    let mut command = coracle();
    command.args([
        "--model_name",
        "m",
        "--http_port",
        "0",
        "--workers",
        "1",
        "--max_threads",
        "1",
        "--model_dir",
    ]);
    let server = serve(command.arg(examples("iris")).env("PREDICT_PROBA", "true"));
    let answer = server.post("/v1/models/m:predict", IRIS);
    assert!(
        answer.starts_with(r#"{"predictions":[[1.0,0.0,0.0],["#),
        "{answer}"
    );
}

#[cfg(unix)]
#[test]
fn sigterm_stops_the_server_in_peace_and_json_logs_are_json() {
    let mut command = coracle();
    command.args([
        "serve",
        "--port",
        "0",
        "--log-format",
        "json",
        "--access-log",
        "all",
    ]);
    let mut server = serve(command.arg(examples("iris")));
    server.post("/v1/models/iris:predict", IRIS);
    let pid = server.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let lines: Vec<String> = server.lines.by_ref().map(|line| line.unwrap()).collect();
    assert_eq!(server.child.wait().unwrap().code(), Some(0), "{lines:?}");
    for line in server.before.iter().chain(&lines) {
        let parsed: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(parsed["time"].is_string());
    }
    assert!(
        lines
            .iter()
            .any(|line| line.contains(r#""path":"/v1/models/iris:predict","status":200"#)),
        "{lines:?}"
    );
    assert!(lines.last().unwrap().contains("stopped"));
}

#[test]
fn refusals_name_the_next_step() {
    let cases: [(&[&str], i32, &str); 9] = [
        (
            &["serve"],
            1,
            "nothing to serve; give a model file or directory",
        ),
        (
            &["serve", "no/such/place"],
            1,
            "no/such/place: no such file or directory",
        ),
        (
            &["serve", "--host", "0.0.0.0", "IRIS"],
            1,
            "say --allow-anonymous",
        ),
        (
            &["serve", "--name", "a", "MODELS"],
            1,
            "--name names one model, but there are 2",
        ),
        (
            &["serve", "IRIS", "--port", "0", "--method", "transform"],
            1,
            "the model has no method 'transform'; it has predict",
        ),
        (&["serve", "IRIS", "--model_nam", "x"], 2, "--model"),
        (&["sevre", "IRIS"], 2, "serve"),
        // Names come from others, too: nothing that a terminal obeys is printed.
        (&["rollout", "a\u{7}\u{202e}"], 2, "'a\\u202e'"),
        (
            &["serve", "IRIS", "IRIS", "--port", "0"],
            1,
            "two models are named 'iris'",
        ),
    ];
    for (arguments, code, message) in cases {
        let mut command = coracle();
        for argument in arguments {
            match *argument {
                "IRIS" => command.arg(examples("iris")),
                "MODELS" => command.arg(examples("models")),
                argument => command.arg(argument),
            };
        }
        let output = run(&mut command);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn every_model_that_does_not_load_is_told() {
    let unsupported = examples("../fixtures/sklearn/unsupported");
    let mut command = coracle();
    command.args(["serve", "--port", "0", "--model"]);
    command
        .arg(format!("a={}", unsupported.join("svc.joblib").display()))
        .arg("--model");
    command
        .arg(format!(
            "b={}",
            unsupported.join("neighbors.joblib").display()
        ))
        .arg("--model");
    let output = run(command.arg(format!("c={}", examples("iris").display())));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("2 of 3 models did not load"), "{stderr}");
    assert!(
        stderr.contains("SVC: kernel 'precomputed' is not supported"),
        "{stderr}"
    );
    assert!(
        stderr.contains("KNeighborsClassifier: metric 'precomputed' is not supported"),
        "{stderr}"
    );
}

#[test]
fn inspect_tells_what_a_file_is() {
    let output = run(coracle().arg("inspect").arg(examples("iris")));
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for part in [
        "joblib (raw), pickle protocol 4",
        "scikit-learn 1.",
        "FP64   [-1, 4]",
        "(default)",
        "RandomForestClassifier",
        "n_estimators=100",
        "trees 100",
    ] {
        assert!(stdout.contains(part), "{part:?} is not in\n{stdout}");
    }
    let output = run(coracle()
        .args(["inspect", "--json"])
        .arg(examples("models")));
    let documents: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(documents[1]["name"], "wine");
    assert_eq!(
        documents[1]["model"]["children"][0]["class"],
        "StandardScaler"
    );
    assert_eq!(
        documents[1]["inputs"][0]["columns"]
            .as_array()
            .unwrap()
            .len(),
        13
    );
}

#[test]
fn help_is_for_people() {
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["inspect", "--help"],
    ] {
        let output = run(coracle().args(arguments));
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("Usage:"));
    }
    assert!(text(&run(coracle().args(["serve", "--help"])).stdout).contains("Examples:"));
}

#[test]
fn up_ends_and_says_why_where_it_cannot_start() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let up = |arguments: &[&str]| {
        let state = directory.path().join("state");
        let mut command = coracle();
        command.args(["up", "--port", "0", "--state"]).arg(state);
        let output = run(command.args(arguments));
        assert!(!output.status.success());
        text(&output.stderr)
    };
    let said = up(&["--api-port", &port]);
    let expected = format!("cannot listen on 127.0.0.1:{port} for the Kubernetes API");
    assert!(said.contains(&expected), "{said}");
    let said = up(&["--api-port", "0", "--filename", "missing.yaml"]);
    assert!(said.contains("missing.yaml"), "{said}");
}

#[test]
fn what_a_config_pbtxt_says_is_inspected() {
    let directory = tempfile::tempdir().unwrap();
    let version = directory.path().join("iris/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::copy(examples("iris/model.joblib"), version.join("model.joblib")).unwrap();
    let config = directory.path().join("iris/config.pbtxt");
    let inspect = || {
        let mut command = coracle();
        run(command.arg("inspect").arg(directory.path().join("iris")))
    };
    std::fs::write(&config, "max_batch_size: 8\nmodel_operations { }\n").unwrap();
    let output = inspect();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        shown.contains(
            "config.pbtxt\n    line 2: model_operations: not read, it changes nothing here\n"
        ),
        "{shown}"
    );
    std::fs::write(&config, "max_batch_size: 8\ninput {\n").unwrap();
    let output = inspect();
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(
        said.contains("iris/config.pbtxt: line 2 column 1: the file ends before the } of input"),
        "{said}"
    );
}
