//! Arguments as people write them.

use clap::CommandFactory as _;

use super::*;

fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
    let arguments = ["coracle"].iter().chain(arguments).map(OsString::from);
    Arguments::try_parse_from(with_default_command(arguments))
}

fn serve(arguments: &[&str]) -> ServeArguments {
    match parse(arguments).unwrap().command {
        Command::Serve(arguments) => *arguments,
        _ => panic!("not serve"),
    }
}

#[test]
fn definitions_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn kserve_arguments_mean_serve() {
    let arguments = [
        "--model_name",
        "iris",
        "--model_dir=/mnt/models",
        "--http_port",
        "9000",
        "--workers",
        "1",
        "--max_threads",
        "4",
    ];
    for parsed in [
        serve(&arguments),
        serve(&[&["serve"], &arguments[..]].concat()),
    ] {
        assert_eq!(parsed.name.as_deref(), Some("iris"));
        assert_eq!(parsed.model_dir, Some(PathBuf::from("/mnt/models")));
        assert_eq!(
            (
                parsed.gateway.port,
                parsed.gateway.workers,
                parsed.gateway.max_threads
            ),
            (9000, Some(1), Some(4))
        );
    }
}

#[test]
fn versions_are_chosen_and_named() {
    let parsed = serve(&[
        "serve",
        "m",
        "--versions",
        "1,3",
        "--label",
        "a=b:c:3",
        "--poll",
        "5s",
    ]);
    assert_eq!(
        parsed.versions,
        Some(VersionPolicy::Specific([1, 3].into()))
    );
    let label = VersionLabel {
        label: "a".to_owned(),
        model: "b:c".to_owned(),
        version: 3,
    };
    assert_eq!(parsed.labels, [label]);
    assert_eq!(parsed.poll, Some(Duration::from_secs(5)));
    assert_eq!(serve(&["serve", "m"]).versions, None);
    for wrong in [
        ["--versions", "newest"],
        ["--label", "canary=iris"],
        ["--label", "=iris:2"],
        ["--label", "canary=iris:two"],
        ["--poll", "0s"],
        ["--poll", "1ms"],
    ] {
        let arguments = [&["serve", "m"], &wrong[..]].concat();
        let error = parse(&arguments).unwrap_err().to_string();
        assert!(
            error.contains("write ") || error.contains("shortest"),
            "{wrong:?}: {error}"
        );
    }
}

#[test]
fn unknown_arguments_are_errors_with_a_suggestion() {
    let error = parse(&["serve", "x", "--model_nam", "iris"])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--model_name") || error.contains("--model"),
        "{error}"
    );
    assert!(parse(&["serve", "x", "--port", "99999"]).is_err());
    assert!(
        parse(&["serve", "--model", "iris"])
            .unwrap_err()
            .to_string()
            .contains("NAME=PATH")
    );
    assert!(parse(&["serve", "x", "--idle-timeout", "soon"]).is_err());
}
