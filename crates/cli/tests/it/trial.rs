//! Models that are loaded in a child process first.

use crate::{IRIS, coracle, examples, run, serve, text};

#[test]
fn a_model_that_passes_its_trial_is_served() {
    let mut command = coracle();
    command.args([
        "serve",
        "--port",
        "0",
        "--trial-load",
        "--method",
        "predict",
    ]);
    let server = serve(command.arg(examples("iris")));
    assert_eq!(server.before[0], "iris: the trial load went well");
    let answer = server.post("/v1/models/iris:predict", IRIS);
    assert_eq!(answer, r#"{"predictions":[0,2]}"#);
}

#[test]
fn a_model_whose_trial_fails_is_refused_with_the_reason() {
    let cases = [
        // Less than the program itself takes.
        (["--trial-load-memory", "1MiB"], "1.0 MiB"),
        (
            ["--trial-load-time", "0s"],
            "not over within 0s; the child process was ended",
        ),
    ];
    for (arguments, wanted) in cases {
        let mut command = coracle();
        command.args(["serve", "--port", "0", "--trial-load"]);
        let output = run(command.args(arguments).arg(examples("iris")));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let said = stderr.contains("model.joblib: trial load: ") && stderr.contains(wanted);
        assert!(said, "{stderr}");
    }
}

#[test]
fn a_model_that_is_refused_is_refused_in_the_same_words() {
    let file = examples("../fixtures/sklearn/unsupported/svc.joblib");
    let refusal = |trial: &[&str]| {
        let mut command = coracle();
        let output = run(command
            .args(["serve", "--port", "0"])
            .args(trial)
            .arg(&file));
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let without = refusal(&[]);
    let with = refusal(&["--trial-load"]);
    let last = |text: &str| text.lines().last().map(str::to_owned).unwrap();
    let (path, reason) = last(&without)
        .split_once(": ")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let wanted = format!("{path}: trial load: {reason} (it may take 1.0 GiB in a child process)");
    assert_eq!(last(&with), wanted);
    // The child by itself is nobody's command.
    let output = run(coracle().arg("trial-load"));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("not for use by hand"));
    let output = run(coracle()
        .args(["serve", "--trial-load-memory", "1GiB"])
        .arg(&file));
    assert!(text(&output.stderr).contains("--trial-load"));
}
