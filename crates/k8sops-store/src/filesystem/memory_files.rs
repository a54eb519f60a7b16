//! Memories, one file each. A memory is on the disk before it is acknowledged.

use std::{collections::HashMap, fs, io, path::Path, sync::Arc};

use parking_lot::Mutex;

use super::{
    disk_io,
    files::{
        Durability, create_durable_folder, if_exists, replacement_path, sync_folder, sync_parent_folder, unavailable,
        write_file,
    },
    layout::StoreLayout,
    line_damage::damaged_record,
    line_format::{named_format, seal_record, verify_record},
    trash::{Discarded, discard_folder},
};
use crate::{
    memory_record::{decode_memory, encode_memory},
    user_memory_set::UserMemorySet,
};
use k8sops_core::{MemoryChange, MemoryId, MemoryVersion, MemoryWrite, StoreError, UserId, UserMemories};

/// How many users' memories are cached; those of others are read from the disk when they are needed.
const CACHED_USERS: usize = 64;

/// The files of memories, and a cache of them. One process has the folder to itself, so that the cache is valid until this
/// process writes. All methods block.
#[derive(Debug)]
pub(super) struct MemoryFiles {
    layout: StoreLayout,
    // The outer lock is held for a look-up, the locks of a user during file access; none across an await.
    users: Mutex<HashMap<UserId, CachedMemories>>,
}

/// The memories of one user.
#[derive(Debug, Default, Clone)]
struct CachedMemories {
    set: Arc<Mutex<UserMemorySet>>,
    /// Whether `set` holds what is on the disk. Locked before `set`.
    is_valid: Arc<Mutex<bool>>,
}

impl MemoryFiles {
    pub(super) fn new(layout: StoreLayout) -> Self {
        Self { layout, users: Mutex::default() }
    }

    fn cached_memories(&self, user: &UserId) -> CachedMemories {
        let mut users = self.users.lock();
        if users.len() >= CACHED_USERS && !users.contains_key(user) {
            // Keeps the users that are in use.
            users.retain(|_, cached| Arc::strong_count(&cached.set) > 1 || Arc::strong_count(&cached.is_valid) > 1);
        }
        users.entry(user.clone()).or_default().clone()
    }

    /// Works on the memories of a user. If the work fails, they are read from the disk again the next time.
    fn with_memories<T>(
        &self,
        user: &UserId,
        work: impl FnOnce(&mut UserMemorySet, &Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let cached = self.cached_memories(user);
        let folder = self.layout.user_memories(user);
        let mut is_valid = cached.is_valid.lock();
        let mut set = cached.set.lock();
        if !*is_valid {
            *set = read_memories(&folder)?;
        }
        *is_valid = false;
        let result = work(&mut set, &folder)?;
        *is_valid = true;
        Ok(result)
    }

    /// The memories of a user, for a search.
    pub(super) fn load_set(&self, user: &UserId) -> Result<Arc<Mutex<UserMemorySet>>, StoreError> {
        self.with_memories(user, |_, _| Ok(()))?;
        Ok(self.cached_memories(user).set)
    }

    /// See [`MemoryStore::read_memories`](k8sops_core::MemoryStore::read_memories).
    pub(super) fn read_memories(&self, user: &UserId) -> Result<UserMemories, StoreError> {
        self.with_memories(user, |set, _| Ok(set.snapshot()))
    }

    /// See [`MemoryStore::write_memories`](k8sops_core::MemoryStore::write_memories).
    pub(super) fn write_memories(
        &self,
        user: &UserId,
        version: MemoryVersion,
        changes: &[MemoryChange],
    ) -> Result<MemoryWrite, StoreError> {
        self.with_memories(user, |set, folder| {
            if set.version != version {
                return Ok(MemoryWrite::VersionConflict);
            }
            if changes.is_empty() {
                return Ok(MemoryWrite::Written);
            }
            let failed = |error: io::Error| unavailable(folder, error);
            create_durable_folder(folder, self.layout.root())?;
            // All files are on the disk before the first is renamed, so that only a rename can fail in the middle.
            let mut renames = Vec::with_capacity(changes.len());
            for change in changes {
                let path = self.layout.memory_file(user, change.memory.id);
                let new = replacement_path(&path);
                let record = encode_memory(&change.memory, set.vector_after_change(change).as_ref())?;
                let bytes = seal_record(record).map_err(|error| failed(error.into()))?;
                write_file(&new, &bytes, Durability::Synced).map_err(failed)?;
                renames.push((new, path));
            }
            for (new, path) in renames {
                disk_io::rename_file(&new, &path).map_err(failed)?;
            }
            sync_folder(folder)?;
            for change in changes {
                set.apply_change(change);
            }
            set.set_version(UserMemorySet::next_version(version));
            Ok(MemoryWrite::Written)
        })
    }

    /// See [`MemoryStore::delete_memory`](k8sops_core::MemoryStore::delete_memory).
    pub(super) fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        self.with_memories(user, |set, _| {
            let path = self.layout.memory_file(user, id);
            let removed = if_exists(disk_io::remove_file(&path)).map_err(|error| unavailable(&path, error))?;
            if removed.is_none() {
                return Ok(false);
            }
            sync_parent_folder(&path)?;
            set.remove(id);
            set.set_version(UserMemorySet::next_version(set.version));
            Ok(true)
        })
    }

    /// See [`MemoryStore::delete_all_memories`](k8sops_core::MemoryStore::delete_all_memories).
    pub(super) fn delete_all_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        self.with_memories(user, |set, folder| {
            if discard_folder(&self.layout, folder)? == Discarded::Existed {
                sync_parent_folder(folder)?;
            }
            Ok(std::mem::take(set).len())
        })
    }
}

fn read_memories(folder: &Path) -> Result<UserMemorySet, StoreError> {
    let failed = |error: io::Error| unavailable(folder, error);
    let mut set = UserMemorySet::default();
    let Some(files) = if_exists(fs::read_dir(folder)).map_err(failed)? else { return Ok(set) };
    for file in files {
        let path = file.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = match disk_io::read_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => continue,
            read => read.map_err(|error| unavailable(&path, error))?,
        };
        let verified = verify_record(&bytes)
            .map_err(|error| damaged_record(&path, named_format(&bytes).as_ref(), error))
            .and_then(|()| decode_memory(&bytes));
        match verified {
            Ok((memory, vector)) => set.insert_memory(memory, vector.as_ref()),
            // A damaged file, or one of a later version, does not make the other memories unreadable.
            Err(error) => tracing::error!(path = %path.display(), %error, "memory cannot be read, left out"),
        }
    }
    if set.len() > 0 {
        set.set_version(UserMemorySet::next_version(MemoryVersion::default()));
    }
    Ok(set)
}
