//! The server killed and started again: what was served before is waited for, each service for itself.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{IRIS, Serving, coracle, examples, serve};

/// Gives a model's file to whoever asks, unless it is told to wait.
#[derive(Default)]
struct Files {
    waits: Mutex<bool>,
    goes_on: Condvar,
}

impl Files {
    fn start(model: Vec<u8>) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}/model.joblib", listener.local_addr().unwrap());
        let files = Arc::new(Self::default());
        let shared = Arc::clone(&files);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, model) = (Arc::clone(&shared), model.clone());
                // A client that is gone needs no file.
                std::thread::spawn(move || drop(files.answer(stream, &model)));
            }
        });
        (files, uri)
    }

    fn answer(&self, mut stream: TcpStream, model: &[u8]) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let waits = self.waits.lock().unwrap();
        drop(self.goes_on.wait_while(waits, |waits| *waits).unwrap());
        let length = model.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        )?;
        match head.starts_with(b"HEAD") {
            true => Ok(()),
            false => stream.write_all(model),
        }
    }

    fn wait(&self, waits: bool) {
        *self.waits.lock().unwrap() = waits;
        self.goes_on.notify_all();
    }
}

fn manifest(name: &str, uri: &str) -> String {
    format!(
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {{name: {name}}}\nspec: {{predictor: {{model: {{modelFormat: {{name: sklearn}}, storageUri: \"{uri}\"}}}}}}\n---\n"
    )
}

fn up(directory: &Path) -> Serving {
    let mut command = coracle();
    let state = directory.join("state");
    command.args(["up", "--port", "0", "--api-port", "0", "--state"]);
    serve(
        command
            .arg(state)
            .arg("-f")
            .arg(directory.join("services.yaml")),
    )
}

fn predict(server: &Serving, name: &str) -> String {
    let path = format!("/serving/default/{name}/v1/models/{name}:predict");
    server.post(&path, IRIS)
}

const PREDICTED: &str = r#"{"predictions":[0,2]}"#;

#[test]
fn after_a_kill_each_service_is_waited_for_by_its_own_requests() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let model = std::fs::read(examples("iris/model.joblib")).unwrap();
    let gone = directory.join("gone");
    std::fs::create_dir(&gone).unwrap();
    std::fs::write(gone.join("model.joblib"), &model).unwrap();
    let (files, uri) = Files::start(model);
    let plain = examples("iris").canonicalize().unwrap();
    let services = [
        manifest("plain", &format!("file://{}", plain.display())),
        manifest("gone", &format!("file://{}", gone.display())),
        manifest("slow", &uri),
    ];
    std::fs::write(directory.join("services.yaml"), services.concat()).unwrap();
    let before = up(directory);
    for name in ["plain", "gone", "slow"] {
        let mut looks = 0..6_000;
        while predict(&before, name) != PREDICTED {
            assert!(looks.next().is_some(), "{name} is not served in a minute");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    // Ends it as `kill -9` does.
    drop(before);
    files.wait(true);
    std::fs::remove_dir_all(&gone).unwrap();
    std::fs::remove_dir_all(directory.join("state/downloads")).unwrap();
    let server = up(directory);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| predict(&server, "slow"));
        assert_eq!(predict(&server, "plain"), PREDICTED);
        let told = predict(&server, "gone");
        assert!(told.contains("no file or directory"), "{told}");
        let told = predict(&server, "nobody");
        assert!(told.contains("does not exist"), "{told}");
        let ready = server.get("/serving/default/slow/v2/models/slow/ready");
        assert_eq!(ready, r#"{"error":"model 'slow' is being loaded"}"#);
        files.wait(false);
        assert_eq!(waits.join().unwrap(), PREDICTED);
    });
}
