//! Memories: `ROOT/memories/USER_ID/MEMORY_ID.json`. A memory is on the disk before it is acknowledged.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

use super::{FilesystemStore, Shared, blocking, log_file::unavailable, sync_folder_of};
use crate::{
    session::{LongTermStore, MemoryId, StoreError, StoredMemory, UserId},
    store::memories::{read, sorted, written},
};

/// What was read of users. One process has the folder to itself, so that it is true until that one writes. A plain mutex,
/// held across file access but never across an await.
pub(super) type Known = Mutex<HashMap<UserId, Arc<[StoredMemory]>>>;

impl Shared {
    fn memories_of(&self, user: &UserId) -> PathBuf {
        self.root.join("memories").join(user.to_string())
    }

    fn read_memories(&self, user: &UserId) -> Result<Arc<[StoredMemory]>, StoreError> {
        let mut known = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memories) = known.get(user) {
            return Ok(Arc::clone(memories));
        }
        let memories = read_folder(&self.memories_of(user))?;
        known.insert(user.clone(), Arc::clone(&memories));
        Ok(memories)
    }

    fn put(&self, user: &UserId, memories: &[StoredMemory]) -> Result<(), StoreError> {
        let mut known = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(user);
        let folder = self.memories_of(user);
        let failed = |error: io::Error| unavailable(&folder, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        for stored in memories {
            let path = folder.join(format!("{}.json", stored.memory.id));
            let new = path.with_extension("new");
            let bytes = written(stored)?;
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(&new).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
            file.and_then(|()| fs::rename(&new, &path)).map_err(failed)?;
        }
        sync_folder_of(&folder.join("."))
    }

    fn delete_one(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        let mut known = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(user);
        let path = self.memories_of(user).join(format!("{id}.json"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true).map_err(|error| unavailable(&path, &error)),
        }
    }

    fn delete_all(&self, user: &UserId) -> Result<usize, StoreError> {
        let mut known = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(user);
        let folder = self.memories_of(user);
        let there = read_folder(&folder)?.len();
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            removed => removed.map(|()| there).map_err(|error| unavailable(&folder, &error)),
        }
    }
}

fn read_folder(folder: &Path) -> Result<Arc<[StoredMemory]>, StoreError> {
    let failed = |error: io::Error| unavailable(folder, &error);
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::new([])),
        files => files.map_err(failed)?,
    };
    let mut memories = Vec::new();
    for file in files {
        let path = file.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        // One that cannot be read costs no others.
        match fs::read(&path).map_err(|error| unavailable(&path, &error)).and_then(|bytes| read(&bytes)) {
            Ok(memory) => memories.push(memory),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a memory cannot be read, and is passed over"),
        }
    }
    Ok(sorted(memories))
}

#[async_trait]
impl LongTermStore for FilesystemStore {
    async fn put_memories(&self, user: &UserId, memories: &[StoredMemory]) -> Result<(), StoreError> {
        let (shared, user, memories) = (self.0.clone(), user.clone(), memories.to_vec());
        blocking(move || shared.put(&user, &memories)).await
    }

    async fn memories(&self, user: &UserId) -> Result<Arc<[StoredMemory]>, StoreError> {
        let (shared, user) = (self.0.clone(), user.clone());
        blocking(move || shared.read_memories(&user)).await
    }

    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        let (shared, user) = (self.0.clone(), user.clone());
        blocking(move || shared.delete_one(&user, id)).await
    }

    async fn delete_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        let (shared, user) = (self.0.clone(), user.clone());
        blocking(move || shared.delete_all(&user)).await
    }
}
