//! What programs write: cut into lines, without letting a flood fill the disk or a program wait for ever.
//!
//! Reading never stops, so a program that writes cannot hang on it; but it is slowed where a program writes as fast as
//! it can, and what is beyond a steady rate is counted, not kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::Instant;

/// Which of its two outputs a program wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

/// Where lines go.
pub trait LogSink: Send + Sync {
    /// Takes a line; must not wait.
    fn line(&self, stream: Stream, text: &str);

    /// Told that what follows is written by a process that was started anew.
    fn restarted(&self) {}
}

/// Lines are cut at so many bytes.
const LINE_BYTES_MAX: usize = 16 << 10;
/// How many bytes may be kept at once after a time of silence.
const BURST_BYTES: u64 = 4 << 20;
/// How many bytes a second may be kept over time.
const KEPT_BYTES_PER_SECOND: u64 = 1 << 20;
/// How many bytes a second are read: more would cost the server a core.
const READ_BYTES_PER_SECOND: u64 = 64 << 20;
/// The lines that are remembered of a process that ended.
const LAST_LINES: usize = 10;
/// Remembered lines are cut at so many characters.
const LAST_LINE_CHARS: usize = 400;

/// Decides what of a stream of bytes is kept as lines.
#[derive(Debug)]
pub(crate) struct LineCutter {
    line: Vec<u8>,
    is_cut: bool,
    /// Bytes that may be kept now.
    allowance: u64,
    refilled_at: Duration,
    n_dropped_lines: u64,
    n_dropped_bytes: u64,
}

impl LineCutter {
    pub(crate) fn new() -> Self {
        Self {
            line: Vec::new(),
            is_cut: false,
            allowance: BURST_BYTES,
            refilled_at: Duration::ZERO,
            n_dropped_lines: 0,
            n_dropped_bytes: 0,
        }
    }

    /// Takes what was read at `now`; calls `keep` with each line.
    pub(crate) fn take(&mut self, mut bytes: &[u8], now: Duration, keep: &mut dyn FnMut(&str)) {
        self.refill(now);
        while !bytes.is_empty() {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let (part, rest) = match end {
                Some(end) => (&bytes[..end], &bytes[end + 1..]),
                None => (bytes, &bytes[bytes.len()..]),
            };
            let room = LINE_BYTES_MAX - self.line.len();
            self.is_cut |= part.len() > room;
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if end.is_some() {
                self.end_line(keep);
            }
            bytes = rest;
        }
    }

    /// Ends what has no line end: the program is gone.
    pub(crate) fn finish(&mut self, keep: &mut dyn FnMut(&str)) {
        if !self.line.is_empty() {
            self.end_line(keep);
        }
        self.tell_dropped(keep);
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.refilled_at);
        let earned = elapsed.as_millis() * u128::from(KEPT_BYTES_PER_SECOND) / 1_000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        if earned > 0 {
            self.refilled_at = now;
            self.allowance = self.allowance.saturating_add(earned).min(BURST_BYTES);
        }
    }

    fn end_line(&mut self, keep: &mut dyn FnMut(&str)) {
        let bytes = std::mem::take(&mut self.line);
        let is_cut = std::mem::take(&mut self.is_cut);
        let n_bytes = bytes.len() as u64 + 1;
        // Once a flood is on, nothing is kept before a part of the allowance is back: a flood is told of once a
        // second, not once a line.
        let needed = match self.n_dropped_lines {
            0 => n_bytes,
            _ => n_bytes.max(KEPT_BYTES_PER_SECOND),
        };
        if self.allowance < needed {
            self.n_dropped_lines += 1;
            self.n_dropped_bytes += n_bytes;
            return;
        }
        self.tell_dropped(keep);
        self.allowance -= n_bytes;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_suffix('\r').unwrap_or(&text).replace('\0', "");
        match is_cut {
            true => keep(&format!("{text} ... (line cut at {LINE_BYTES_MAX} bytes)")),
            false => keep(&text),
        }
    }

    fn tell_dropped(&mut self, keep: &mut dyn FnMut(&str)) {
        if self.n_dropped_lines > 0 {
            keep(&format!(
                "({} lines, {} bytes, were not kept: the program writes too much)",
                self.n_dropped_lines, self.n_dropped_bytes
            ));
            (self.n_dropped_lines, self.n_dropped_bytes) = (0, 0);
        }
    }
}

/// The last lines of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(line.chars().take(LAST_LINE_CHARS).collect());
    }

    /// Returns them and forgets them.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *lines).into()
    }
}

/// Reads a program's output to its end.
pub(crate) async fn read_lines(
    mut output: impl AsyncRead + Unpin,
    stream: Stream,
    sink: Arc<dyn LogSink>,
    last: LastLines,
) {
    let started = Instant::now();
    let mut cutter = LineCutter::new();
    let mut buffer = vec![0; 64 << 10];
    let mut keep = |line: &str| {
        last.push(line);
        sink.line(stream, line);
    };
    let mut pace = ReadPace::default();
    while let Ok(n_bytes @ 1..) = output.read(&mut buffer).await {
        let now = started.elapsed();
        cutter.take(&buffer[..n_bytes], now, &mut keep);
        let pause = pace.after(n_bytes, now);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    cutter.finish(&mut keep);
}

/// Slows the reading of a program that writes as fast as it can.
#[derive(Debug, Default)]
struct ReadPace {
    window_start: Duration,
    n_bytes: u64,
}

/// Over which time the rate of reading is held.
const READ_WINDOW: Duration = Duration::from_millis(100);

impl ReadPace {
    /// Returns how long to wait after so many bytes have been read.
    fn after(&mut self, n_bytes: usize, now: Duration) -> Duration {
        let elapsed = now.saturating_sub(self.window_start);
        if elapsed >= READ_WINDOW {
            *self = Self {
                window_start: now,
                n_bytes: 0,
            };
        }
        self.n_bytes += n_bytes as u64;
        match self.n_bytes > READ_BYTES_PER_SECOND / 10 {
            true => (self.window_start + READ_WINDOW).saturating_sub(now),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut kept = Vec::new();
        let mut keep = |line: &str| kept.push(line.to_owned());
        let mut cutter = LineCutter::new();
        for chunk in chunks {
            cutter.take(chunk, Duration::ZERO, &mut keep);
        }
        cutter.finish(&mut keep);
        kept
    }

    #[test]
    fn bytes_become_lines() {
        assert_eq!(lines(&[b"a\nb", b"c\r\n\nd"]), ["a", "bc", "", "d"]);
        assert_eq!(
            lines(&[b"caf\xc3", b"\xa9\n\xff\0x\n"]),
            ["café", "\u{fffd}x"]
        );
        assert!(lines(&[b""]).is_empty());
    }

    #[test]
    fn a_long_line_is_cut_once() {
        let long = vec![b'x'; 3 * LINE_BYTES_MAX];
        let kept = lines(&[&long, b"y\nnext\n"]);
        assert_eq!(kept.len(), 2);
        assert!(kept[0].starts_with("xxx") && kept[0].ends_with("(line cut at 16384 bytes)"));
        assert!(kept[0].len() < LINE_BYTES_MAX + 64);
        assert_eq!(kept[1], "next");
        let exact = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(lines(&[&exact, b"\n"])[0].len(), LINE_BYTES_MAX);
    }

    #[test]
    fn a_flood_is_counted_and_told_of_about_once_a_second() {
        let mut kept: Vec<String> = Vec::new();
        let mut keep = |line: &str| kept.push(line.to_owned());
        let mut cutter = LineCutter::new();
        let line = format!("{}\n", "x".repeat(1_023));
        // A thousandth of a second for each 10 KiB: ten times the rate that is kept, for ten seconds.
        for millis in 0..10_000 {
            for _ in 0..10 {
                cutter.take(line.as_bytes(), Duration::from_millis(millis), &mut keep);
            }
        }
        cutter.finish(&mut keep);
        let (told, lines): (Vec<&String>, Vec<&String>) =
            kept.iter().partition(|line| line.starts_with('('));
        let n_kept_bytes = lines.len() as u64 * 1_024;
        assert!(n_kept_bytes <= BURST_BYTES + 10 * KEPT_BYTES_PER_SECOND);
        assert!(
            n_kept_bytes >= BURST_BYTES + 7 * KEPT_BYTES_PER_SECOND,
            "{n_kept_bytes}"
        );
        assert!((5..=12).contains(&told.len()), "{}", told.len());
        let dropped: usize = told
            .iter()
            .map(|line| {
                line[1..]
                    .split(' ')
                    .next()
                    .unwrap()
                    .parse::<usize>()
                    .unwrap()
            })
            .sum();
        assert_eq!(dropped + lines.len(), 100_000);
    }

    #[test]
    fn reading_is_slowed_only_at_the_rate_of_a_flood() {
        let mut pace = ReadPace::default();
        let at = Duration::from_millis;
        assert_eq!(pace.after(1 << 20, at(10)), Duration::ZERO);
        assert_eq!(pace.after(8 << 20, at(20)), at(80));
        assert_eq!(pace.after(1 << 20, at(100)), Duration::ZERO);
    }
}
