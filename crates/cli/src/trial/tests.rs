//! What children are told and tell, and what their ends mean. Whole trials are in `tests/it`, those of engines in `exercise/onnx.py`.

use std::io::Write as _;

use crate::engine_settings::EngineSettings;

use super::child::Wanted;
use super::*;

const MEMORY: ByteCount = ByteCount::new(1 << 30);

fn ended(status: Option<i32>, said: &str, complained: &str) -> Ended {
    Ended {
        status: status.map(ExitStatus::from_raw),
        said: said.to_owned(),
        complained: complained.to_owned(),
    }
}

#[test]
fn every_end_of_a_child_is_told() {
    let path = Path::new("/m/model.onnx");
    let judge = |ended| verdict(path, ended, Duration::from_secs(60), MEMORY);
    assert!(judge(ended(Some(0), "loaded\n", "")).is_ok());
    let limit = LoadErrorKind::LimitExceeded;
    let cases = [
        (
            ended(None, "", ""),
            limit,
            "not over within 1m; the child process was ended",
        ),
        (
            ended(
                Some(0),
                "refused unsupported\n/m/model.onnx: no such operator",
                "",
            ),
            LoadErrorKind::Unsupported,
            "no such operator (it may take 1.0 GiB in a child process)",
        ),
        (
            ended(
                Some(6),
                "",
                "memory allocation of 99 bytes failed\nnote: see below\n\n",
            ),
            limit,
            "ended by signal 6 (aborted, as programs do for want of memory): memory allocation of 99 bytes failed; it may take 1.0 GiB",
        ),
        (ended(Some(9), "", ""), limit, "signal 9 (killed"),
        (
            ended(Some(24), "", ""),
            limit,
            "signal 24 (processor time is over); it may",
        ),
        (
            ended(Some(11), "", ""),
            LoadErrorKind::Refused,
            "signal 11 (segmentation fault); it may",
        ),
        (
            ended(Some(40), "", ""),
            LoadErrorKind::Refused,
            "signal 40; it may",
        ),
        // Whatever it says, who does not end well has not done well.
        (
            ended(Some(1 << 8), "loaded\n", ""),
            LoadErrorKind::Refused,
            "gave no answer (exit status: 1); it may",
        ),
        (
            ended(Some(0), "", "a\nb\nc\n"),
            LoadErrorKind::Refused,
            "(exit status: 0): b c; it may",
        ),
        (
            ended(Some(0), "refused nonsense\nx", ""),
            LoadErrorKind::Refused,
            "gave no answer",
        ),
    ];
    for (ended, kind, wanted) in cases {
        let error = judge(ended).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn a_child_whose_time_is_over_is_ended() {
    let start = || {
        // It waits for words that never come.
        let child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        child.unwrap()
    };
    let mut child = start();
    let input = child.stdin.take();
    let ended = await_end(child, Duration::ZERO).unwrap();
    assert_eq!(ended.status, None);
    drop(input);
    // So is one that says much, and then nothing more.
    let mut child = start();
    let mut input = child.stdin.take().unwrap();
    let speaker = std::thread::spawn(move || {
        let _broken = input.write_all(&vec![b'x'; 100_000]);
        input
    });
    let ended = await_end(child, Duration::from_millis(200)).unwrap();
    assert_eq!(ended.status, None);
    drop(speaker.join());
    let mut child = start();
    drop(child.stdin.take());
    let ended = await_end(child, Duration::MAX).unwrap();
    assert!(ended.status.unwrap().success());
}

#[test]
fn what_is_wanted_reaches_the_child() {
    let full = Wanted {
        memory_bytes: 7,
        time: Duration::from_secs(60),
        texts: child::Texts::Pairs,
        onnxruntime: Some(PathBuf::from("/lib/a.so")),
        settings: [("providers", "cuda?,cpu"), ("cuda.device_id", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        object: Some("model".to_owned()),
        method: Some("predict_proba".to_owned()),
        server: 12,
        path: PathBuf::from("/m/model.onnx"),
    };
    let bare = Wanted {
        texts: child::Texts::None,
        onnxruntime: None,
        settings: EngineSettings::new(),
        object: None,
        method: None,
        ..full.clone()
    };
    for wanted in [full, bare] {
        assert_eq!(Wanted::of(&wanted.arguments()), Some(wanted));
    }
    let unknown: [OsString; 2] = ["1".into(), "2".into()];
    assert_eq!(Wanted::of(&unknown), None);
}

/// Files may be others by the time that a trial is over: they are tried, too, before they are loaded.
#[test]
fn files_that_change_during_a_trial_are_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let (model, runs) = (
        directory.path().join("model.joblib"),
        directory.path().join("runs"),
    );
    let of = |changes: usize| {
        std::fs::write(&model, "x").unwrap();
        std::fs::write(&runs, "").unwrap();
        // In the place of the child: notes its run, and changes the file in the first ones.
        let script = format!(
            "#!/bin/sh\necho run >> {runs}\n[ $(wc -l < {runs}) -gt {changes} ] || printf y >> {model}\necho loaded\n",
            runs = runs.display(),
            model = model.display(),
        );
        let program = directory.path().join(format!("child-{changes}"));
        std::fs::write(&program, script).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&program, executable).unwrap();
        Trial {
            program,
            memory: Some(MEMORY),
            time: Duration::from_secs(600),
            onnxruntime: None,
            variables: vec![("PATH", "/usr/bin:/bin".into())],
            passed: Mutex::default(),
        }
    };
    let n_runs = || std::fs::read_to_string(&runs).unwrap().lines().count();
    let options = LoadOptions::default();
    let trial = of(1);
    let read = || Ok(std::fs::read_to_string(&model).unwrap());
    let loaded = trial.load(&model, &options, read).unwrap();
    assert_eq!((loaded, n_runs()), (("xy".to_owned(), true), 2));
    // What passed is not tried again.
    assert!(!trial.load(&model, &options, read).unwrap().1);
    assert_eq!(n_runs(), 2);
    // What changes while it is loaded is tried, and loaded anew.
    let mut n_loads = 0;
    let changing = || {
        n_loads += 1;
        let before = std::fs::read_to_string(&model).unwrap();
        if n_loads == 1 {
            std::fs::write(&model, "other").unwrap();
        }
        Ok(before)
    };
    let loaded = trial.load(&model, &options, changing).unwrap();
    assert_eq!((loaded, n_runs()), (("other".to_owned(), true), 3));
    // What never stays the same is not loaded.
    let trial = of(9);
    let error = trial.load(&model, &options, read).unwrap_err();
    assert!(error.to_string().contains("change while"), "{error}");
    assert_eq!(n_runs(), 3);
}

#[test]
fn children_run_graphs_on_the_processor() {
    let pairs = [
        ("providers", "cuda?,cpu"),
        ("cuda.device_id", "1"),
        ("execution_mode", "parallel"),
    ];
    let settings = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = super::child::on_processor(&EngineSettings::from(settings));
    let expected = [("execution_mode", "parallel"), ("providers", "cpu")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(settings, EngineSettings::from(expected));
}
