//! The logs of pods: what the serving process wrote about their revision.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use coracle_api::kind::POD;
use coracle_serving::{LogSource, RevisionId, log_path, replica_log_path, set_aside_path};

use super::path::ObjectsTarget;
use super::request::{ApiReply, ApiRequest};
use super::{Answer, Api, now};
use crate::controller::pods::{INDEX, REVISION_LABEL};
use crate::failure::Failure;
use crate::object;

/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The most that is read at a time of a log that is followed.
const CHUNK_BYTES: u64 = 256 << 10;

/// Which lines are asked for, and how.
#[derive(Clone, Debug, Default, PartialEq)]
struct Choice {
    /// Only lines from this time on, since 1970.
    since: Option<Duration>,
    timestamps: bool,
    /// Only so many lines, the last ones.
    tail: Option<usize>,
    /// Only so many bytes.
    limit: Option<usize>,
}

impl Choice {
    fn read(request: &ApiRequest, now: Duration) -> Result<Self, Failure> {
        let ago = request.number("sinceSeconds")?.map(Duration::from_secs);
        let since = match request.parameter("sinceTime") {
            Some(text) => {
                let time = humantime::parse_rfc3339_weak(&text)
                    .map_err(|_| bad(&text, "sinceTime: not a time in RFC 3339"))?;
                Some(time.duration_since(UNIX_EPOCH).unwrap_or_default())
            }
            None => ago.map(|ago| now.saturating_sub(ago)),
        };
        let size = |name| {
            let number = request.number(name)?;
            Ok(number.map(|number| usize::try_from(number).unwrap_or(usize::MAX)))
        };
        Ok(Self {
            since,
            timestamps: request.flag("timestamps"),
            tail: size("tailLines")?,
            limit: size("limitBytes")?,
        })
    }

    /// Returns the chosen lines of a log.
    fn select(&self, log: &str) -> String {
        let lines = log.lines().filter(|line| self.is_recent(line));
        let mut lines: Vec<&str> = lines.collect();
        if let Some(tail) = self.tail {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        let mut text = String::new();
        for line in lines {
            text.push_str(self.shown(line));
            text.push('\n');
        }
        if let Some(limit) = self.limit {
            text.truncate(text.floor_char_boundary(limit));
        }
        text
    }

    fn is_recent(&self, line: &str) -> bool {
        let Some(since) = self.since else { return true };
        let time = line.split(' ').next().unwrap_or_default();
        let time = humantime::parse_rfc3339(time).unwrap_or(UNIX_EPOCH);
        time.duration_since(UNIX_EPOCH).unwrap_or_default() >= since
    }

    fn shown<'a>(&self, line: &'a str) -> &'a str {
        match (self.timestamps, line.split_once(' ')) {
            (false, Some((_time, text))) => text,
            _ => line,
        }
    }
}

fn bad(value: &str, why: &str) -> Failure {
    Failure::bad_request(format!("invalid value {value:?} for {why}"))
}

impl Api {
    /// `GET .../pods/NAME/log`
    pub(crate) fn pod_log(
        &self,
        request: &ApiRequest,
        target: &ObjectsTarget,
        name: &str,
    ) -> Result<Answer, Failure> {
        let pod = self.live(target, name)?;
        let container = request.parameter("container").unwrap_or_default();
        let source = LogSource::ALL
            .into_iter()
            .find(|source| source.container() == container);
        let source = match (source, container.as_str()) {
            (Some(source), _) => source,
            (None, "") => LogSource::Serve,
            (None, other) => {
                return Err(Failure::bad_request(format!(
                    "container {other} is not valid for pod {name}; there are {}",
                    LogSource::ALL.map(LogSource::container).join(" and ")
                )));
            }
        };
        let revision = RevisionId {
            namespace: pod.key.namespace().to_owned(),
            name: object::text(&pod.object, "labels", REVISION_LABEL)
                .unwrap_or_default()
                .to_owned(),
        };
        let directory = self
            .logs
            .as_deref()
            .ok_or_else(|| Failure::not_found(&POD, name))?;
        let index = object::text(&pod.object, "annotations", INDEX);
        let process = index.and_then(|index| index.parse().ok());
        let is_previous = request.flag("previous");
        let path = match (process, source) {
            (Some(process), LogSource::Serve) => {
                replica_log_path(directory, &revision, process, is_previous)
            }
            _ => log_path(directory, &revision, source),
        };
        let is_there = process.is_some() && source == LogSource::Serve && path.exists();
        if is_previous && !is_there {
            return Err(Failure::bad_request(format!(
                "previous terminated container \"{}\" in pod \"{name}\" not found",
                source.container()
            )));
        }
        let choice = Choice::read(request, now(self))?;
        let (log, position) = read_whole(&path);
        let text = choice.select(&log);
        if !request.flag("follow") {
            return Ok(Answer::Reply(ApiReply::text(200, &text)));
        }
        Ok(Answer::Log(Box::new(FollowedLog {
            path,
            position,
            choice,
            first: Some(text),
        })))
    }
}

/// Reads a log and what was set aside of it; returns where it ended, too.
fn read_whole(path: &Path) -> (String, u64) {
    let read = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        // A line that is just being written is for the next look.
        let n_whole = bytes.iter().rposition(|&byte| byte == b'\n');
        bytes[..n_whole.map_or(0, |last| last + 1)].to_vec()
    };
    let mut bytes = read(&set_aside_path(path));
    let current = read(path);
    bytes.extend_from_slice(&current);
    let position = u64::try_from(current.len()).unwrap_or(u64::MAX);
    (String::from_utf8_lossy(&bytes).into_owned(), position)
}

/// A log that is followed, until the client goes.
#[derive(Debug)]
pub struct FollowedLog {
    path: PathBuf,
    /// Everything before it has been sent.
    position: u64,
    choice: Choice,
    /// What was there already.
    first: Option<String>,
}

impl FollowedLog {
    /// Returns the next lines, once there are some.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Some(Bytes::from(first));
        }
        loop {
            let text = self.read_on();
            if !text.is_empty() {
                return Some(Bytes::from(text));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Returns the lines that were written since the last look.
    fn read_on(&mut self) -> String {
        let bytes = read_from(&self.path, &mut self.position).unwrap_or_default();
        let mut text = String::new();
        for line in String::from_utf8_lossy(&bytes).lines() {
            text.push_str(self.choice.shown(line));
            text.push('\n');
        }
        text
    }
}

/// Reads whole lines from `position` on, and moves it behind them.
fn read_from(path: &Path, position: &mut u64) -> std::io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    if file.metadata()?.len() < *position {
        // The file was full and set aside; this is a new one.
        *position = 0;
    }
    file.seek(SeekFrom::Start(*position))?;
    let mut bytes = Vec::new();
    file.take(CHUNK_BYTES).read_to_end(&mut bytes)?;
    let n_whole = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |last| last + 1);
    bytes.truncate(n_whole);
    *position += u64::try_from(n_whole).unwrap_or(0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "1970-01-01T00:00:01.000000000Z one\n1970-01-01T00:00:02.000000000Z two words\n1970-01-01T00:00:03.500000000Z three\n";

    fn select(query: &str) -> Result<String, Failure> {
        let request = ApiRequest {
            query: query.to_owned(),
            ..ApiRequest::default()
        };
        Ok(Choice::read(&request, Duration::from_secs(4))?.select(LOG))
    }

    #[test]
    fn lines_are_chosen_as_asked() {
        let cases = [
            ("", "one\ntwo words\nthree\n"),
            ("tailLines=1", "three\n"),
            ("tailLines=0", ""),
            ("sinceSeconds=2", "two words\nthree\n"),
            ("sinceTime=1970-01-01T00:00:03Z", "three\n"),
            (
                "timestamps=true&tailLines=1",
                "1970-01-01T00:00:03.500000000Z three\n",
            ),
            ("limitBytes=5", "one\nt"),
        ];
        for (query, expected) in cases {
            assert_eq!(select(query).unwrap(), expected, "{query}");
        }
        assert_eq!(select("sinceTime=soon").unwrap_err().status, 400);
        assert_eq!(select("tailLines=-1").unwrap_err().status, 400);
    }

    #[test]
    fn a_followed_log_goes_on_in_whole_lines_and_in_the_next_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        fs::write(&path, "t one\nt tw").unwrap();
        let (log, mut position) = read_whole(&path);
        assert_eq!((log.as_str(), position), ("t one\n", 6));
        let mut read = || String::from_utf8(read_from(&path, &mut position).unwrap()).unwrap();
        assert_eq!(read(), "");
        fs::write(&path, "t one\nt two\n").unwrap();
        assert_eq!(read(), "t two\n");
        fs::write(&path, "t new\n").unwrap();
        assert_eq!(read(), "t new\n");
    }
}
