//! The check of the store.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use super::report::{CheckFinding, HealthCheck, ReportLine};
use k8sops_core::{DamagedSession, SessionIndex, SessionStore, StoreError, StoreOutage};
use k8sops_store::{RedisOptions, StoreBackend, StoreOptions, probe_write_access};

/// Less free disk space than this is reported.
const LOW_DISK_BYTES: u64 = 1 << 30;

/// The result of opening the store.
pub(super) enum StoreOpening {
    /// The store is open.
    Opened(Arc<dyn SessionStore>),
    /// Another process uses the store, most likely the service itself; with the message that names it.
    InUse(String),
    /// The store cannot be opened.
    Failed(StoreError),
}

/// Checks the store.
pub(super) struct StoreCheck {
    pub(super) config: StoreOptions,
    pub(super) redis: RedisOptions,
    pub(super) opening: StoreOpening,
}

#[async_trait]
impl HealthCheck for StoreCheck {
    fn subject(&self) -> String {
        match self.config.backend {
            StoreBackend::Memory => "store memory".to_owned(),
            StoreBackend::Filesystem => "store filesystem".to_owned(),
            StoreBackend::Redis => "store redis".to_owned(),
        }
    }

    async fn run(self: Box<Self>) -> Vec<ReportLine> {
        match self.config.backend {
            StoreBackend::Memory => {
                let found = "sessions are lost when the process ends; MEMORY_BACKEND=filesystem keeps them";
                vec![ReportLine::notice(self.subject(), found)]
            }
            StoreBackend::Filesystem => self.check_filesystem().await,
            StoreBackend::Redis => self.check_redis().await,
        }
    }
}

impl StoreCheck {
    async fn check_filesystem(&self) -> Vec<ReportLine> {
        let subject = self.subject();
        let path = &self.config.path;
        let location = path.display().to_string();
        let failed = |found: String| {
            vec![ReportLine::failed(&subject, format!("{location}: {found}"), StoreOptions::PATH_ADVICE)]
        };
        let unusable = |error: &StoreError| match error.outage() {
            Some(StoreOutage::Full) => {
                let advice = "free disk space, or raise the quota";
                vec![ReportLine::failed(&subject, format!("{location}: {error}"), advice)]
            }
            _ => failed(error.to_string()),
        };
        let line = match &self.opening {
            StoreOpening::Failed(error) => return unusable(error),
            // The disk can be full while the service runs.
            StoreOpening::InUse(owner) => match probe_write_access(path) {
                Err(error) => return failed(format!("not writable: {error}")),
                Ok(()) => ReportLine::notice(&subject, format!("{owner}; this is expected while the service runs")),
            },
            StoreOpening::Opened(store) => {
                if let Err(error) = store.ping().await {
                    return unusable(&error);
                }
                ReportLine::passed(&subject, format!("{location} is writable"))
            }
        };
        let mut lines = match free_disk_bytes(path) {
            Some(free) if free < LOW_DISK_BYTES => {
                let found = format!("only {} MiB are free at {location}", free >> 20);
                let advice = "free disk space, or set MEMORY_SHALLOW=true or MAX_SESSIONS";
                vec![line, ReportLine::notice(&subject, format!("{found}; {advice}"))]
            }
            Some(free) => {
                let ReportLine { subject, finding } = line;
                vec![match finding {
                    CheckFinding::Ok(fact) => ReportLine::passed(subject, format!("{fact}, {} GiB free", free >> 30)),
                    finding => ReportLine { subject, finding },
                }]
            }
            None => vec![line],
        };
        if let StoreOpening::Opened(store) = &self.opening {
            lines.extend(damaged_session_lines(store.as_ref(), &subject).await);
        }
        lines
    }

    async fn check_redis(&self) -> Vec<ReportLine> {
        let subject = self.subject();
        let location = self.redis.masked_urls();
        let error = match &self.opening {
            StoreOpening::Opened(store) => match store.ping().await {
                Ok(()) => {
                    let mut lines = vec![ReportLine::passed(&subject, format!("{location} answers and is writable"))];
                    lines.extend(store.describe_setup().await.into_iter().map(|n| ReportLine::notice(&subject, n)));
                    return lines;
                }
                Err(error) => error,
            },
            StoreOpening::Failed(error) => error.clone(),
            StoreOpening::InUse(owner) => StoreError::InUse(owner.clone()),
        };
        let advice = redis_advice(error.outage().unwrap_or_default());
        vec![ReportLine::failed(subject, format!("{location}: {error}"), advice)]
    }
}

/// Returns a line for each session that cannot be read.
/// What to do about a Redis that does not do what it is asked.
fn redis_advice(outage: StoreOutage) -> &'static str {
    match outage {
        StoreOutage::Unreachable => "start Redis there, or set REDIS_URL, REDIS_TOPOLOGY and, for TLS, REDIS_CA_FILE",
        StoreOutage::Full => "raise its maxmemory, or set REDIS_SESSION_TTL, MEMORY_SHALLOW=true or MAX_SESSIONS",
        StoreOutage::ReadOnly => "set REDIS_URL to the master, or REDIS_TOPOLOGY to sentinel or cluster",
        StoreOutage::Loading => "wait until it has read its data",
        StoreOutage::AccessDenied => "correct the user and password in REDIS_URL, or give the user this right",
        StoreOutage::NotPersisting => {
            "look at the disk of Redis and its log (rdb_last_bgsave_status, aof_last_write_status)"
        }
        StoreOutage::Unconfirmed => "look at the replicas and the disk of Redis, or set REDIS_CONFIRM",
        StoreOutage::Misconfigured => "set it up as it says",
    }
}

async fn damaged_session_lines(store: &dyn SessionIndex, subject: &str) -> Vec<ReportLine> {
    match store.list_damaged_sessions().await {
        Ok(damaged) => {
            let line = |DamagedSession { session_id: session, error: found }| {
                let advice = format!("repair it there, or delete the session (DELETE /v1/sessions/{session})");
                ReportLine::failed(subject, format!("session {session}: {found}"), advice)
            };
            damaged.into_iter().map(line).collect()
        }
        Err(error) => vec![ReportLine::failed(subject, error.to_string(), StoreOptions::PATH_ADVICE)],
    }
}

/// Returns the number of bytes that this user can still write at a path.
#[cfg(unix)]
fn free_disk_bytes(path: &Path) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(path).ok()?;
    // The types of these counts differ between systems.
    #[allow(clippy::useless_conversion)]
    u64::from(disk.blocks_available()).checked_mul(u64::from(disk.fragment_size()))
}

#[cfg(not(unix))]
fn free_disk_bytes(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::{super::testing::load_config, *};

    #[tokio::test]
    async fn unusable_folder_fails_and_a_folder_in_use_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = load_config(&[]).config;
        let redis = loaded.redis;
        let mut config = loaded.store;
        config.path = folder.path().to_owned();
        let report = |opening| Box::new(StoreCheck { config: config.clone(), redis: redis.clone(), opening }).run();
        let failed = report(StoreOpening::Failed(StoreError::Unavailable("permission denied".into()))).await;
        assert!(failed[0].render().starts_with("FAIL  store filesystem: "), "{failed:?}");
        let in_use = report(StoreOpening::InUse("process 7 has it".into())).await;
        assert!(in_use[0].render().contains("note  store filesystem: process 7 has it"), "{in_use:?}");
        assert!(probe_write_access(folder.path()).is_ok());
        assert!(probe_write_access(&folder.path().join("none")).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the probe is removed");
        assert!(free_disk_bytes(folder.path()).is_some());
    }
}
