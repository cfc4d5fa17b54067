//! A process as the gateway sees one: a server that does what the path says.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// A server; its threads end with the test's process.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Lets `/stream` go on.
    pub(crate) gate: Sender<()>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (gate, opened) = channel();
        let opened = Arc::new(Mutex::new(opened));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let opened = Arc::clone(&opened);
                std::thread::spawn(move || serve(stream, &opened));
            }
        });
        Self {
            address,
            connections,
            gate,
        }
    }

    /// How many connections have been made to it.
    pub(crate) fn n_connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Reads a request up to its end: its head in lower case, but for the first line, and its body.
fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn serve(mut stream: TcpStream, gate: &Mutex<Receiver<()>>) {
    while let Some((head, body)) = read_request(&mut stream) {
        let Some(path) = head.split(' ').nth(1) else {
            // No HTTP/1.1. Hanging up on what is not read would take the answer before it away.
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
            return;
        };
        match path {
            "/close" => return,
            // Until the other end goes.
            "/hang" => {}
            "/stream" => {
                let start = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
                stream.write_all(start.as_bytes()).unwrap();
                gate.lock().unwrap().recv().unwrap();
                stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").unwrap();
            }
            _ => {
                let echo = [head.as_bytes(), &body].concat();
                let answer = format!(
                    "HTTP/1.1 203 Fine\r\ncontent-type: text/x-echo\r\nkeep-alive: timeout=5\r\nx-mine: 1\r\ncontent-length: {}\r\n\r\n",
                    echo.len()
                );
                stream
                    .write_all(&[answer.as_bytes(), &echo].concat())
                    .unwrap();
            }
        }
    }
}

/// A process that answers as it is told.
pub(crate) struct Telling {
    pub(crate) address: SocketAddr,
    n_asked: Arc<AtomicUsize>,
}

impl Telling {
    /// Starts one that answers with a status and JSON: what `answer` makes of the number of the request, from 0, and what was sent. Where that is nothing
    /// it ends the connection; with the status 0 it says nothing until the other end goes.
    pub(crate) fn start(
        answer: impl Fn(usize, &str) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let n_asked = Arc::new(AtomicUsize::new(0));
        let (answer, counted) = (Arc::new(answer), Arc::clone(&n_asked));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (answer, counted) = (Arc::clone(&answer), Arc::clone(&counted));
                std::thread::spawn(move || {
                    while let Some((head, body)) = read_request(&mut stream) {
                        let n = counted.fetch_add(1, Ordering::SeqCst);
                        let sent = head + &String::from_utf8_lossy(&body);
                        let Some((status, json)) = answer(n, &sent) else {
                            return;
                        };
                        if status == 0 {
                            drop(std::io::copy(&mut stream, &mut std::io::sink()));
                            return;
                        }
                        let n_bytes = json.len();
                        let head = format!(
                            "HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\ncontent-length: {n_bytes}\r\n\r\n"
                        );
                        if stream.write_all((head + &json).as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, n_asked }
    }

    /// Starts one that always answers so.
    pub(crate) fn always(status: u16, json: &str) -> Self {
        let json = json.to_owned();
        Self::start(move |_, _| Some((status, json.clone())))
    }

    /// How many requests it had.
    pub(crate) fn n_asked(&self) -> usize {
        self.n_asked.load(Ordering::SeqCst)
    }
}
