//! What users use, by day. A record is a line that is appended to the notes of the day; some time later the notes are folded
//! into the file of the day, which has the usage of each session once. Neither waits for the disk: the session's next reply
//! repeats what a power failure loses.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    files::{Durability, FileStamp, if_exists, replace_file, unavailable},
    layout::StoreLayout,
    line_format::{LineError, seal_record, verify_record},
    usage_notes::UsageNotes,
    usage_record::{SessionUsage, UnusableUsage},
    work_queue::wait_in_work,
};
use k8sops_core::{DailyUsage, SessionId, StoreError, USAGE_RETENTION_DAYS, UsageDay, UserDailyUsage, UserId};

/// How many days of users are cached; those of others are read from the disk when they are needed.
const CACHED_DAYS: usize = 256;
/// Notes are folded when there are so many more than sessions.
const FOLD_ALLOWANCE: usize = 256;

/// The content of a day's file. In format 1 it is the map of the sessions alone.
#[derive(Serialize, Deserialize)]
struct UsageRecord {
    sessions: SessionUsage,
}

/// What happens to a file of usage that is damaged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnDamage {
    /// It stays, and its usage cannot be read.
    Fail,
    /// It is moved aside, so that it does not prevent all later records of the day.
    MoveAside,
}

/// The files of usage, and a cache of those that are written to. All methods block.
#[derive(Debug)]
pub(super) struct UsageFiles {
    layout: StoreLayout,
    // The outer lock is held for a look-up, that of a day during file access; none across an await.
    days: Mutex<HashMap<(UserId, UsageDay), CachedDay>>,
}

/// The files of a day; `None` if they have to be read.
type CachedDay = Arc<Mutex<Option<DayFiles>>>;

/// The files of a user's day, as they were when they were read or written last.
#[derive(Debug)]
struct DayFiles {
    path: PathBuf,
    /// The file of the day, if it exists.
    stamp: Option<FileStamp>,
    notes: UsageNotes,
    /// What both say.
    sessions: SessionUsage,
}

impl UsageFiles {
    pub(super) fn new(layout: StoreLayout) -> Self {
        Self { layout, days: Mutex::default() }
    }

    /// See [`UsageStore::record_usage`](k8sops_core::UsageStore::record_usage).
    pub(super) fn record_usage(&self, user: &UserId, session: SessionId, usage: &DailyUsage) -> Result<(), StoreError> {
        let cached = self.cached_day(user, usage.day);
        let mut cached = cached.try_lock().unwrap_or_else(|| wait_in_work(|| cached.lock()));
        // If the record fails, the files are read again the next time.
        let mut day = match cached.take().filter(DayFiles::is_current) {
            Some(day) => day,
            None => wait_in_work(|| DayFiles::read(&self.layout, user, usage.day, OnDamage::MoveAside))?,
        };
        day.notes.append(session, &usage.models)?;
        day.sessions.insert(session, usage.models.clone());
        if day.notes.count() > 2 * day.sessions.len() + FOLD_ALLOWANCE {
            day.fold()?;
        }
        *cached = Some(day);
        Ok(())
    }

    /// A user's usage on a day.
    pub(super) fn read_usage(&self, user: &UserId, day: UsageDay) -> Result<UserDailyUsage, StoreError> {
        let cached = self.days.lock().get(&(user.clone(), day)).cloned();
        if let Some(cached) = cached
            && let Some(known) = &*cached.lock()
            && known.is_current()
        {
            return Ok(UserDailyUsage { sessions: known.sessions.clone(), ..UserDailyUsage::default() });
        }
        let read = DayFiles::read(&self.layout, user, day, OnDamage::Fail)?;
        Ok(UserDailyUsage { sessions: read.sessions, ..UserDailyUsage::default() })
    }

    fn cached_day(&self, user: &UserId, day: UsageDay) -> CachedDay {
        let mut days = self.days.lock();
        let key = (user.clone(), day);
        if days.len() >= CACHED_DAYS && !days.contains_key(&key) {
            // Keeps those that are in use.
            days.retain(|_, cached| Arc::strong_count(cached) > 1);
        }
        days.entry(key).or_default().clone()
    }

    /// Deletes files that are older than the retention time, and folds the notes of the others.
    pub(super) fn tidy_up(&self) {
        let expired = UsageDay::today().add_days(-USAGE_RETENTION_DAYS);
        let folder = self.layout.usage();
        if let Err(error) = self.tidy_up_until(&folder, expired) {
            tracing::warn!(path = %folder.display(), %error, "old usage cannot be deleted");
        }
    }

    fn tidy_up_until(&self, folder: &Path, expired: UsageDay) -> io::Result<()> {
        let Some(users) = if_exists(fs::read_dir(folder))? else { return Ok(()) };
        for user in users {
            let user = user?;
            let Some(files) = if_exists(fs::read_dir(user.path()))? else { continue };
            for file in files {
                let path = file?.path();
                let day = path.file_stem().and_then(|name| name.to_str()?.get(..10)?.parse::<UsageDay>().ok());
                if day.is_some_and(|day| day <= expired) {
                    fs::remove_file(path)?;
                } else if let Some(day) = day
                    && let Some(user) = user.file_name().to_str().and_then(|name| name.parse::<UserId>().ok())
                    && path == self.layout.usage_notes_file(&user, day)
                {
                    let read = DayFiles::read(&self.layout, &user, day, OnDamage::Fail);
                    if let Err(error) = read.and_then(|mut day| day.fold()) {
                        tracing::warn!(path = %path.display(), %error, "notes of usage cannot be folded, they are kept");
                    }
                }
            }
        }
        Ok(())
    }
}

impl DayFiles {
    fn read(layout: &StoreLayout, user: &UserId, day: UsageDay, on_damage: OnDamage) -> Result<Self, StoreError> {
        let path = layout.usage_file(user, day);
        let mut sessions = unless_damaged(&path, on_damage, read_usage_file)?;
        let notes = unless_damaged(&layout.usage_notes_file(user, day), on_damage, |path| {
            UsageNotes::read(path, &mut sessions)
        })?;
        let stamp = FileStamp::at_path(&path).map_err(|error| unavailable(&path, error))?;
        Ok(Self { path, stamp, notes, sessions })
    }

    /// Whether the files are those that were read or written last. An operator may have restored them.
    fn is_current(&self) -> bool {
        FileStamp::at_path(&self.path).is_ok_and(|stamp| stamp == self.stamp) && self.notes.is_current()
    }

    /// Writes the usage of all sessions to the file of the day, and removes the notes.
    fn fold(&mut self) -> Result<(), StoreError> {
        let failed = |error: io::Error| unavailable(&self.path, error);
        let record = serde_json::to_vec(&UsageRecord { sessions: self.sessions.clone() });
        let bytes = record.and_then(seal_record).map_err(|error| failed(error.into()))?;
        // On the disk before the notes are removed.
        replace_file(&self.path, &bytes, Durability::Synced).map_err(failed)?;
        self.stamp = FileStamp::at_path(&self.path).map_err(failed)?;
        self.notes.remove()
    }
}

/// Reads a file. If it is damaged and is to be moved aside, reads what is left in its place: nothing.
fn unless_damaged<T>(
    path: &Path,
    on_damage: OnDamage,
    mut read: impl FnMut(&Path) -> Result<T, UnusableUsage>,
) -> Result<T, StoreError> {
    match read(path) {
        Err(UnusableUsage::Damaged(error)) if on_damage == OnDamage::MoveAside => {
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            let aside = path.with_extension(format!("damaged.{extension}"));
            tracing::error!(%error, moved_to = %aside.display(), "usage of a day is damaged, starting a new file");
            fs::rename(path, &aside).map_err(|error| unavailable(path, error))?;
            Ok(read(path)?)
        }
        read => Ok(read?),
    }
}

fn read_usage_file(path: &Path) -> Result<SessionUsage, UnusableUsage> {
    let bytes = if_exists(fs::read(path)).map_err(|error| UnusableUsage::Kept(unavailable(path, error)))?;
    let Some(bytes) = bytes else { return Ok(SessionUsage::new()) };
    let unusable = |error: LineError| UnusableUsage::from_line_error(path, &bytes, error);
    verify_record(&bytes).map_err(unusable)?;
    let record = serde_json::from_slice::<UsageRecord>(&bytes).map(|record| record.sessions);
    record.or_else(|error| serde_json::from_slice(&bytes).map_err(|_| unusable(error.into())))
}
