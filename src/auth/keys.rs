//! Keys that the operator gives out. A file lists them by their hashes, and is looked at again every second, so that a key
//! is given or taken away without a restart.
//!
//! A key is 256 random bits, so that its hash needs no slow function: nobody guesses what has no likely values.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Identity, Lapse, Refusal, Role, Roles, user_id};
use k8sops_core::{Timestamp, UserId};

/// What a key begins with, so that people and scanners of secrets know one.
const PREFIX: &str = "k8sops_";
/// How often the file is looked at. A change holds once it was found twice alike: a writer may be in the middle of it.
const LOOK: Duration = Duration::from_secs(1);
/// The largest file. An entry has about 150 bytes.
const MAX_FILE: u64 = 4 << 20;

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("AUTH_API_KEYS_FILE {}: {why}", .path.display())]
pub struct KeyFileError {
    path: PathBuf,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    user: String,
    roles: Vec<Role>,
    sha256: String,
    /// For people.
    #[serde(default)]
    #[allow(dead_code, reason = "it tells the operator which key this is")]
    name: Option<String>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
struct Key {
    hash: [u8; 32],
    user: UserId,
    roles: Roles,
    expires_at: Option<Timestamp>,
}

impl Key {
    fn is_over(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= Timestamp::now())
    }
}

type Table = Arc<[Key]>;

/// The keys in force.
pub(super) struct Keys(watch::Receiver<Table>);

impl Keys {
    /// Reads the file, and looks at it again until `cancel`.
    pub(super) fn open(path: &Path, tasks: &TaskTracker, cancel: &CancellationToken) -> Result<Self, KeyFileError> {
        let wrong = |why: String| KeyFileError { path: path.to_owned(), why };
        let text = load(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let (table, tables) = watch::channel(parse(&text).map_err(wrong)?);
        if tables.borrow().is_empty() {
            tracing::warn!(file = %path.display(), "the file of keys is an empty list, so that nobody can call");
        }
        let watching = look_again(path.to_owned(), text, table);
        tasks.spawn(cancel.clone().run_until_cancelled_owned(watching));
        Ok(Self(tables))
    }

    pub(super) fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let table = self.0.borrow().clone();
        // All are compared, each in a time that does not tell where they differ.
        let mut found = None;
        for key in table.iter() {
            if bool::from(key.hash.ct_eq(&hash)) {
                found = Some(key);
            }
        }
        let Some(key) = found else {
            return Err(Refusal::Invalid("the key is not known, or was revoked".into()));
        };
        if key.is_over() {
            return Err(Refusal::Invalid("the key has expired".into()));
        }
        let held = Held { key: key.clone(), tables: self.0.clone() };
        Ok(Identity { user: key.user.clone(), roles: key.roles, own_token: None, lapse: Lapse::Key(held) })
    }
}

/// A key that somebody came in with.
#[derive(Debug, Clone)]
pub(super) struct Held {
    key: Key,
    tables: watch::Receiver<Table>,
}

impl Held {
    /// Returns when the key is not in force any more as it was.
    pub(super) async fn lapsed(&self) {
        let expiry = async {
            match self.key.expires_at {
                Some(at) => super::sleep_until(u64::try_from(at.as_millis()).unwrap_or(0).div_ceil(1000)).await,
                None => std::future::pending().await,
            }
        };
        let mut tables = self.tables.clone();
        let revoked = async move {
            // An error: the service stops, and says so itself.
            if tables.wait_for(|table| !table.contains(&self.key)).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = expiry => {}
            () = revoked => {}
        }
    }
}

/// Looks at the file for as long as it is run.
async fn look_again(path: PathBuf, text: String, table: watch::Sender<Table>) {
    let mut judged = Ok(text);
    let mut seen = judged.clone();
    loop {
        tokio::time::sleep(LOOK).await;
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || load(&file).map_err(|error| format!("cannot be read: {error}")));
        let found = read.await.unwrap_or_else(|error| Err(error.to_string()));
        if found != seen || found == judged {
            seen = found;
            continue;
        }
        match found.clone().and_then(|text| parse(&text)) {
            Ok(keys) => {
                tracing::info!(file = %path.display(), keys = keys.len(), "the file of keys has changed");
                table.send_replace(keys);
            }
            Err(why) => {
                tracing::error!(file = %path.display(), %why, "the file of keys is broken; those of before are in force");
            }
        }
        judged = found;
    }
}

/// What the file says; followed anew each time, since a Secret in Kubernetes is swapped by a symbolic link.
fn load(path: &Path) -> io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_FILE {
        return Err(io::Error::other(format!("it has {size} bytes, and may have {MAX_FILE}")));
    }
    std::fs::read_to_string(path)
}

fn parse(text: &str) -> Result<Table, String> {
    // What an editor leaves for a moment must not lock everybody out; who means it writes `[]`.
    if text.trim().is_empty() {
        return Err("it is empty; a list without keys is written []".into());
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let entries: Vec<Entry> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| error.render().replace('\n', " ").trim().to_owned())?;
    let mut keys: Vec<Key> = Vec::with_capacity(entries.len());
    for (at, entry) in entries.into_iter().enumerate() {
        let place = at + 1;
        let hash = unhex(&entry.sha256)
            .ok_or_else(|| format!("entry {place}: sha256 must be 64 hexadecimal digits, in quotes"))?;
        if entry.user.trim().is_empty() {
            return Err(format!("entry {place}: user must not be empty"));
        }
        if entry.roles.is_empty() {
            return Err(format!("entry {place}: roles must name some of viewer, user, approver, admin"));
        }
        if keys.iter().any(|key| key.hash == hash) {
            return Err(format!("entry {place}: the same key stands above already"));
        }
        let roles = entry.roles.into_iter().collect();
        keys.push(Key { hash, user: user_id(entry.user.trim()), roles, expires_at: entry.expires_at });
    }
    Ok(keys.into())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2).filter(|two| !two.starts_with('+'))?, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

/// A key that was made.
pub struct NewKey {
    /// The key itself: shown once, kept nowhere.
    pub key: String,
    /// Its entry for the file.
    pub entry: String,
}

impl NewKey {
    /// A new key for a user.
    ///
    /// # Errors
    /// The machine gives no random bytes.
    pub fn generate(user: &str, roles: &[Role], name: Option<&str>) -> Result<Self, getrandom::Error> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random)?;
        let key = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let hash = hex(&Sha256::digest(key.as_bytes()));
        let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let roles: Roles = roles.iter().copied().collect();
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
    fn a_new_key_is_known_by_its_entry_and_no_other_is() {
        let new = NewKey::generate("anna: \"a\"", &[Role::User, Role::Approver], Some("laptop")).unwrap();
        assert!(new.key.starts_with("k8sops_") && new.key.len() == 7 + 43, "{}", new.key);
        assert!(!new.entry.contains(&new.key));
        let other = NewKey::generate("ben", &[Role::Viewer], None).unwrap();
        let table = parse(&format!("{}{}", new.entry, other.entry)).unwrap();
        let keys = Keys(watch::channel(table).1);
        let anna = keys.identify(&new.key).unwrap();
        assert_eq!((anna.user, anna.roles.to_string().as_str()), (user_id("anna: \"a\""), "user, approver"));
        assert_eq!(keys.identify(&other.key).unwrap().user.as_str(), "ben");
        for wrong in ["", "k8sops_", &new.key[1..], &new.key.to_lowercase(), &format!("{} ", new.key)] {
            assert!(matches!(keys.identify(wrong), Err(Refusal::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn an_entry_that_is_not_right_is_named_and_nothing_of_the_file_is_taken() {
        let hash = "0".repeat(64);
        let good = format!("- {{user: anna, roles: [user], sha256: '{hash}'}}\n");
        assert_eq!(parse(&good).unwrap().len(), 1);
        assert_eq!(parse("[]").unwrap().len(), 0);
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
            let found = parse(&bad).unwrap_err();
            assert!(found.contains(why), "{bad}: {found}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_expires_or_is_changed_lapses() {
        let new = NewKey::generate("anna", &[Role::User], None).unwrap();
        let (table, tables) = watch::channel(parse(&new.entry).unwrap());
        let keys = Keys(tables);
        let anna = keys.identify(&new.key).unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(3600), anna.lapse()).await.is_err());
        table.send_replace(parse(&new.entry.replace("[user]", "[viewer]")).unwrap());
        anna.lapse().await;
        let expired = format!("{}  expires_at: 2020-01-01T00:00:00Z\n", new.entry);
        table.send_replace(parse(&expired).unwrap());
        assert_eq!(keys.identify(&new.key).unwrap_err(), Refusal::Invalid("the key has expired".into()));
        table.send_replace(parse("[]").unwrap());
        assert!(keys.identify(&new.key).is_err());
    }
}
