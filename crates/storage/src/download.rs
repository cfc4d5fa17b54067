//! From a listing to files on this machine: ranges, resumption, attempts, several files at a time.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::attempts::Attempts;
use crate::config::{Progress, StorageLimits};
use crate::digest;
use crate::error::{StorageError, StorageErrorKind};
use crate::source::{Body, RemoteFile, Source};
use crate::storage::blocking;

/// What is asked for at a time, and what an interrupted download may lose when it was not written yet.
const CHUNK_BYTES: u64 = 8 << 20;

/// How many bytes pass between two reports of progress.
const REPORT_BYTES: u64 = 1 << 20;

/// Where files come from, where they go, and what bounds that.
pub(crate) struct Download<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) directory: &'a Path,
    pub(crate) limits: &'a StorageLimits,
}

impl Download<'_> {
    /// Downloads every file; what is in the directory already is taken to be the beginning of the file.
    pub(crate) async fn all(
        &self,
        files: &[RemoteFile],
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), StorageError> {
        let report = Report::new(files, progress);
        // Boxed one by one: a closure that makes them would hide from the compiler that they are `Send`.
        let mut downloads = Vec::with_capacity(files.len());
        for file in files {
            downloads.push(self.one(file, FileReport::new(&report)).boxed());
        }
        futures_util::stream::iter(downloads)
            .buffer_unordered(self.limits.parallel_downloads.max(1))
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    async fn one(
        &self,
        file: &RemoteFile,
        mut report: FileReport<'_, '_>,
    ) -> Result<(), StorageError> {
        let path = self.directory.join(&file.relative);
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent)
                .await
                .map_err(|source| StorageError::local("create", parent, source))?;
        }
        let mut attempts = Attempts::new(self.limits);
        let mut mark = 0;
        loop {
            let present = present_bytes(&path).await;
            report.at(present);
            if file.bytes == Some(present) {
                break;
            }
            match self.transfer(file, &path, present, &mut report).await {
                Ok(()) if file.bytes.is_none() => break,
                Ok(()) => attempts.reset(),
                Err(error) => {
                    let reached = present_bytes(&path).await;
                    if reached >= mark + CHUNK_BYTES {
                        attempts.reset();
                    }
                    mark = reached;
                    attempts.pause(error).await?;
                }
            }
        }
        self.verify(file, path).await?;
        report.done();
        Ok(())
    }

    /// Asks for the next range and writes what comes.
    async fn transfer(
        &self,
        file: &RemoteFile,
        path: &Path,
        present: u64,
        report: &mut FileReport<'_, '_>,
    ) -> Result<(), StorageError> {
        // More than there can be is not the beginning of this file.
        let present = if file.bytes.is_some_and(|bytes| present < bytes) {
            present
        } else {
            0
        };
        let range: Option<Range<u64>> = file
            .bytes
            .map(|bytes| present..bytes.min(present.saturating_add(CHUNK_BYTES)));
        let mut body = self.source.read(file, range).await?;
        self.check_unchanged(file, &body)?;
        if body.start != present && body.start != 0 {
            return Err(self.damaged(file, "came from another offset than was asked for"));
        }
        let error = |source| StorageError::local("write", path, source);
        let mut output = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)
            .await
            .map_err(error)?;
        output.set_len(body.start).await.map_err(error)?;
        output
            .seek(std::io::SeekFrom::Start(body.start))
            .await
            .map_err(error)?;
        let outcome = self.pour(file, &mut body, &mut output, report).await;
        // What came before a failure is kept.
        output.flush().await.map_err(error)?;
        outcome
    }

    async fn pour(
        &self,
        file: &RemoteFile,
        body: &mut Body,
        output: &mut File,
        report: &mut FileReport<'_, '_>,
    ) -> Result<(), StorageError> {
        let bytes_max = file
            .bytes
            .unwrap_or(self.limits.artifact_bytes_max.as_u64());
        let mut offset = body.start;
        while let Some(part) = body.stream.try_next().await? {
            offset = offset.saturating_add(part.len().try_into().unwrap_or(u64::MAX));
            if offset > bytes_max {
                return Err(self.overlong(file));
            }
            output.write_all(&part).await.map_err(|source| {
                StorageError::local("write", &self.directory.join(&file.relative), source)
            })?;
            report.at(offset);
        }
        if offset == body.start && file.bytes.is_some() {
            let remote = self.source.remote();
            return Err(remote.not_served("the answer had no content").passing());
        }
        Ok(())
    }

    fn check_unchanged(&self, file: &RemoteFile, body: &Body) -> Result<(), StorageError> {
        let is_other_tag = matches!((&file.etag, &body.etag), (Some(a), Some(b)) if a != b);
        let is_other_size = matches!((file.bytes, body.total), (Some(a), Some(b)) if a != b);
        if is_other_tag || is_other_size {
            return Err(self.damaged(file, "changed while it was downloaded; fetch it again"));
        }
        Ok(())
    }

    async fn verify(&self, file: &RemoteFile, path: PathBuf) -> Result<(), StorageError> {
        let Some(promised) = &file.sha256 else {
            return Ok(());
        };
        let hashed = path.clone();
        let (digest, _bytes) = blocking(move || digest::hash_file(&hashed)).await?;
        if digest.eq_ignore_ascii_case(promised) {
            return Ok(());
        }
        tokio::fs::remove_file(&path)
            .await
            .map_err(|source| StorageError::local("remove", &path, source))?;
        let problem = format!(
            "has SHA-256 {digest}, the store promises {promised}; it was removed, fetch it again"
        );
        Err(self.damaged(file, &problem))
    }

    fn overlong(&self, file: &RemoteFile) -> StorageError {
        if file.bytes.is_some() {
            return self.damaged(file, "is longer than the store says; fetch it again");
        }
        StorageError::new(
            StorageErrorKind::TooLarge,
            format!(
                "'{}' is larger than the {} that artifact_bytes_max allows",
                self.source.remote().shown,
                self.limits.artifact_bytes_max
            ),
        )
    }

    fn damaged(&self, file: &RemoteFile, problem: &str) -> StorageError {
        let name = file.relative.to_string_lossy();
        self.source.remote().damaged(&name, problem)
    }
}

/// Returns how much of a file is there; nothing where it cannot be read, which writing will tell.
async fn present_bytes(path: &Path) -> u64 {
    tokio::fs::metadata(path)
        .await
        .map_or(0, |metadata| metadata.len())
}

/// The progress of all files together.
struct Report<'a> {
    callback: &'a (dyn Fn(Progress) + Sync),
    state: Mutex<ReportState>,
}

struct ReportState {
    progress: Progress,
    bytes_reported: u64,
}

impl<'a> Report<'a> {
    fn new(files: &[RemoteFile], callback: &'a (dyn Fn(Progress) + Sync)) -> Self {
        let progress = Progress {
            bytes_total: files.iter().map(|file| file.bytes).sum(),
            files_total: files.len(),
            ..Progress::default()
        };
        callback(progress);
        Self {
            callback,
            state: Mutex::new(ReportState {
                progress,
                bytes_reported: 0,
            }),
        }
    }

    fn change(&self, before: u64, now: u64, n_done: usize) {
        let due = {
            let Ok(mut state) = self.state.lock() else {
                // A report panicked before; there is nobody left to tell.
                return;
            };
            let progress = &mut state.progress;
            progress.bytes_done = progress.bytes_done.saturating_sub(before) + now;
            progress.files_done += n_done;
            let progress = *progress;
            let is_due =
                n_done > 0 || progress.bytes_done.abs_diff(state.bytes_reported) >= REPORT_BYTES;
            if is_due {
                state.bytes_reported = progress.bytes_done;
            }
            is_due.then_some(progress)
        };
        if let Some(progress) = due {
            (self.callback)(progress);
        }
    }
}

/// One file's part in the progress.
struct FileReport<'r, 'a> {
    report: &'r Report<'a>,
    bytes: u64,
}

impl<'r, 'a> FileReport<'r, 'a> {
    fn new(report: &'r Report<'a>) -> Self {
        Self { report, bytes: 0 }
    }

    fn at(&mut self, bytes: u64) {
        self.report.change(self.bytes, bytes, 0);
        self.bytes = bytes;
    }

    fn done(self) {
        self.report.change(self.bytes, self.bytes, 1);
    }
}
