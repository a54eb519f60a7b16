//! What users use: one file per user and day, with the usage of each session. The files are written without waiting for the
//! disk: the session's next reply repeats what a power failure loses.

use std::{collections::BTreeMap, fs, io, path::Path};

use parking_lot::Mutex;

use super::{
    files::{Durability, create_private_folder, if_exists, replace_file, unavailable},
    layout::StoreLayout,
};
use k8sops_core::{
    DailyUsage, ModelUsage, SessionId, StoreError, USAGE_RETENTION_DAYS, UsageDay, UserDailyUsage, UserId,
};

/// The content of a file: the usage of each session.
type SessionUsage = BTreeMap<SessionId, Vec<ModelUsage>>;

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
        // A damaged file must not prevent all later records of the day.
        let mut sessions = read_usage_file(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "usage of a day cannot be read, starting a new file");
            SessionUsage::new()
        });
        sessions.insert(session, usage.models.clone());
        if let Some(folder) = path.parent() {
            create_private_folder(folder).map_err(failed)?;
        }
        let bytes = serde_json::to_vec(&sessions).map_err(|error| StoreError::corrupt("usage of a day", error))?;
        replace_file(&path, &bytes, Durability::Unsynced).map_err(failed)
    }

    /// A user's usage on a day.
    pub(super) fn read_usage(&self, user: &UserId, day: UsageDay) -> Result<UserDailyUsage, StoreError> {
        let sessions = read_usage_file(&self.layout.usage_file(user, day))?;
        Ok(UserDailyUsage { sessions, ..UserDailyUsage::default() })
    }

    /// Deletes files that are older than the retention time.
    pub(super) fn delete_expired_files(&self) -> Result<(), StoreError> {
        let folder = self.layout.usage();
        delete_expired_files(&folder).map_err(|error| unavailable(&folder, error))
    }
}

fn delete_expired_files(folder: &Path) -> io::Result<()> {
    let expired = UsageDay::today().add_days(-USAGE_RETENTION_DAYS);
    let Some(users) = if_exists(fs::read_dir(folder))? else { return Ok(()) };
    for user in users {
        for file in fs::read_dir(user?.path())? {
            let path = file?.path();
            let day = path.file_stem().and_then(|name| name.to_str()?.parse::<UsageDay>().ok());
            if day.is_some_and(|day| day <= expired) {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

fn read_usage_file(path: &Path) -> Result<SessionUsage, StoreError> {
    match if_exists(fs::read(path)).map_err(|error| unavailable(path, error))? {
        None => Ok(SessionUsage::new()),
        Some(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| StoreError::corrupt(path.display().to_string(), error))
        }
    }
}
