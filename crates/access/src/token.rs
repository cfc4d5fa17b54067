//! Bearer tokens: JSON web tokens (RFC 7519) signed with HMAC-SHA-256 by keys of this server alone.
//!
//! Keys are rotated: the newest one signs, older ones go on verifying until they are revoked, so that tokens that are out
//! run out on their own.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use crate::files;
use crate::{AccessError, User};

/// The issuer that tokens name.
const ISSUER: &str = "coracle";
/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 8 << 10;
const KEY_BYTES: usize = 32;

/// What a token says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The user's name.
    #[serde(rename = "sub")]
    pub subject: String,
    /// The user's groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The issuer.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// When it was issued, in seconds since 1970.
    #[serde(rename = "iat")]
    pub issued_at: u64,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "exp")]
    pub expires_at: u64,
    /// The service account's uid, for tokens that end with their account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_uid: Option<String>,
}

impl Claims {
    /// Returns what a token for `user` says that is issued at `now` (since 1970) and lasts for `lifetime`.
    #[must_use]
    pub fn new(user: &User, now: Duration, lifetime: Duration) -> Self {
        Self {
            subject: user.name.clone(),
            groups: user.groups.clone(),
            issuer: ISSUER.to_owned(),
            issued_at: now.as_secs(),
            expires_at: now.saturating_add(lifetime).as_secs(),
            account_uid: None,
        }
    }

    /// Returns the user.
    #[must_use]
    pub fn user(&self) -> User {
        User::authenticated(&self.subject, &self.groups)
    }
}

/// A token that proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is no token of this server.
    #[error("the token is not one of this server's, or its key was revoked")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// The keys that sign and verify tokens, newest first.
#[derive(Clone, Deserialize, Serialize)]
pub struct TokenKeys {
    keys: Vec<Key>,
}

#[derive(Clone, Deserialize, Serialize)]
struct Key {
    id: String,
    /// Base64 of the secret.
    secret: String,
}

impl std::fmt::Debug for TokenKeys {
    // Secrets do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|key| key.id.as_str()).collect();
        f.debug_struct("TokenKeys").field("keys", &ids).finish()
    }
}

impl Key {
    fn generate() -> Self {
        let mut bytes = [0_u8; KEY_BYTES + 8];
        SystemRandom::new()
            .fill(&mut bytes)
            .expect("the system gives random bytes, as for every TLS connection");
        let (id, secret) = bytes.split_at(8);
        Self {
            id: BASE64.encode(id),
            secret: BASE64.encode(secret),
        }
    }

    fn hmac(&self) -> Option<hmac::Key> {
        let secret = BASE64.decode(&self.secret).ok()?;
        (secret.len() == KEY_BYTES).then(|| hmac::Key::new(hmac::HMAC_SHA256, &secret))
    }
}

impl TokenKeys {
    /// Returns one new key.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            keys: vec![Key::generate()],
        }
    }

    /// Adds a key that signs from now on; the others only verify.
    pub fn rotate(&mut self) {
        self.keys.insert(0, Key::generate());
    }

    /// Forgets every key but the newest: tokens that others signed prove nothing any more.
    pub fn revoke_old(&mut self) {
        self.keys.truncate(1);
    }

    /// Returns a token that says `claims`.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> Option<String> {
        let key = self.keys.first()?;
        let header = json!({"alg": "HS256", "typ": "JWT", "kid": key.id}).to_string();
        let claims = serde_json::to_string(claims).ok()?;
        let text = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let tag = hmac::sign(&key.hmac()?, text.as_bytes());
        Some(format!("{text}.{}", BASE64.encode(tag)))
    }

    /// Returns what a token says, if it is one of these keys' and its time is not over at `now` (since 1970).
    ///
    /// # Errors
    /// [`TokenError`]; the signature is compared in constant time.
    pub fn verify(&self, token: &str, now: Duration) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Unknown);
        }
        let claims = self.verified(token).ok_or(TokenError::Unknown)?;
        if claims.issuer != ISSUER {
            return Err(TokenError::Unknown);
        }
        if claims.expires_at <= now.as_secs() {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    fn verified(&self, token: &str) -> Option<Claims> {
        let (text, tag) = token.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        let header: serde_json::Value =
            serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        // Only what this server signs with: the algorithm is not the token's to choose.
        if header.get("alg")? != "HS256" {
            return None;
        }
        let id = header.get("kid")?.as_str()?;
        let key = self.keys.iter().find(|key| key.id == id)?.hmac()?;
        let tag = BASE64.decode(tag).ok()?;
        hmac::verify(&key, text.as_bytes(), &tag).ok()?;
        serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()
    }
}

/// The keys in a file, read again when it changes.
#[derive(Debug)]
pub struct TokenStore {
    path: PathBuf,
    read: Mutex<(Option<SystemTime>, TokenKeys)>,
}

impl TokenStore {
    /// Returns the keys in `directory`, which are made if there are none.
    ///
    /// # Errors
    /// If the file cannot be read, written or understood.
    pub fn open(directory: &Path) -> Result<Self, AccessError> {
        let path = directory.join("token-keys.json");
        let keys = match read_keys(&path)? {
            Some(keys) => keys,
            None => {
                let keys = TokenKeys::generate();
                write_keys(&path, &keys)?;
                keys
            }
        };
        let changed_at = changed_at(&path);
        Ok(Self {
            path,
            read: Mutex::new((changed_at, keys)),
        })
    }

    /// Returns the keys as they are in the file now; those read last if it cannot be read.
    #[must_use]
    pub fn keys(&self) -> TokenKeys {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let changed_at = changed_at(&self.path);
        if changed_at != read.0
            && let Ok(Some(keys)) = read_keys(&self.path)
        {
            *read = (changed_at, keys);
        }
        read.1.clone()
    }

    /// Changes the keys, here and in the file.
    ///
    /// # Errors
    /// If the file cannot be written; nothing has changed then.
    pub fn change(&self, change: impl FnOnce(&mut TokenKeys)) -> Result<(), AccessError> {
        let mut keys = self.keys();
        change(&mut keys);
        write_keys(&self.path, &keys)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read = (changed_at(&self.path), keys);
        Ok(())
    }
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

fn read_keys(path: &Path) -> Result<Option<TokenKeys>, AccessError> {
    let Some(text) = files::read(path)? else {
        return Ok(None);
    };
    let keys: TokenKeys =
        serde_json::from_str(&text).map_err(|error| files::malformed(path, error))?;
    if keys.keys.is_empty() || keys.keys.iter().any(|key| key.hmac().is_none()) {
        return Err(files::malformed(path, "it holds no keys, or spoiled ones"));
    }
    Ok(Some(keys))
}

fn write_keys(path: &Path, keys: &TokenKeys) -> Result<(), AccessError> {
    let text = serde_json::to_string_pretty(keys).map_err(|error| files::malformed(path, error))?;
    files::write(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn claims() -> Claims {
        let user = User::authenticated("alice", &["devs".to_owned()]);
        Claims::new(&user, NOW, Duration::from_secs(60))
    }

    #[test]
    fn a_token_says_who_it_is_for_until_its_time_is_over() {
        let keys = TokenKeys::generate();
        let token = keys.sign(&claims()).unwrap();
        let read = keys.verify(&token, NOW).unwrap();
        assert_eq!(read, claims());
        assert_eq!(read.user().groups, ["devs", "system:authenticated"]);
        let at = |seconds| keys.verify(&token, Duration::from_secs(seconds));
        assert!(at(1_059).is_ok());
        assert_eq!(at(1_060), Err(TokenError::Expired));
    }

    #[test]
    fn what_others_signed_or_changed_proves_nothing() {
        let keys = TokenKeys::generate();
        let token = keys.sign(&claims()).unwrap();
        let unknown = Err(TokenError::Unknown);
        assert_eq!(TokenKeys::generate().verify(&token, NOW), unknown);
        // Every single changed character is noticed.
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character of a part has bits that mean nothing; they must be zero.
            assert!(keys.verify(&changed, NOW).is_err(), "{index}: {changed}");
        }
        for bad in ["", ".", "..", "a.b.c", "🦀.🦀.🦀", &"x".repeat(10_000)] {
            assert_eq!(keys.verify(bad, NOW), unknown, "{bad}");
        }
        // An unsigned token of the right form.
        let none = BASE64.encode(json!({"alg": "none", "kid": "x"}).to_string());
        let body = BASE64.encode(serde_json::to_string(&claims()).unwrap());
        assert_eq!(keys.verify(&format!("{none}.{body}."), NOW), unknown);
    }

    #[test]
    fn rotated_keys_verify_until_they_are_revoked() {
        let directory = tempfile::tempdir().unwrap();
        let store = TokenStore::open(directory.path()).unwrap();
        let old = store.keys().sign(&claims()).unwrap();
        store.change(TokenKeys::rotate).unwrap();
        let new = store.keys().sign(&claims()).unwrap();
        // Another process reads the same keys.
        let other = TokenStore::open(directory.path()).unwrap();
        assert!(other.keys().verify(&old, NOW).is_ok());
        assert!(other.keys().verify(&new, NOW).is_ok());
        store.change(TokenKeys::revoke_old).unwrap();
        assert!(store.keys().verify(&old, NOW).is_err());
        assert!(store.keys().verify(&new, NOW).is_ok());
    }

    #[test]
    fn spoiled_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token-keys.json");
        for text in [
            "",
            "{}",
            "{\"keys\":[]}",
            "{\"keys\":[{\"id\":\"a\",\"secret\":\"b\"}]}",
        ] {
            std::fs::write(&path, text).unwrap();
            let error = TokenStore::open(directory.path()).unwrap_err().to_string();
            assert!(error.starts_with("cannot use "), "{error}");
        }
    }
}
