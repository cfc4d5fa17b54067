//! Asks Prometheus for the numbers that rollouts look at: `GET /api/v1/query`, within a time and with an answer of bounded size. Redirects are not followed.
//!
//! What fails is told as such: a rollout holds for it, and never goes on or back.

#![deny(clippy::indexing_slicing, clippy::as_conversions)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_base::Clock;
use coracle_policy::rollout::QueryLook;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use crate::controller::rollouts::{Asking, QueryBoard, QueryKey};

/// The most questions at a time.
const ASKED_MAX: usize = 16;
const ANSWER_BYTES_MAX: usize = 1 << 20;
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Of what went wrong so much is shown.
const SHOWN_CHARS_MAX: usize = 200;
/// What is told of a question that was not put for a defect of ours.
const DEFECT: &str = "it could not be asked; this is a defect of the server";

/// Asks what is on the board until the future is dropped.
pub async fn ask(board: Arc<QueryBoard>, clock: Arc<dyn Clock>) {
    let client = Arc::new(client());
    let look = move |asking: Asking| {
        let client = Arc::clone(&client);
        async move {
            match client.as_ref() {
                Ok(client) => look(client, &asking).await,
                Err(why) => QueryLook::None(why.clone()),
            }
        }
    };
    ask_by(&board, clock.as_ref(), look).await;
}

/// Asks what is on the board by `look`. A question whose asking panics has no answer this time, and is asked again like any other.
async fn ask_by<F>(board: &QueryBoard, clock: &dyn Clock, look: impl Fn(Asking) -> F)
where
    F: Future<Output = QueryLook> + Send + 'static,
{
    let mut asked: JoinSet<QueryLook> = JoinSet::new();
    let mut questions: HashMap<tokio::task::Id, (QueryKey, Asking)> = HashMap::new();
    loop {
        let room = ASKED_MAX.saturating_sub(asked.len());
        for (key, asking) in board.due(clock.monotonic(), room) {
            let task = asked.spawn(look(asking.clone()));
            questions.insert(task.id(), (key, asking));
        }
        let next = board.next_due(clock.monotonic());
        let has_room = asked.len() < ASKED_MAX;
        let wait = async {
            match next {
                Some(next) if has_room => tokio::time::sleep(next).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = asked.join_next_with_id() => {
                let (task, look) = match ended {
                    Ok((task, look)) => (task, look),
                    Err(panicked) => (panicked.id(), QueryLook::None(DEFECT.to_owned())),
                };
                if let Some((key, asking)) = questions.remove(&task) {
                    board.answered((&key, &asking), look, clock.monotonic());
                }
            }
            () = wait => {}
            () = board.changed() => {}
        }
    }
}

fn client() -> Result<reqwest::Client, String> {
    // Another part of the program may have chosen already.
    drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            // The environment is read by the command line alone.
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
    };
    let client = builder().build();
    // A machine may have no certificates to trust; plain HTTP needs none.
    let client = client.or_else(|_| builder().tls_certs_only([]).build());
    client.map_err(|error| error.to_string())
}

async fn look(client: &reqwest::Client, asking: &Asking) -> QueryLook {
    let of = |query: String| async move {
        let answer = number(client, asking, &query);
        match tokio::time::timeout(asking.timeout, answer).await {
            Ok(number) => number,
            Err(_elapsed) => {
                let timeout = humantime::format_duration(asking.timeout);
                Err(format!("no answer within {timeout}"))
            }
        }
    };
    let stable = async {
        match &asking.stable {
            Some(query) => of(query.clone()).await.map(Some),
            None => Ok(None),
        }
    };
    match tokio::join!(stable, of(asking.canary.clone())) {
        (Ok(stable), Ok(canary)) => QueryLook::Numbers { stable, canary },
        (Err(why), _) => QueryLook::None(format!("of the stable revision: {why}")),
        (_, Err(why)) => QueryLook::None(format!("of the canary: {why}")),
    }
}

/// Asks one query.
async fn number(client: &reqwest::Client, asking: &Asking, query: &str) -> Result<f64, String> {
    let query = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
    let url = format!("{}/api/v1/query?query={query}", asking.address);
    let sent = client.get(url).header("accept", "application/json").send();
    // The address may hold a password.
    let mut answer = sent.await.map_err(|error| cause(&error.without_url()))?;
    let mut body = Vec::new();
    let read = |error: reqwest::Error| cause(&error.without_url());
    while let Some(chunk) = answer.chunk().await.map_err(read)? {
        if body.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
            return Err(format!("the answer has more than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    read_answer(answer.status().as_u16(), &body)
}

/// Returns an error's last cause, which says most.
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    shortened(&last.to_string())
}

fn shortened(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: String,
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    result_type: String,
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct Sample {
    value: (f64, String),
}

/// Says that an answer is none; of what is in it no more is said than fits.
fn not_its(error: &serde_json::Error) -> String {
    format!(
        "the answer is not Prometheus': {}",
        shortened(&error.to_string())
    )
}

/// Reads what Prometheus answered: one number.
///
/// # Errors
/// Says why it is none.
pub fn read_answer(status: u16, body: &[u8]) -> Result<f64, String> {
    let is_good = (200..300).contains(&status);
    let answer: Answer<'_> = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(_) if !is_good => return Err(format!("status {status}")),
        Err(error) => return Err(not_its(&error)),
    };
    if !is_good || answer.status != "success" {
        return Err(format!("status {status}: {}", shortened(&answer.error)));
    }
    let data = answer.data.ok_or("the answer has no data")?;
    let unread = |error: serde_json::Error| not_its(&error);
    let text = match data.result_type.as_str() {
        "scalar" => {
            let (_, text): (f64, String) =
                serde_json::from_str(data.result.get()).map_err(unread)?;
            text
        }
        "vector" => {
            let samples: Vec<Sample> = serde_json::from_str(data.result.get()).map_err(unread)?;
            let n_samples = samples.len();
            let mut samples = samples.into_iter();
            match (samples.next(), n_samples) {
                (Some(sample), 1) => sample.value.1,
                (None, _) => return Err("the query has no result yet".to_owned()),
                _ => {
                    return Err(format!(
                        "the query has {n_samples} results; make it one, as by sum(...)"
                    ));
                }
            }
        }
        other => {
            let other = shortened(other);
            return Err(format!("the result is a {other}, and no vector or scalar"));
        }
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("the result is {}, no number", shortened(&text))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use coracle_base::{ManualClock, SystemClock};

    use super::*;

    const VECTOR: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1435781451.781,"0.25"]}]}}"#;

    #[test]
    fn of_what_is_no_answer_little_is_said() {
        let long = "x".repeat(100_000);
        let bodies = [
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"value":"{long}"}}]}}}}"#
            ),
            format!(r#"{{"status":"success","data":{{"resultType":"scalar","result":"{long}"}}}}"#),
            format!(r#""{long}""#),
        ];
        for body in bodies {
            let why = read_answer(200, body.as_bytes()).unwrap_err();
            assert!(why.len() < 400, "{} bytes: {why:.100}", why.len());
        }
    }

    #[test]
    fn answers_are_one_number_or_say_why_not() {
        let vector = |result: &str| {
            format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#)
        };
        let two = r#"[{"metric":{},"value":[1,"1"]},{"metric":{},"value":[1,"2"]}]"#;
        for (status, body, expected) in [
            (200, VECTOR.to_owned(), Ok(0.25)),
            (
                200,
                r#"{"status":"success","data":{"resultType":"scalar","result":[1,"-3e2"]}}"#
                    .to_owned(),
                Ok(-300.0),
            ),
            (200, vector("[]"), Err("no result yet")),
            (200, vector(two), Err("2 results")),
            (
                200,
                vector(r#"[{"value":[1,"NaN"]}]"#),
                Err("NaN, no number"),
            ),
            (
                200,
                vector(r#"[{"value":[1,"+Inf"]}]"#),
                Err("+Inf, no number"),
            ),
            (200, vector(r#"[{"value":"x"}]"#), Err("not Prometheus'")),
            (200, vector("{}"), Err("not Prometheus'")),
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#.to_owned(),
                Err("is a matrix"),
            ),
            (200, r#"{"status":"success"}"#.to_owned(), Err("no data")),
            (200, "<html>".to_owned(), Err("not Prometheus'")),
            (
                400,
                r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.to_owned(),
                Err("status 400: parse error"),
            ),
            (503, "<html>".to_owned(), Err("status 503")),
            (302, VECTOR.to_owned(), Err("status 302")),
        ] {
            match (read_answer(status, body.as_bytes()), expected) {
                (Ok(number), Ok(expected)) => assert!((number - expected).abs() < 1e-12, "{body}"),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{body}: {why}"),
                (result, _) => panic!("{body}: {result:?}"),
            }
        }
    }

    #[test]
    fn answers_that_are_cut_or_damaged_are_refused() {
        for end in 0..VECTOR.len() {
            assert!(
                read_answer(200, &VECTOR.as_bytes()[..end]).is_err(),
                "{end}"
            );
        }
        for at in 0..VECTOR.len() {
            let mut damaged = VECTOR.as_bytes().to_vec();
            damaged[at] ^= 0x80;
            drop(read_answer(200, &damaged));
        }
    }

    /// Answers each connection's request with what `answers` has next; tells the requests' first lines.
    fn serve(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let answer = |answer: String| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
                let head = String::from_utf8(head).unwrap();
                head.lines().next().unwrap().to_owned()
            };
            answers.into_iter().map(answer).collect()
        });
        (address, thread)
    }

    fn reply(status: &str, body: &str) -> String {
        let n_bytes = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {n_bytes}\r\nconnection: close\r\n\r\n{body}")
    }

    fn asking(address: String) -> Asking {
        Asking {
            address,
            stable: None,
            canary: "sum(a{b=\"c d\"})".to_owned(),
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
        }
    }

    fn key() -> QueryKey {
        QueryKey {
            service: coracle_serving::ServiceId {
                namespace: "ml".to_owned(),
                name: "iris".to_owned(),
            },
            since_ms: 1,
            place: 0,
        }
    }

    /// Returns the next answer of the board.
    async fn answer(board: &QueryBoard) -> QueryLook {
        loop {
            match board.take(&key()) {
                Some(look) => return look,
                None => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_whose_asking_panics_is_asked_again() {
        let board = Arc::new(QueryBoard::default());
        let clock = Arc::new(ManualClock::new());
        let asking = asking("http://127.0.0.1:1".to_owned());
        let interval = asking.interval;
        board.want([(key(), asking)].into(), clock.monotonic());
        let n_asked = AtomicUsize::new(0);
        let look = move |_asking| {
            let turn = n_asked.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(turn > 0, "a defect");
                QueryLook::None(format!("turn {turn}"))
            }
        };
        let (of, at) = (Arc::clone(&board), Arc::clone(&clock));
        let asker = tokio::spawn(async move { ask_by(&of, at.as_ref(), look).await });
        assert_eq!(answer(&board).await, QueryLook::None(DEFECT.to_owned()));
        clock.advance(interval);
        tokio::time::advance(interval).await;
        assert_eq!(answer(&board).await, QueryLook::None("turn 1".to_owned()));
        asker.abort();
    }

    #[tokio::test]
    async fn a_question_on_the_board_is_asked_and_answered() {
        let (address, thread) = serve(vec![reply("200 OK", VECTOR)]);
        let board = Arc::new(QueryBoard::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let key = key();
        board.want([(key.clone(), asking(address))].into(), clock.monotonic());
        let asker = tokio::spawn(ask(Arc::clone(&board), clock));
        let look = answer(&board).await;
        asker.abort();
        let expected = QueryLook::Numbers {
            stable: None,
            canary: 0.25,
        };
        assert_eq!(look, expected);
        let asked = thread.join().unwrap();
        assert_eq!(
            asked,
            ["GET /api/v1/query?query=sum%28a%7Bb%3D%22c%20d%22%7D%29 HTTP/1.1"]
        );
    }

    #[tokio::test]
    async fn what_fails_is_no_number() {
        let client = client().unwrap();
        let large = reply("200 OK", &"x".repeat(ANSWER_BYTES_MAX + 1));
        let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        for (answer, expected) in [
            (reply("500 Oops", "{}"), "of the canary: status 500"),
            (large, "more than 1048576 bytes"),
            (moved.to_owned(), "status 302"),
        ] {
            let (address, thread) = serve(vec![answer]);
            let QueryLook::None(why) = look(&client, &asking(address)).await else {
                panic!("{expected}");
            };
            assert!(why.contains(expected), "{why}");
            drop(thread.join());
        }
        let unreachable = asking("http://127.0.0.1:1".to_owned());
        assert!(matches!(
            look(&client, &unreachable).await,
            QueryLook::None(_)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_in_time_is_not_waited_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let look = look(&client().unwrap(), &asking(address)).await;
        assert!(matches!(look, QueryLook::None(_)), "{look:?}");
    }
}
