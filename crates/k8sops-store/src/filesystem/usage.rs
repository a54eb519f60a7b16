//! What users use: `ROOT/usage/USER_ID/DAY.json`, each with what the user's sessions used on that day. Written beside and
//! renamed, without waiting for the disk: what a power cut takes is noted again with the session's next reply.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::PoisonError,
};

use async_trait::async_trait;

use super::{FilesystemStore, Shared, blocking, log_file::unavailable};
use k8sops_core::{
    DailyUsage, ModelUsage, SessionId, StoreError, USAGE_RETENTION_DAYS, UsageDay, UsageStore, UserDailyUsage, UserId,
};

impl Shared {
    fn usage_file(&self, user: &UserId, day: UsageDay) -> PathBuf {
        self.root.join("usage").join(user.to_string()).join(format!("{day}.json"))
    }

    fn note_usage_of(&self, user: &UserId, session: SessionId, spent: &DailyUsage) -> Result<(), StoreError> {
        // One at a time: a note is read, changed and written.
        let _one = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.usage_file(user, spent.day);
        let failed = |error: io::Error| unavailable(&path, error);
        // A file that cannot be read is begun anew rather than keeping all later notes from being made.
        let mut sessions = read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "what was used on this day cannot be read, and begins anew");
            BTreeMap::new()
        });
        sessions.insert(session, spent.models.clone());
        if let Some(folder) = path.parent()
            && !folder.exists()
        {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let new = path.with_extension("new");
        let text = serde_json::to_vec(&sessions).map_err(|error| StoreError::corrupt("usage of a day", error))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&new).and_then(|mut file| file.write_all(&text)).map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)
    }
}

fn read(path: &Path) -> Result<BTreeMap<SessionId, Vec<ModelUsage>>, StoreError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(unavailable(path, error)),
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|error| StoreError::corrupt(path.display().to_string(), error))
        }
    }
}

/// Clears away what is older than is kept.
pub(super) fn clear_old(root: &Path) -> io::Result<()> {
    let oldest = UsageDay::today().add_days(-USAGE_RETENTION_DAYS);
    let users = match fs::read_dir(root.join("usage")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        users => users?,
    };
    for user in users {
        for file in fs::read_dir(user?.path())? {
            let path = file?.path();
            let day = path.file_stem().and_then(|name| name.to_str()?.parse::<UsageDay>().ok());
            if day.is_some_and(|day| day <= oldest) {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

#[async_trait]
impl UsageStore for FilesystemStore {
    async fn record_usage(&self, user: &UserId, session: SessionId, spent: &DailyUsage) -> Result<(), StoreError> {
        let (shared, user, spent) = (self.0.clone(), user.clone(), spent.clone());
        blocking(move || shared.note_usage_of(&user, session, &spent)).await
    }

    async fn read_usage(&self, user: &UserId, days: &[UsageDay]) -> Result<Vec<UserDailyUsage>, StoreError> {
        let (shared, user, days) = (self.0.clone(), user.clone(), days.to_vec());
        blocking(move || {
            days.iter()
                .map(|day| {
                    Ok(UserDailyUsage { sessions: read(&shared.usage_file(&user, *day))?, ..UserDailyUsage::default() })
                })
                .collect()
        })
        .await
    }
}
