//! `coracle bench` against a real server.

use super::{Serving, coracle, examples, run, serve, text};

fn serving(models: &[&str]) -> Serving {
    let mut command = coracle();
    command.args(["serve", "--port", "0", "--access-log", "off"]);
    serve(command.args(models.iter().map(|model| examples(model))))
}

/// Runs a load; returns whether it went well, what was measured, and what was said on stderr.
fn bench(url: &str, arguments: &[&str]) -> (bool, serde_json::Value, String) {
    let mut command = coracle();
    command.args(["bench", url, "--warm-up", "0s", "--json", "-"]);
    let output = run(command.args(arguments));
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.success(), json, text(&output.stderr))
}

#[test]
fn every_protocol_is_asked_as_often_as_wanted() {
    let server = serving(&["iris"]);
    let url = format!("http://{}", server.address);
    for (index, protocol) in ["v1", "v2", "v2-binary", "grpc"].into_iter().enumerate() {
        let arguments = ["--protocol", protocol, "-c", "1,3", "-n", "200"];
        let (is_ok, json, said) = bench(&url, &arguments);
        assert!(is_ok, "{protocol}: {said}");
        assert_eq!(json["target"]["protocol"], protocol);
        for run in json["runs"].as_array().unwrap() {
            assert_eq!(
                (&run["answered"], &run["failed"]),
                (&200.into(), &0.into()),
                "{run}"
            );
            assert!(run["requests_per_s"].as_f64().unwrap() > 0.0);
            let of_slots = run["timeline"].as_array().unwrap().iter();
            let n: u64 = of_slots
                .map(|slot| slot["answered"].as_u64().unwrap())
                .sum();
            assert_eq!(n, 200);
        }
        // The server counted two loads of 200 for each protocol, and the first request of each.
        let stats: serde_json::Value =
            serde_json::from_str(&server.get("/v2/models/iris/stats")).unwrap();
        let n_rows = (index as u64 + 1) * 401;
        assert_eq!(stats["model_stats"][0]["inference_count"], n_rows);
    }
}

#[test]
fn an_open_loop_sends_what_is_due_and_draws_it() {
    let server = serving(&["iris"]);
    let directory = tempfile::tempdir().unwrap();
    let (plot, json) = (
        directory.path().join("p.svg"),
        directory.path().join("r.json"),
    );
    let mut command = coracle();
    command.args([
        "bench",
        &format!("http://{}/v1/models/iris:predict", server.address),
    ]);
    command.args([
        "--rate",
        "500,1000",
        "-n",
        "100",
        "--warm-up",
        "0s",
        "--arrivals",
        "constant",
    ]);
    let output = run(command.arg("--plot").arg(&plot).arg("--json").arg(&json));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        std::fs::read_to_string(plot)
            .unwrap()
            .contains("<title>1000/s</title>")
    );
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    for run in json["runs"].as_array().unwrap() {
        assert_eq!(run["answered"], 100);
    }
    assert!(text(&output.stdout).contains("constant arrivals"));
    assert!(
        text(&output.stderr).contains("2/2 1000/s: "),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn rows_of_a_file_reach_named_columns() {
    let server = serving(&["titanic"]);
    let url = format!("http://{}", server.address);
    let metadata: serde_json::Value =
        serde_json::from_str(&server.get("/v2/models/titanic")).unwrap();
    let inputs = metadata["inputs"].as_array().unwrap();
    let names: Vec<&str> = inputs
        .iter()
        .map(|input| input["name"].as_str().unwrap())
        .collect();
    let cells: Vec<&str> = inputs
        .iter()
        .map(|input| {
            if input["datatype"] == "BYTES" {
                "male"
            } else {
                "3"
            }
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rows.csv");
    std::fs::write(&file, format!("{}\n{}\n", names.join(","), cells.join(","))).unwrap();
    let file = file.to_str().unwrap();
    for protocol in ["v1", "v2", "grpc"] {
        let arguments = [
            "--protocol",
            protocol,
            "--data",
            file,
            "--rows",
            "3",
            "-n",
            "10",
            "-c",
            "2",
        ];
        let (is_ok, json, said) = bench(&url, &arguments);
        assert!(is_ok, "{protocol}: {said}");
        assert_eq!(json["runs"][0]["answered"], 10);
        assert_eq!(json["requests"]["rows"], 3);
    }
    // Texts cannot be made up.
    let (is_ok, _, said) = bench(&url, &["-n", "10"]);
    assert!(!is_ok && said.contains("--data"), "{said}");
}

#[test]
fn what_fails_is_said_once_and_ends_with_a_status() {
    let server = serving(&["iris", "models"]);
    let url = |path: &str| format!("http://{}{path}", server.address);
    let (is_ok, _, said) = bench(&url("/v1/models/flower"), &["-n", "1"]);
    assert!(
        !is_ok && said.contains("has no model \"flower\"; it has ") && said.contains("iris"),
        "{said}"
    );
    let (is_ok, _, said) = bench(&url(""), &["-n", "1"]);
    assert!(
        !is_ok && said.contains("several models; name one with --model"),
        "{said}"
    );
    let directory = tempfile::tempdir().unwrap();
    let body = directory.path().join("body.json");
    std::fs::write(&body, r#"{"instances": [[1, 2]]}"#).unwrap();
    let body = body.to_str().unwrap();
    let arguments = ["--data", body, "-n", "20", "-c", "2"];
    let (is_ok, _, said) = bench(&url("/v1/models/iris"), &arguments);
    assert!(
        !is_ok && said.contains("status 400: instances[0]: 2 values, model expects 4"),
        "{said}"
    );
    let allowed = [&arguments[..], &["--allow-errors"]].concat();
    let (is_ok, json, said) = bench(&url("/v1/models/iris"), &allowed);
    assert!(is_ok, "{said}");
    let run = &json["runs"][0];
    assert_eq!((&run["answered"], &run["failed"]), (&0.into(), &20.into()));
    assert_eq!(
        (&run["failures"][0]["kind"], &run["failures"][0]["count"]),
        (&"status 400".into(), &20.into())
    );
}

#[test]
fn a_server_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (is_ok, _, said) = bench(&format!("http://{address}/v1/models/iris"), &["-n", "1"]);
    assert!(
        !is_ok && said.contains(&format!("http://{address} does not answer")),
        "{said}"
    );
}
