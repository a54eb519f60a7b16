//! Memories: one hash per user with a field per memory, and one vector set per embedding space. On a server without vector
//! sets, the vectors are in a hash, and this process loads and searches them.
//!
//! All keys of a user are on one node, and every write is one script. A replica caches what it has read, and then reads only
//! what was written since: each write has a number, and the key `changes` says which memories it wrote.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::cmd;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    lost_keys::of_shared_key,
    memory_cache::CachedUser,
    scripts::{
        ClaimEmbeddingUpkeep, DeleteMemories, DeleteMemoriesReply, MemoryFields, ReadMemoryVersion, UpkeepReply,
        WriteMemories, WriteMemoriesReply,
    },
    store::RedisStore,
};
use crate::{
    memory_record::{vector_from_bytes, vector_to_bytes},
    user_memory_set::{UserMemorySet, find_nearest_in_set},
};
use k8sops_core::{
    EmbeddingChange, EmbeddingSpace, EmbeddingVector, MemoryChange, MemoryId, MemoryStore, MemoryVersion, MemoryWrite,
    StoreError, Timestamp, UpkeepClaim, UserId, UserMemories, UserMemory,
};

/// How many memories are read by one command, so that it does not block its node.
const PAGE_SIZE: usize = 500;
/// How many elements of the graph a search visits at least. By default Redis visits as many as are requested, which misses
/// one in ten with five requested.
const SEARCH_EFFORT: usize = 200;
/// How many elements a search may visit to find some that pass the filter: all.
const FILTER_EFFORT: usize = 1_000_000;
/// An expiry that never comes. Attributes are doubles, which represent it exactly.
const NEVER_EXPIRES: i64 = 9_000_000_000_000_000;
/// How often a deletion is attempted if embedding spaces are added while it runs.
const DELETE_ATTEMPTS: usize = 16;

/// A memory as it is stored.
#[derive(Serialize, Deserialize)]
struct MemoryHashField {
    memory: UserMemory,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<VectorLocation>,
}

/// Where the vector of a memory is. A vector that is not where this server keeps vectors is computed again.
#[derive(Serialize, Deserialize)]
struct VectorLocation {
    space: EmbeddingSpace,
    in_set: bool,
}

impl RedisStore {
    /// The current memories of a user, and whether their vectors are in vector sets.
    async fn load_memories(&self, user: &UserId) -> Result<(Arc<CachedUser>, bool), StoreError> {
        let cached = self.memory_cache.user(user);
        let mut vector_sets = cached.vector_sets.lock().await;
        let read = ReadMemoryVersion {
            memories_key: self.keys.memories(user),
            spaces_key: self.keys.embedding_spaces(user),
            probe_vector_sets: vector_sets.is_none(),
        };
        let version = self.reads.run_script(&read).await.map_err(of_shared_key(&read.memories_key))?;
        let in_set = *vector_sets.get_or_insert(version.has_vector_sets);
        let version = MemoryVersion { epoch: version.epoch, writes: version.writes };
        let refreshed = self.refresh_cache(user, &cached, version, in_set).await;
        refreshed.map_err(of_shared_key(&self.keys.all_memory_keys(user)))?;
        drop(vector_sets);
        Ok((cached, in_set))
    }

    /// Reads what was written between the cached version and `version`.
    async fn refresh_cache(
        &self,
        user: &UserId,
        cached: &CachedUser,
        version: MemoryVersion,
        in_set: bool,
    ) -> Result<(), StoreError> {
        let cached_version = cached.lock().version;
        if cached_version == version {
            return Ok(());
        }
        if version.epoch == 0 {
            *cached.lock() = UserMemorySet::default();
            return Ok(());
        }
        if cached_version.epoch == version.epoch {
            self.read_changes(user, cached, cached_version.writes, in_set).await?;
        } else {
            *cached.lock() = self.read_all_memories(user, in_set).await?;
        }
        cached.lock().set_version(version);
        Ok(())
    }

    /// Reads the memories that were written or deleted after the write `since`.
    async fn read_changes(
        &self,
        user: &UserId,
        cached: &CachedUser,
        since: u64,
        in_set: bool,
    ) -> Result<(), StoreError> {
        let mut changes = cmd("ZRANGEBYSCORE");
        changes.arg(self.keys.memory_changes(user)).arg(format!("({since}")).arg("+inf");
        let ids: Vec<String> = self.bulk_reads.query(&changes).await?;
        let key = self.keys.memories(user);
        for page in ids.chunks(PAGE_SIZE) {
            let fields: Vec<Option<Vec<u8>>> = self.bulk_reads.query(cmd("HMGET").arg(&key).arg(page)).await?;
            let existing = page.iter().zip(&fields).filter_map(|(id, field)| Some((id.clone(), field.clone()?)));
            let loaded = self.decode_memories(user, existing.collect(), in_set).await?;
            let mut memories = cached.lock();
            let deleted = page.iter().zip(&fields).filter(|(_, field)| field.is_none());
            for id in deleted.filter_map(|(id, _)| id.parse().ok()) {
                memories.remove(id);
            }
            for memory in loaded {
                memory.insert_into(&mut memories);
            }
        }
        Ok(())
    }

    /// Reads all memories of a user. Memories that are written meanwhile have a newer version and are read again next time.
    async fn read_all_memories(&self, user: &UserId, in_set: bool) -> Result<UserMemorySet, StoreError> {
        let key = self.keys.memories(user);
        let mut memories = UserMemorySet::default();
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("HSCAN");
            scan.arg(&key).arg(cursor).arg("COUNT").arg(PAGE_SIZE);
            let (next, fields): (u64, Vec<(String, Vec<u8>)>) = self.bulk_reads.query(&scan).await?;
            for memory in self.decode_memories(user, fields, in_set).await? {
                memory.insert_into(&mut memories);
            }
            cursor = next;
            if cursor == 0 {
                return Ok(memories);
            }
        }
    }

    /// Decodes fields of the hash of memories, and reads the vectors if this process searches them.
    async fn decode_memories(
        &self,
        user: &UserId,
        fields: Vec<(String, Vec<u8>)>,
        in_set: bool,
    ) -> Result<Vec<LoadedMemory>, StoreError> {
        let mut loaded = Vec::with_capacity(fields.len());
        for (field, bytes) in fields {
            // The fields `epoch` and `writes` are not memories.
            if field.parse::<MemoryId>().is_err() {
                continue;
            }
            match serde_json::from_slice::<MemoryHashField>(&bytes) {
                Ok(MemoryHashField { memory, vector }) => {
                    let space = vector.filter(|location| location.in_set == in_set).map(|location| location.space);
                    loaded.push(LoadedMemory { memory, space, vector: None });
                }
                Err(error) => tracing::warn!(%user, memory = %field, %error, "memory not readable, skipped"),
            }
        }
        if !in_set {
            self.load_vectors(user, &mut loaded).await?;
        }
        Ok(loaded)
    }

    /// Reads the vectors of memories from the hash of vectors.
    async fn load_vectors(&self, user: &UserId, loaded: &mut [LoadedMemory]) -> Result<(), StoreError> {
        let key = self.keys.memory_vectors(user);
        let mut with_vector: Vec<&mut LoadedMemory> =
            loaded.iter_mut().filter(|memory| memory.space.is_some()).collect();
        for page in with_vector.chunks_mut(PAGE_SIZE) {
            let ids: Vec<String> = page.iter().map(|loaded| loaded.memory.id.to_string()).collect();
            let vectors: Vec<Option<Vec<u8>>> = self.bulk_reads.query(cmd("HMGET").arg(&key).arg(&ids)).await?;
            for (loaded, bytes) in page.iter_mut().zip(vectors) {
                let space = loaded.space.take();
                let values = bytes.and_then(|bytes| vector_from_bytes(&bytes));
                loaded.vector = space.zip(values).and_then(|(space, values)| {
                    (values.len() == space.dimensions).then_some(EmbeddingVector { model: space.model, values })
                });
            }
        }
        Ok(())
    }

    /// Deletes one memory, or all (`None`). Returns how many there were.
    async fn delete_memories(&self, user: &UserId, id: Option<MemoryId>) -> Result<u64, StoreError> {
        let spaces_key = self.keys.embedding_spaces(user);
        for _ in 0..DELETE_ATTEMPTS {
            let delete = DeleteMemories {
                memories_key: self.keys.memories(user),
                changes_key: self.keys.memory_changes(user),
                vectors_key: self.keys.memory_vectors(user),
                spaces_key: spaces_key.clone(),
                upkeep_key: self.keys.embedding_upkeep(user),
                vector_set_keys: {
                    let found = self.writes.query(cmd("SMEMBERS").arg(&spaces_key)).await;
                    found.map_err(of_shared_key(&spaces_key))?
                },
                memory_id: id.map(|id| id.to_string()),
            };
            let deleted = self.writes.run_script(&delete).await;
            match deleted.map_err(of_shared_key(&self.keys.all_memory_keys(user)))? {
                DeleteMemoriesReply::Deleted { count } => return Ok(count),
                DeleteMemoriesReply::SpacesChanged => {}
            }
        }
        Err(StoreError::Unavailable(
            format!("memories not deleted: embedding spaces of user {user} changed during {DELETE_ATTEMPTS} attempts")
                .into(),
        ))
    }

    /// Claims the upkeep of a user's vectors, extends the claim, or releases it (`None`).
    async fn set_upkeep_claim(
        &self,
        user: &UserId,
        holder: &str,
        ttl: Option<Duration>,
    ) -> Result<UpkeepClaim, StoreError> {
        let claim = ClaimEmbeddingUpkeep {
            upkeep_key: self.keys.embedding_upkeep(user),
            holder: holder.to_owned(),
            ttl_ms: ttl.filter(|ttl| ttl.as_millis() > 0),
        };
        Ok(match self.writes.run_script(&claim).await? {
            UpkeepReply::Granted => UpkeepClaim::Granted,
            UpkeepReply::HeldByAnother => UpkeepClaim::HeldByAnother,
        })
    }
}

/// A memory that was read.
struct LoadedMemory {
    memory: UserMemory,
    /// The space of a vector that the server searches.
    space: Option<EmbeddingSpace>,
    vector: Option<EmbeddingVector>,
}

impl LoadedMemory {
    fn insert_into(self, memories: &mut UserMemorySet) {
        match (self.vector, self.space) {
            (None, Some(space)) => memories.insert_without_vector(self.memory, Some(space)),
            (vector, _) => memories.insert_memory(self.memory, vector.as_ref()),
        }
    }
}

/// The vector sets that a write uses, numbered from 1.
struct NumberedVectorSets<'a> {
    store: &'a RedisStore,
    user: &'a UserId,
    keys: Vec<String>,
}

impl NumberedVectorSets<'_> {
    fn number(&mut self, space: &EmbeddingSpace) -> usize {
        let key = self.store.keys.vector_set(self.user, space);
        let index = self.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        });
        index + 1
    }
}

/// What the script needs to write a change to a memory whose vector is in `previous_space`.
fn memory_fields(
    change: &MemoryChange,
    previous_space: Option<&EmbeddingSpace>,
    in_set: bool,
    vector_sets: &mut NumberedVectorSets<'_>,
) -> Result<MemoryFields, StoreError> {
    let memory = &change.memory;
    let (space, vector) = match &change.embedding {
        _ if memory.superseded_by.is_some() => (None, None),
        EmbeddingChange::Keep => (previous_space.cloned(), None),
        EmbeddingChange::Clear => (None, None),
        EmbeddingChange::Set(vector) => (Some(vector.space()), Some(vector)),
    };
    let left_space = previous_space.filter(|previous| in_set && space.as_ref() != Some(*previous));
    let previous_vector_set = left_space.map(|space| vector_sets.number(space));
    let vector_set = space.as_ref().filter(|_| in_set).map(|space| vector_sets.number(space));
    let in_hash = space.is_some() && !in_set;
    let until = memory.valid_until().map_or(NEVER_EXPIRES, Timestamp::as_millis);
    let location = space.map(|space| VectorLocation { space, in_set });
    let record = serde_json::to_vec(&MemoryHashField { memory: memory.clone(), vector: location })
        .map_err(|error| StoreError::corrupt("a memory", error))?;
    Ok(MemoryFields {
        id: memory.id.to_string(),
        record,
        vector: vector.map(|vector| vector_to_bytes(&vector.values)),
        vector_set,
        in_hash,
        previous_vector_set,
        attributes: json!({"kind": memory.kind, "until": until}).to_string(),
    })
}

#[async_trait]
impl MemoryStore for RedisStore {
    async fn write_memories(
        &self,
        user: &UserId,
        version: MemoryVersion,
        changes: &[MemoryChange],
    ) -> Result<MemoryWrite, StoreError> {
        // Where the vectors are is taken from the cache; the script checks that the cached version is still current.
        let (cached, in_set) = self.load_memories(user).await?;
        let previous_spaces: Vec<Option<EmbeddingSpace>> = {
            let memories = cached.lock();
            if memories.version != version {
                return Ok(MemoryWrite::VersionConflict);
            }
            changes.iter().map(|change| memories.vector_space(change.memory.id).cloned()).collect()
        };
        if changes.is_empty() {
            return Ok(MemoryWrite::Written);
        }
        let mut vector_sets = NumberedVectorSets { store: self, user, keys: Vec::new() };
        let fields: Result<Vec<MemoryFields>, StoreError> = changes
            .iter()
            .zip(&previous_spaces)
            .map(|(change, previous)| memory_fields(change, previous.as_ref(), in_set, &mut vector_sets))
            .collect();
        let write = WriteMemories {
            memories_key: self.keys.memories(user),
            changes_key: self.keys.memory_changes(user),
            vectors_key: self.keys.memory_vectors(user),
            spaces_key: self.keys.embedding_spaces(user),
            vector_set_keys: vector_sets.keys,
            expected_epoch: version.epoch,
            expected_writes: version.writes,
            new_epoch: UserMemorySet::next_version(version).epoch,
            changes: fields?,
        };
        let written = self.bulk_writes.run_script(&write).await;
        Ok(match written.map_err(of_shared_key(&self.keys.all_memory_keys(user)))? {
            WriteMemoriesReply::Written => MemoryWrite::Written,
            WriteMemoriesReply::VersionConflict => MemoryWrite::VersionConflict,
        })
    }

    async fn read_memories(&self, user: &UserId) -> Result<UserMemories, StoreError> {
        let (cached, _) = self.load_memories(user).await?;
        let memories = cached.lock().snapshot();
        Ok(memories)
    }

    async fn find_nearest_memories(
        &self,
        user: &UserId,
        to: &EmbeddingVector,
        limit: usize,
    ) -> Result<Vec<(MemoryId, f32)>, StoreError> {
        let (cached, in_set) = self.load_memories(user).await?;
        if !in_set {
            return find_nearest_in_set(Arc::clone(&cached.memories), to, limit).await;
        }
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut search = cmd("VSIM");
        search
            .arg(self.keys.vector_set(user, &to.space()))
            .arg("FP32")
            .arg(vector_to_bytes(&to.values))
            .arg("WITHSCORES");
        search.arg("COUNT").arg(limit).arg("EF").arg(SEARCH_EFFORT.max(limit * 2));
        search.arg("FILTER").arg(format!(".until > {}", Timestamp::now().as_millis()));
        // Finds valid memories however many expired ones there are. Superseded memories are not in the set.
        search.arg("FILTER-EF").arg(FILTER_EFFORT);
        let found: Vec<(String, f64)> = self.reads.query(&search).await?;
        #[allow(clippy::cast_possible_truncation, reason = "a cosine needs no more than single precision")]
        let cosine = |score: f64| (2.0 * score - 1.0) as f32;
        Ok(found.into_iter().filter_map(|(id, score)| Some((id.parse().ok()?, cosine(score)))).collect())
    }

    async fn claim_embedding_upkeep(
        &self,
        user: &UserId,
        holder: &str,
        ttl: Duration,
    ) -> Result<UpkeepClaim, StoreError> {
        self.set_upkeep_claim(user, holder, Some(ttl)).await
    }

    async fn release_embedding_upkeep(&self, user: &UserId, holder: &str) -> Result<(), StoreError> {
        self.set_upkeep_claim(user, holder, None).await.map(drop)
    }

    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        Ok(self.delete_memories(user, Some(id)).await? > 0)
    }

    async fn delete_all_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        Ok(usize::try_from(self.delete_memories(user, None).await?).unwrap_or(usize::MAX))
    }
}
