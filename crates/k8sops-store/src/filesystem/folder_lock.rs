//! The lock by which one process has the folder of a store to itself.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    files::{FileIdentity, private_file, unavailable},
    layout::StoreLayout,
};
use k8sops_core::StoreError;

/// How often a lock file is opened that others replace meanwhile.
const LOCK_ATTEMPTS: usize = 3;

/// How long a check holds for reads that need no file.
const CHECK_TTL: Duration = Duration::from_secs(1);

/// A lock that is held as long as this exists.
#[derive(Debug)]
pub(super) struct FolderLock {
    root: PathBuf,
    path: PathBuf,
    folder: FileIdentity,
    held: Mutex<HeldFile>,
    /// When the lock was checked last and was held. Never locked during file access.
    checked_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct HeldFile {
    identity: FileIdentity,
    /// Keeps other processes out as long as it is open.
    _file: File,
}

impl FolderLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// `InUse` if another process has it; `Unavailable` if the file cannot be created or locked.
    pub(super) fn acquire(layout: &StoreLayout) -> Result<Self, StoreError> {
        let root = layout.root().to_owned();
        let path = layout.lock_file();
        let held = lock_file(&path, &root)?;
        let folder = folder_identity(&root).map_err(|error| unavailable(&root, error))?;
        Ok(Self { root, path, folder, held: Mutex::new(held), checked_at: Mutex::default() })
    }

    /// Checks that the folder is still at its path, and that no other process can have taken it. A lock file that was
    /// removed is created again.
    ///
    /// # Errors
    /// `Unavailable` if the folder is away, or was replaced by another one.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let checked = self.check_now();
        *self.checked_at.lock() = checked.is_ok().then(Instant::now);
        checked
    }

    /// Whether the lock was held a moment ago. Does not block.
    pub(super) fn was_held_lately(&self) -> bool {
        self.checked_at.lock().is_some_and(|at| at.elapsed() < CHECK_TTL)
    }

    fn check_now(&self) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        match FileIdentity::at_path(&self.path) {
            Ok(found) if found == held.identity => return Ok(()),
            Ok(_) => return Err(self.folder_lost("its lock file was replaced, so that another process may use it")),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unavailable(&self.path, error)),
            Err(_) => {}
        }
        match folder_identity(&self.root) {
            Ok(found) if found == self.folder => {}
            Ok(_) => return Err(self.folder_lost("another folder is in its place")),
            Err(error) => return Err(StoreError::unavailable(format!("{} is away", self.root.display()), error)),
        }
        match lock_file(&self.path, &self.root) {
            Ok(locked) => *held = locked,
            Err(StoreError::InUse(_)) => return Err(self.folder_lost("another process has taken it")),
            Err(error) => return Err(error),
        }
        tracing::error!(path = %self.path.display(), "lock file was removed while the store is in use, created again");
        Ok(())
    }

    fn folder_lost(&self, why: &str) -> StoreError {
        let advice = "put the folder back, or stop the other process, and restart this one";
        StoreError::Unavailable(format!("{} cannot be used any more: {why}; {advice}", self.root.display()).into())
    }
}

fn folder_identity(root: &Path) -> io::Result<FileIdentity> {
    std::fs::metadata(root).map(|data| FileIdentity::from_metadata(&data))
}

fn lock_file(path: &Path, root: &Path) -> Result<HeldFile, StoreError> {
    let failed = |error: io::Error| unavailable(path, error);
    let mut attempt = 1;
    loop {
        let file = private_file().create(true).truncate(false).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse(format!(
                    "another process uses {}; stop it, or choose another folder with MEMORY_FILESYSTEM_PATH",
                    root.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // A file that was replaced before it was locked keeps no other process out. Some file systems number an open file
        // otherwise than its path.
        let opened = file.metadata().map(|data| FileIdentity::from_metadata(&data)).map_err(failed)?;
        match FileIdentity::at_path(path) {
            Ok(identity) if identity == opened || attempt == LOCK_ATTEMPTS => {
                return Ok(HeldFile { identity, _file: file });
            }
            Err(error) if attempt == LOCK_ATTEMPTS => return Err(failed(error)),
            _ => attempt += 1,
        }
    }
}
