//! What users use: one file per user and day, with the usage of each session. The files are written without waiting for the
//! disk: the session's next reply repeats what a power failure loses.

use std::{collections::BTreeMap, fs, io, path::Path};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    files::{Durability, create_private_folder, if_exists, replace_file, unavailable},
    layout::StoreLayout,
    line_damage::damaged_record,
    line_format::{LineError, named_format, seal_record, verify_record},
};
use k8sops_core::{
    DailyUsage, ModelUsage, SessionId, StoreError, USAGE_RETENTION_DAYS, UsageDay, UserDailyUsage, UserId,
};

/// The usage of each session.
type SessionUsage = BTreeMap<SessionId, Vec<ModelUsage>>;

/// The content of a file. In format 1 it is the map of the sessions alone.
#[derive(Serialize, Deserialize)]
struct UsageRecord {
    sessions: SessionUsage,
}

/// Why a file cannot be used.
enum UnusableUsage {
    /// It is kept for its repair, and another one is started.
    Damaged(StoreError),
    /// A later version wrote it, or it cannot be read now: it stays where it is.
    Kept(StoreError),
}

impl From<UnusableUsage> for StoreError {
    fn from((UnusableUsage::Damaged(error) | UnusableUsage::Kept(error)): UnusableUsage) -> Self {
        error
    }
}

/// The files of usage. All methods block.
#[derive(Debug)]
pub(super) struct UsageFiles {
    layout: StoreLayout,
    /// Held while a file is read, changed and written.
    write_lock: Mutex<()>,
}

impl UsageFiles {
    pub(super) fn new(layout: StoreLayout) -> Self {
        Self { layout, write_lock: Mutex::default() }
    }

    /// See [`UsageStore::record_usage`](k8sops_core::UsageStore::record_usage).
    pub(super) fn record_usage(&self, user: &UserId, session: SessionId, usage: &DailyUsage) -> Result<(), StoreError> {
        let _guard = self.write_lock.lock();
        let path = self.layout.usage_file(user, usage.day);
        let failed = |error: io::Error| unavailable(&path, error);
        let mut sessions = match read_usage_file(&path) {
            // A damaged file is kept for its repair, and must not prevent all later records of the day.
            Err(UnusableUsage::Damaged(error)) => {
                let aside = path.with_extension("damaged.json");
                tracing::error!(%error, moved_to = %aside.display(), "usage of a day is damaged, starting a new file");
                fs::rename(&path, &aside).map_err(failed)?;
                SessionUsage::new()
            }
            read => read?,
        };
        sessions.insert(session, usage.models.clone());
        if let Some(folder) = path.parent() {
            create_private_folder(folder).map_err(failed)?;
        }
        let record = serde_json::to_vec(&UsageRecord { sessions });
        let bytes = record.and_then(seal_record).map_err(|error| failed(error.into()))?;
        replace_file(&path, &bytes, Durability::Unsynced).map_err(failed)
    }

    /// A user's usage on a day.
    pub(super) fn read_usage(&self, user: &UserId, day: UsageDay) -> Result<UserDailyUsage, StoreError> {
        let sessions = read_usage_file(&self.layout.usage_file(user, day))?;
        Ok(UserDailyUsage { sessions, ..UserDailyUsage::default() })
    }

    /// Deletes files that are older than the retention time.
    pub(super) fn delete_expired_files(&self) {
        let expired = UsageDay::today().add_days(-USAGE_RETENTION_DAYS);
        let folder = self.layout.usage();
        if let Err(error) = delete_files_until(&folder, expired) {
            tracing::warn!(path = %folder.display(), %error, "old usage cannot be deleted");
        }
    }
}

fn delete_files_until(folder: &Path, expired: UsageDay) -> io::Result<()> {
    let Some(users) = if_exists(fs::read_dir(folder))? else { return Ok(()) };
    for user in users {
        let Some(files) = if_exists(fs::read_dir(user?.path()))? else { continue };
        for file in files {
            let path = file?.path();
            let day = path.file_stem().and_then(|name| name.to_str()?.get(..10)?.parse::<UsageDay>().ok());
            if day.is_some_and(|day| day <= expired) {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

fn read_usage_file(path: &Path) -> Result<SessionUsage, UnusableUsage> {
    let bytes = if_exists(fs::read(path)).map_err(|error| UnusableUsage::Kept(unavailable(path, error)))?;
    let Some(bytes) = bytes else { return Ok(SessionUsage::new()) };
    let unusable = |error: LineError| {
        let is_newer = matches!(error, LineError::NewerFormat { .. });
        let error = damaged_record(path, named_format(&bytes).as_ref(), error);
        if is_newer { UnusableUsage::Kept(error) } else { UnusableUsage::Damaged(error) }
    };
    verify_record(&bytes).map_err(unusable)?;
    let record = serde_json::from_slice::<UsageRecord>(&bytes).map(|record| record.sessions);
    record.or_else(|error| serde_json::from_slice(&bytes).map_err(|_| unusable(error.into())))
}
