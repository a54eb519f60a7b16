//! The check of the store.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use super::{Check, Line, report::Finding};
use k8sops_core::SessionStore;
use k8sops_store::{RedisOptions, StoreBackend, StoreOptions};

/// Less free disk than this is worth a word.
const LOW_DISK: u64 = 1 << 30;

/// How opening the store went.
pub enum Opened {
    /// It is open.
    Store(Arc<dyn SessionStore>),
    /// Another process has it, most likely the service itself; with its words.
    InUse(String),
    /// It could not be opened.
    Failed(String),
}

/// The store.
pub struct StoreCheck {
    /// Its options.
    pub config: StoreOptions,
    /// Where Redis is.
    pub redis: RedisOptions,
    /// What opening it gave.
    pub opened: Opened,
}

#[async_trait]
impl Check for StoreCheck {
    fn what(&self) -> String {
        match self.config.backend {
            StoreBackend::Memory => "store memory".to_owned(),
            StoreBackend::Filesystem => "store filesystem".to_owned(),
            StoreBackend::Redis => "store redis".to_owned(),
        }
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        let what = self.what();
        if self.config.backend == StoreBackend::Memory {
            return vec![Line::note(
                what,
                "sessions are lost when the process ends; MEMORY_BACKEND=filesystem keeps them",
            )];
        }
        if self.config.backend == StoreBackend::Redis {
            return vec![self.redis().await];
        }
        let path = &self.config.path;
        let place = path.display().to_string();
        let advice = StoreOptions::PATH_ADVICE;
        let line = match &self.opened {
            Opened::Failed(error) => return vec![Line::fail(what, format!("{place}: {error}"), advice)],
            Opened::InUse(words) => Line::note(&what, format!("{words}; if that is the service, all is well")),
            Opened::Store(store) => {
                if let Err(error) = store.ping().await {
                    return vec![Line::fail(what, format!("{place}: {error}"), advice)];
                }
                if let Err(error) = writable(path) {
                    return vec![Line::fail(what, format!("{place} cannot be written to: {error}"), advice)];
                }
                Line::ok(&what, format!("{place} can be written to"))
            }
        };
        let mut lines = match free_disk(path) {
            Some(free) if free < LOW_DISK => {
                let found = format!("only {} MiB are free at {place}", free >> 20);
                vec![line, Line::note(what, format!("{found}; make room, or set MEMORY_SHALLOW=true or MAX_SESSIONS"))]
            }
            Some(free) => {
                let free = format!("{} GiB free", free >> 30);
                let Line { what, finding } = line;
                vec![match finding {
                    Finding::Ok(fact) => Line::ok(what, format!("{fact}, {free}")),
                    finding => Line { what, finding },
                }]
            }
            None => vec![line],
        };
        if let Opened::Store(store) = &self.opened {
            lines.extend(damaged(store.as_ref(), &self.what()).await);
        }
        lines
    }
}

/// A line for each session that cannot be read.
async fn damaged(store: &dyn SessionStore, what: &str) -> Vec<Line> {
    match store.damaged().await {
        Ok(damaged) => {
            let line = |(session, found)| {
                let advice = format!("repair it there, or delete the session (DELETE /v1/sessions/{session})");
                Line::fail(what, format!("session {session}: {found}"), advice)
            };
            damaged.into_iter().map(line).collect()
        }
        Err(error) => vec![Line::fail(what, error.to_string(), StoreOptions::PATH_ADVICE)],
    }
}

impl StoreCheck {
    async fn redis(&self) -> Line {
        let what = self.what();
        let place = self.redis.masked_urls();
        let advice = "start Redis there, or set REDIS_URL, REDIS_TOPOLOGY and, for TLS, REDIS_CA_FILE";
        let answered = match &self.opened {
            Opened::Store(store) => store.ping().await.map_err(|error| error.to_string()),
            Opened::Failed(error) | Opened::InUse(error) => Err(error.clone()),
        };
        match answered {
            Ok(()) => Line::ok(what, format!("{place} answers and can be written to")),
            Err(error) => Line::fail(what, format!("{place}: {error}"), advice),
        }
    }
}

/// Whether a file can be made in a folder; leaves none behind.
fn writable(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".doctor-{}", uuid::Uuid::now_v7()));
    std::fs::write(&probe, b"k8sops doctor\n")?;
    std::fs::remove_file(&probe)
}

/// The bytes that this user may still write at a path.
#[cfg(unix)]
fn free_disk(path: &Path) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(path).ok()?;
    // The types differ between systems.
    #[allow(clippy::useless_conversion)]
    u64::from(disk.blocks_available()).checked_mul(u64::from(disk.fragment_size()))
}

#[cfg(not(unix))]
fn free_disk(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::tests::config;

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_is_a_fault_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = config(&[]).config;
        let redis = loaded.redis;
        let mut config = loaded.store;
        config.path = folder.path().to_owned();
        let report = |opened| Box::new(StoreCheck { config: config.clone(), redis: redis.clone(), opened }).run();
        let failed = report(Opened::Failed("permission denied".into())).await;
        assert!(failed[0].render().starts_with("FAIL  store filesystem: "), "{failed:?}");
        let used = report(Opened::InUse("process 7 has it".into())).await;
        assert!(used[0].render().contains("note  store filesystem: process 7 has it"), "{used:?}");
        assert!(writable(folder.path()).is_ok() && writable(&folder.path().join("none")).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the probe is gone");
        assert!(free_disk(folder.path()).is_some());
    }
}
