//! API keys that the operator issues. A file lists their hashes and is polled every second, so that keys can be added and
//! revoked without a restart.
//!
//! A key consists of 256 random bits and cannot be guessed, so a fast hash is sufficient.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use k8sops_core::{ErrorChain, Timestamp};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    errors::{AuthRejection, KeyFileError, KeyFileProblem},
    identity::{CallerIdentity, CredentialExpiry},
    key_table::{ApiKey, KeyHandle, KeyTable, find_key},
    roles::{RoleSet, UserRole},
    user_ids::user_id_from_name,
};

/// The prefix of keys, by which people and secret scanners recognize them.
const KEY_PREFIX: &str = "k8sops_";
/// How often the file is read. A change takes effect once two reads agree: a writer may be in the middle of it.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The largest accepted file. An entry has about 150 bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFileEntry {
    user: String,
    roles: Vec<UserRole>,
    sha256: String,
    #[serde(default)]
    #[allow(dead_code, reason = "tells the operator which key this is")]
    name: Option<String>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

/// Authenticates by the keys in force.
pub(super) struct ApiKeyBackend(watch::Receiver<KeyTable>);

impl ApiKeyBackend {
    /// Reads the file and polls it until `cancel`.
    pub(super) fn open(path: &Path, tasks: &TaskTracker, cancel: &CancellationToken) -> Result<Self, KeyFileError> {
        let wrong = |problem: KeyFileProblem| KeyFileError { path: path.to_owned(), problem };
        let text = read_key_file(path).map_err(wrong)?;
        let (table, tables) = watch::channel(parse_key_file(&text).map_err(wrong)?);
        if tables.borrow().is_empty() {
            tracing::warn!(file = %path.display(), "key file lists no keys, all callers are rejected");
        }
        let watching = watch_key_file(path.to_owned(), text, table);
        tasks.spawn(cancel.clone().run_until_cancelled_owned(watching));
        Ok(Self(tables))
    }

    pub(super) fn authenticate(&self, token: &str) -> Result<CallerIdentity, AuthRejection> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let handle = self.find_key(&hash)?;
        Ok(CallerIdentity {
            user: handle.key().user.clone(),
            roles: handle.key().roles,
            user_token: None,
            expiry: CredentialExpiry::Key(handle),
        })
    }

    /// Finds a key in force by its SHA-256.
    pub(super) fn find_key(&self, hash: &[u8; 32]) -> Result<KeyHandle, AuthRejection> {
        let table = self.0.borrow().clone();
        let Some(key) = find_key(&table, hash) else {
            return Err(AuthRejection::Invalid("the key is unknown or was revoked".into()));
        };
        if key.has_expired() {
            return Err(AuthRejection::Invalid("the key has expired".into()));
        }
        Ok(KeyHandle::new(key.clone(), self.0.clone()))
    }
}

/// Polls the file and publishes its keys. Never returns.
async fn watch_key_file(path: PathBuf, text: String, table: watch::Sender<KeyTable>) {
    let mut applied = Ok(text);
    let mut last_read = applied.clone();
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || read_key_file(&file)).await;
        let found = read.unwrap_or_else(|error| Err(KeyFileProblem::Unreadable(Arc::new(io::Error::other(error)))));
        if !is_same_read(&found, &last_read) || is_same_read(&found, &applied) {
            last_read = found;
            continue;
        }
        match found.clone().and_then(|text| parse_key_file(&text)) {
            Ok(keys) => {
                tracing::info!(file = %path.display(), keys = keys.len(), "key file reloaded");
                table.send_replace(keys);
            }
            Err(problem) => {
                let error = ErrorChain(&problem);
                tracing::error!(file = %path.display(), %error, "key file rejected, keeping previous keys");
            }
        }
        applied = found;
    }
}

fn is_same_read(one: &Result<String, KeyFileProblem>, other: &Result<String, KeyFileProblem>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(one), Err(other)) => one.is_same_as(other),
        _ => false,
    }
}

/// Reads the file by its path each time: Kubernetes replaces a mounted Secret by switching a symbolic link.
fn read_key_file(path: &Path) -> Result<String, KeyFileProblem> {
    let unreadable = |error: io::Error| KeyFileProblem::Unreadable(Arc::new(error));
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        return Err(KeyFileProblem::TooLarge { size, limit: MAX_FILE_BYTES });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn parse_key_file(text: &str) -> Result<KeyTable, KeyFileProblem> {
    // An editor may truncate the file for a moment, which must not revoke all keys.
    if text.trim().is_empty() {
        return Err(KeyFileProblem::Empty);
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let entries: Vec<KeyFileEntry> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| KeyFileProblem::Syntax(error.render().replace('\n', " ").trim().to_owned()))?;
    let mut keys: Vec<ApiKey> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let fault = |problem: &'static str| KeyFileProblem::Entry { number: index + 1, problem };
        let hash =
            parse_sha256(&entry.sha256).ok_or_else(|| fault("sha256 must be 64 hexadecimal digits, in quotes"))?;
        if entry.user.trim().is_empty() {
            return Err(fault("user must not be empty"));
        }
        if entry.roles.is_empty() {
            return Err(fault("roles must contain at least one of viewer, user, approver, admin"));
        }
        if keys.iter().any(|key| key.hash == hash) {
            return Err(fault("an earlier entry has the same key"));
        }
        let roles = entry.roles.into_iter().collect();
        keys.push(ApiKey { hash, user: user_id_from_name(entry.user.trim()), roles, expires_at: entry.expires_at });
    }
    Ok(keys.into())
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// A newly generated key.
pub struct NewKey {
    /// The key itself, which is shown once and not stored.
    pub key: String,
    /// Its entry for the key file.
    pub entry: String,
}

impl NewKey {
    /// Generates a key for a user.
    ///
    /// # Errors
    /// The operating system provides no random bytes.
    pub fn generate(user: &str, roles: &[UserRole], name: Option<&str>) -> Result<Self, getrandom::Error> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random)?;
        let key = format!("{KEY_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let hash = HEXLOWER.encode(&Sha256::digest(key.as_bytes()));
        let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let roles: RoleSet = roles.iter().copied().collect();
        let mut entry = format!("- user: {}\n  roles: [{roles}]\n  sha256: \"{hash}\"\n", quoted(user));
        if let Some(name) = name {
            entry.push_str(&format!("  name: {}\n", quoted(name)));
        }
        Ok(Self { key, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_key_matches_its_entry() {
        let new = NewKey::generate("anna: \"a\"", &[UserRole::User, UserRole::Approver], Some("laptop")).unwrap();
        assert!(new.key.starts_with("k8sops_") && new.key.len() == 7 + 43, "{}", new.key);
        assert!(!new.entry.contains(&new.key));
        let other = NewKey::generate("ben", &[UserRole::Viewer], None).unwrap();
        let table = parse_key_file(&format!("{}{}", new.entry, other.entry)).unwrap();
        let keys = ApiKeyBackend(watch::channel(table).1);
        let anna = keys.authenticate(&new.key).unwrap();
        assert_eq!((anna.user, anna.roles.to_string().as_str()), (user_id_from_name("anna: \"a\""), "user, approver"));
        assert_eq!(keys.authenticate(&other.key).unwrap().user.as_str(), "ben");
        for wrong in ["", "k8sops_", &new.key[1..], &new.key.to_lowercase(), &format!("{} ", new.key)] {
            assert!(matches!(keys.authenticate(wrong), Err(AuthRejection::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn invalid_entry_rejects_the_whole_file() {
        let hash = "0".repeat(64);
        let good = format!("- {{user: anna, roles: [user], sha256: '{hash}'}}\n");
        assert_eq!(parse_key_file(&good).unwrap().len(), 1);
        assert_eq!(parse_key_file("[]").unwrap().len(), 0);
        for (bad, why) in [
            (String::new(), "empty"),
            ("  \n".into(), "empty"),
            (format!("{good}{good}"), "entry 2"),
            (good.replace(&hash, "0123"), "sha256"),
            (good.replace(&hash, &"+0".repeat(32)), "sha256"),
            (good.replace("[user]", "[]"), "roles"),
            (good.replace("[user]", "[root]"), "root"),
            (good.replace("anna", "' '"), "user"),
            (good.replace("user: anna", "user: anna, key: x"), "key"),
            ("anna".into(), "seq"),
        ] {
            let found = parse_key_file(&bad).unwrap_err().to_string();
            assert!(found.contains(why), "{bad}: {found}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn identity_expires_with_its_key() {
        let new = NewKey::generate("anna", &[UserRole::User], None).unwrap();
        let (table, tables) = watch::channel(parse_key_file(&new.entry).unwrap());
        let keys = ApiKeyBackend(tables);
        let anna = keys.authenticate(&new.key).unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(3600), anna.expired()).await.is_err());
        table.send_replace(parse_key_file(&new.entry.replace("[user]", "[viewer]")).unwrap());
        anna.expired().await;
        let expired = format!("{}  expires_at: 2020-01-01T00:00:00Z\n", new.entry);
        table.send_replace(parse_key_file(&expired).unwrap());
        let rejection = keys.authenticate(&new.key).unwrap_err();
        assert_eq!(rejection, AuthRejection::Invalid("the key has expired".into()));
        table.send_replace(parse_key_file("[]").unwrap());
        assert!(keys.authenticate(&new.key).is_err());
    }
}
