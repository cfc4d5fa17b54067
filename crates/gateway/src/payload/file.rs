//! Payloads as lines of JSON in files: `payloads.jsonl`, and older ones as `payloads.1.jsonl` and so on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::receivers::{Queued, Report};

/// The files of one directory.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    bytes_max: u64,
    n_max: usize,
    open: Option<(BufWriter<File>, u64)>,
}

impl Files {
    /// Returns files of up to `bytes_max` bytes, of which `n_max` are kept. One line may make a file longer.
    pub(super) fn new(directory: PathBuf, bytes_max: u64, n_max: usize) -> Self {
        Self {
            directory,
            bytes_max,
            n_max: n_max.max(1),
            open: None,
        }
    }

    fn path(&self, number: usize) -> PathBuf {
        self.directory.join(match number {
            0 => "payloads.jsonl".to_owned(),
            number => format!("payloads.{number}.jsonl"),
        })
    }

    /// Appends a line; a failure closes the file, which the next line opens again.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.try_append(line);
        if written.is_err() {
            self.open = None;
        }
        written
    }

    fn try_append(&mut self, line: &[u8]) -> io::Result<()> {
        let n_bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let is_full = |size: u64| size > 0 && size.saturating_add(n_bytes) > self.bytes_max;
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => open(&self.directory, &self.path(0))?,
        };
        if is_full(size) {
            file.flush()?;
            drop(file);
            self.rotate()?;
            (file, size) = open(&self.directory, &self.path(0))?;
        }
        file.write_all(line)?;
        self.open = Some((file, size.saturating_add(n_bytes)));
        Ok(())
    }

    /// Moves every file on by one; the last one goes.
    fn rotate(&self) -> io::Result<()> {
        for number in (0..self.n_max).rev() {
            let (from, to) = (self.path(number), self.path(number + 1));
            let moved = match number + 1 == self.n_max {
                true => fs::remove_file(&from),
                false => fs::rename(&from, &to),
            };
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some((file, _)) => file.flush(),
            None => Ok(()),
        }
    }
}

fn open(directory: &Path, path: &Path) -> io::Result<(BufWriter<File>, u64)> {
    fs::create_dir_all(directory)?;
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    // Payloads are nobody else's.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let size = file.metadata()?.len();
    Ok((BufWriter::new(file), size))
}

/// Writes events until no more can come; flushes whenever none is waiting.
pub(super) fn run(mut files: Files, mut events: mpsc::UnboundedReceiver<Queued>, report: &Report) {
    while let Some(queued) = events.blocking_recv() {
        let mut written = files.append(&queued.event.to_json());
        drop(queued);
        if events.is_empty() {
            written = written.and(files.flush());
        }
        report.ended(written.map_err(|error| error.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_rotated_by_size_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("new");
        let mut files = Files::new(place.clone(), 10, 3);
        for line in [
            "1234\n",
            "5678\n",
            "abcd\n",
            "a line that is too long\n",
            "efgh\n",
            "ijkl\n",
            "mnop\n",
        ] {
            files.append(line.as_bytes()).unwrap();
        }
        files.flush().unwrap();
        let read = |name: &str| fs::read_to_string(place.join(name)).ok();
        assert_eq!(read("payloads.jsonl").unwrap(), "mnop\n");
        assert_eq!(read("payloads.1.jsonl").unwrap(), "efgh\nijkl\n");
        assert_eq!(
            read("payloads.2.jsonl").unwrap(),
            "a line that is too long\n"
        );
        assert_eq!(read("payloads.3.jsonl"), None);
        // A later server goes on where this one ended.
        let mut files = Files::new(place.clone(), 10, 3);
        files.append(b"qrst\n").unwrap();
        files.append(b"uvwx\n").unwrap();
        files.flush().unwrap();
        assert_eq!(read("payloads.jsonl").unwrap(), "uvwx\n");
        assert_eq!(read("payloads.1.jsonl").unwrap(), "mnop\nqrst\n");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("taken");
        fs::write(&place, "a file").unwrap();
        let mut files = Files::new(place.clone(), 10, 3);
        assert!(files.append(b"1\n").is_err());
        fs::remove_file(&place).unwrap();
        assert!(files.append(b"2\n").is_ok() && files.flush().is_ok());
        assert_eq!(
            fs::read_to_string(place.join("payloads.jsonl")).unwrap(),
            "2\n"
        );
    }
}
