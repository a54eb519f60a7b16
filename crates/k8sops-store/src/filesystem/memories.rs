//! Memories: `ROOT/memories/USER_ID/MEMORY_ID.json`. A memory is on the disk before it is acknowledged.

#![allow(clippy::similar_names, reason = "a shelf is not taken for self")]

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use super::{FilesystemStore, Shared, blocking, log_file::unavailable, sync_folder_of};
use crate::{
    memories,
    memories::{Shelf, read, written},
};
use k8sops_core::{
    EmbeddingVector, MemoryChange, MemoryId, MemoryStore, MemoryVersion, MemoryWrite, StoreError, UserId, UserMemories,
};

/// The most users whose memories are held; those of others are read from the disk when they are wanted.
const MOST_KNOWN: usize = 64;

/// What was read of users. One process has the folder to itself, so that it is true until that one writes. Plain mutexes,
/// never held across an await: the outer for a look-up, that of a user across file access.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<UserId, Slot>>);

/// A user's memories, and whether they were read.
#[derive(Debug, Default, Clone)]
struct Slot {
    shelf: Arc<Mutex<Shelf>>,
    read: Arc<Mutex<bool>>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock()
    }
}

impl Shared {
    fn memories_of(&self, user: &UserId) -> PathBuf {
        self.root.join("memories").join(user.to_string())
    }

    fn slot(&self, user: &UserId) -> Slot {
        let mut known = self.memories.0.lock();
        if known.len() >= MOST_KNOWN && !known.contains_key(user) {
            // What nobody is at just now.
            known.retain(|_, slot| Arc::strong_count(&slot.shelf) > 1 || Arc::strong_count(&slot.read) > 1);
        }
        known.entry(user.clone()).or_default().clone()
    }

    /// Does something with the memories of a user. When it fails they are read again the next time: what is on the disk is
    /// what holds.
    fn with_shelf<T>(
        &self,
        user: &UserId,
        work: impl FnOnce(&mut Shelf, &Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (slot, folder) = (self.slot(user), self.memories_of(user));
        let mut is_read = slot.read.lock();
        let mut shelf = slot.lock();
        if !*is_read {
            *shelf = read_folder(&folder)?;
        }
        *is_read = false;
        let done = work(&mut shelf, &folder)?;
        *is_read = true;
        Ok(done)
    }

    fn put(&self, user: &UserId, version: MemoryVersion, changes: &[MemoryChange]) -> Result<MemoryWrite, StoreError> {
        self.with_shelf(user, |shelf, folder| {
            if shelf.version != version {
                return Ok(MemoryWrite::VersionConflict);
            }
            if changes.is_empty() {
                return Ok(MemoryWrite::Written);
            }
            let failed = |error: io::Error| unavailable(folder, error);
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
            // All are on the disk before the first has its name: what is left to go wrong are renames.
            let mut files = Vec::with_capacity(changes.len());
            for change in changes {
                let path = folder.join(format!("{}.json", change.memory.id));
                let new = path.with_extension("new");
                let bytes = written(&change.memory, shelf.vector_after(change).as_ref())?;
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                let file = options.open(&new);
                file.and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all())).map_err(failed)?;
                files.push((new, path));
            }
            for (new, path) in files {
                fs::rename(&new, &path).map_err(failed)?;
            }
            sync_folder_of(&folder.join("."))?;
            for change in changes {
                shelf.change(change);
            }
            shelf.is_at(Shelf::after(version));
            Ok(MemoryWrite::Written)
        })
    }

    fn delete_one(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        self.with_shelf(user, |shelf, folder| {
            let path = folder.join(format!("{id}.json"));
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                removed => removed.map_err(|error| unavailable(&path, error))?,
            }
            sync_folder_of(&path)?;
            shelf.remove(id);
            shelf.is_at(Shelf::after(shelf.version));
            Ok(true)
        })
    }

    fn delete_all(&self, user: &UserId) -> Result<usize, StoreError> {
        self.with_shelf(user, |shelf, folder| {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => {
                    removed.map_err(|error| unavailable(folder, error))?;
                    sync_folder_of(folder)?;
                }
            }
            Ok(std::mem::take(shelf).len())
        })
    }
}

fn read_folder(folder: &Path) -> Result<Shelf, StoreError> {
    let failed = |error: io::Error| unavailable(folder, error);
    let mut shelf = Shelf::default();
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(shelf),
        files => files.map_err(failed)?,
    };
    for file in files {
        let path = file.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        // One that cannot be read costs no others.
        match fs::read(&path).map_err(|error| unavailable(&path, error)).and_then(|bytes| read(&bytes)) {
            Ok((memory, vector)) => shelf.set(memory, vector.as_ref()),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a memory cannot be read, and is passed over"),
        }
    }
    if shelf.len() > 0 {
        shelf.is_at(Shelf::after(MemoryVersion::default()));
    }
    Ok(shelf)
}

#[async_trait]
impl MemoryStore for FilesystemStore {
    async fn write_memories(
        &self,
        user: &UserId,
        version: MemoryVersion,
        changes: &[MemoryChange],
    ) -> Result<MemoryWrite, StoreError> {
        let (shared, user, changes) = (self.0.clone(), user.clone(), changes.to_vec());
        blocking(move || shared.put(&user, version, &changes)).await
    }

    async fn read_memories(&self, user: &UserId) -> Result<UserMemories, StoreError> {
        let (shared, user) = (self.0.clone(), user.clone());
        blocking(move || shared.with_shelf(&user, |shelf, _| Ok(shelf.memories()))).await
    }

    async fn find_nearest_memories(
        &self,
        user: &UserId,
        to: &EmbeddingVector,
        limit: usize,
    ) -> Result<Vec<(MemoryId, f32)>, StoreError> {
        let (shared, user) = (self.0.clone(), user.clone());
        let slot = blocking(move || shared.with_shelf(&user, |_, _| Ok(())).map(|()| shared.slot(&user))).await?;
        memories::nearest(slot.shelf, to, limit).await
    }

    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        let (shared, user) = (self.0.clone(), user.clone());
        blocking(move || shared.delete_one(&user, id)).await
    }

    async fn delete_all_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        let (shared, user) = (self.0.clone(), user.clone());
        blocking(move || shared.delete_all(&user)).await
    }
}
