//! Memories: a hash for each user with a field for each memory, and the vectors in a vector set for each space. A server
//! without vector sets keeps the vectors in a hash; then this process holds them and searches them itself.
//!
//! All keys of a user are on one node, and every write is one script. A replica keeps what it has read and asks only what was
//! written since: each write has a number, and `changes` says which memories it touched.

#![allow(clippy::similar_names, reason = "a shelf is not taken for self")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redis::cmd;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{RedisStore, scripts::SCRIPTS};
use crate::{
    memories,
    memories::{Shelf, from_bytes, to_bytes},
};
use k8sops_core::{
    EmbeddingSpace, EmbeddingVector, MemoryChange, MemoryId, MemoryStore, MemoryVersion, MemoryWrite, SearchEmbedding,
    StoreError, Timestamp, UpkeepClaim, UserId, UserMemories, UserMemory,
};

/// The most users whose memories are held; recall reads those of the one who speaks.
const MOST_KNOWN: usize = 256;
/// Memories that are read at once, so that no answer holds up the others on its node.
const PAGE: usize = 500;
/// How many elements of a graph are looked at for a search, at least. Redis takes as many as are wanted, which at five
/// misses every tenth.
const EFFORT: usize = 200;
/// How many elements may be looked at for ones that pass the filter: all.
const ALL: usize = 1_000_000;
/// The end of time in attributes, which are doubles.
const FOR_GOOD: i64 = 9_000_000_000_000_000;
/// How often a removal begins anew because a space has come up meanwhile.
const ATTEMPTS: usize = 16;

/// A memory as its field has it.
#[derive(Serialize, Deserialize)]
struct Record {
    memory: UserMemory,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<Place>,
}

/// Where its vector is. One that is not where the server of now would have it is made anew.
#[derive(Serialize, Deserialize)]
struct Place {
    space: EmbeddingSpace,
    in_set: bool,
}

/// What was read of users.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<UserId, Arc<Slot>>>);

/// What was read of one.
#[derive(Debug, Default)]
struct Slot {
    shelf: Arc<Mutex<Shelf>>,
    /// Held while it is read: who comes meanwhile need not read as well. Whether the user's node has vector sets, once that
    /// is known.
    reading: tokio::sync::Mutex<Option<bool>>,
}

impl Slot {
    /// A plain mutex: held for a look or a search.
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn slot(&self, user: &UserId) -> Arc<Slot> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN && !known.contains_key(user) {
            // What nobody is at just now.
            known.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(known.entry(user.clone()).or_default())
    }
}

impl RedisStore {
    /// What is remembered of a user as of now, and whether the vectors are in vector sets.
    async fn current(&self, user: &UserId) -> Result<(Arc<Slot>, bool), StoreError> {
        let slot = self.memories.slot(user);
        let mut reading = slot.reading.lock().await;
        let keys = ["memories", "spaces"].map(|name| self.keys.of_memories(user, name));
        let probe: &[u8] = if reading.is_none() { b"1" } else { b"0" };
        let (epoch, writes, has_sets): (u64, u64, u8) =
            self.reads.ask(&SCRIPTS.memories_at.with(&keys, &[probe])).await?;
        let in_set = *reading.get_or_insert(has_sets == 1);
        self.catch_up(user, &slot, MemoryVersion { epoch, writes }, in_set).await?;
        drop(reading);
        Ok((slot, in_set))
    }

    /// Reads what was written between the version that is known and this one.
    async fn catch_up(&self, user: &UserId, slot: &Slot, to: MemoryVersion, in_set: bool) -> Result<(), StoreError> {
        let known = slot.lock().version;
        if known == to {
            return Ok(());
        }
        if to.epoch == 0 {
            *slot.lock() = Shelf::default();
            return Ok(());
        }
        let key = self.keys.of_memories(user, "memories");
        if known.epoch == to.epoch {
            let mut since = cmd("ZRANGEBYSCORE");
            since.arg(self.keys.of_memories(user, "changes")).arg(format!("({}", known.writes)).arg("+inf");
            let ids: Vec<String> = self.reads.ask(&since).await?;
            for page in ids.chunks(PAGE) {
                let fields: Vec<Option<Vec<u8>>> = self.reads.ask(cmd("HMGET").arg(&key).arg(page) as &_).await?;
                let there = page.iter().zip(&fields).filter_map(|(id, field)| Some((id.clone(), field.clone()?)));
                let read = self.with_vectors(user, there.collect(), in_set).await?;
                let mut shelf = slot.lock();
                let gone = page.iter().zip(&fields).filter(|(_, field)| field.is_none());
                for id in gone.filter_map(|(id, _)| id.parse().ok()) {
                    shelf.remove(id);
                }
                for read in read {
                    read.put(&mut shelf);
                }
            }
        } else {
            // What is written while this is read has a greater number than `to`, and is read again the next time.
            let (mut anew, mut cursor) = (Shelf::default(), 0_u64);
            loop {
                let mut scan = cmd("HSCAN");
                scan.arg(&key).arg(cursor).arg("COUNT").arg(PAGE);
                let (next, fields): (u64, Vec<(String, Vec<u8>)>) = self.reads.ask(&scan).await?;
                for read in self.with_vectors(user, fields, in_set).await? {
                    read.put(&mut anew);
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
            *slot.lock() = anew;
        }
        slot.lock().is_at(to);
        Ok(())
    }

    /// Memories of their fields, with their vectors where this process searches them.
    async fn with_vectors(
        &self,
        user: &UserId,
        fields: Vec<(String, Vec<u8>)>,
        in_set: bool,
    ) -> Result<Vec<Read>, StoreError> {
        let mut all = Vec::with_capacity(fields.len());
        for (field, bytes) in fields {
            // The fields that are no memories.
            if field.parse::<MemoryId>().is_err() {
                continue;
            }
            match serde_json::from_slice::<Record>(&bytes) {
                Ok(Record { memory, vector }) => {
                    let space = vector.filter(|place| place.in_set == in_set).map(|place| place.space);
                    all.push(Read { memory, space, vector: None });
                }
                Err(error) => tracing::warn!(%user, %field, %error, "a memory cannot be read, and is passed over"),
            }
        }
        if !in_set {
            let key = self.keys.of_memories(user, "vectors");
            let wanting: Vec<&mut Read> = all.iter_mut().filter(|read| read.space.is_some()).collect();
            let mut wanting = wanting.into_iter().peekable();
            while wanting.peek().is_some() {
                let page: Vec<&mut Read> = wanting.by_ref().take(PAGE).collect();
                let ids: Vec<String> = page.iter().map(|read| read.memory.id.to_string()).collect();
                let vectors: Vec<Option<Vec<u8>>> = self.reads.ask(cmd("HMGET").arg(&key).arg(&ids) as &_).await?;
                for (read, bytes) in page.into_iter().zip(vectors) {
                    let space = read.space.take();
                    let values = bytes.and_then(|bytes| from_bytes(&bytes));
                    read.vector = space.zip(values).and_then(|(space, values)| {
                        (values.len() == space.dimensions).then_some(EmbeddingVector { model: space.model, values })
                    });
                }
            }
        }
        Ok(all)
    }

    /// Removes one, or all; how many there were.
    async fn forget(&self, user: &UserId, id: &str) -> Result<u64, StoreError> {
        let spaces = self.keys.of_memories(user, "spaces");
        for _ in 0..ATTEMPTS {
            let sets: Vec<String> = self.writes.ask(cmd("SMEMBERS").arg(&spaces) as &_).await?;
            let mut keys = ["memories", "changes", "vectors", "spaces", "upkeep"]
                .map(|name| self.keys.of_memories(user, name))
                .to_vec();
            keys.extend(sets);
            let gone: i64 = self.writes.ask(&SCRIPTS.forget.with(&keys, &[id.as_bytes()])).await?;
            if let Ok(gone) = u64::try_from(gone) {
                return Ok(gone);
            }
        }
        Err(StoreError::Unavailable("a user's memories change all the time, and could not be removed".into()))
    }
}

/// A memory that was read.
struct Read {
    memory: UserMemory,
    /// Of a vector that is searched elsewhere.
    space: Option<EmbeddingSpace>,
    vector: Option<EmbeddingVector>,
}

impl Read {
    fn put(self, shelf: &mut Shelf) {
        match (self.vector, self.space) {
            (None, Some(space)) => shelf.set_apart(self.memory, Some(space)),
            (vector, _) => shelf.set(self.memory, vector.as_ref()),
        }
    }
}

#[async_trait]
impl MemoryStore for RedisStore {
    async fn write_memories(
        &self,
        user: &UserId,
        version: MemoryVersion,
        changes: &[MemoryChange],
    ) -> Result<MemoryWrite, StoreError> {
        // Where the vectors are is known from what is there now; the script sees to it that it is still the same.
        let (slot, in_set) = self.current(user).await?;
        let spaces: Vec<Option<EmbeddingSpace>> = {
            let shelf = slot.lock();
            if shelf.version != version {
                return Ok(MemoryWrite::VersionConflict);
            }
            changes.iter().map(|change| shelf.space_of(change.memory.id).cloned()).collect()
        };
        if changes.is_empty() {
            return Ok(MemoryWrite::Written);
        }
        let mut keys =
            ["memories", "changes", "vectors", "spaces"].map(|name| self.keys.of_memories(user, name)).to_vec();
        let mut number = |space: &EmbeddingSpace| {
            let key = self.keys.vector_set(user, space);
            let at = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
                keys.push(key);
                keys.len() - 1
            });
            (at + 1).to_string()
        };
        let after = Shelf::after(version);
        let [found, writes, epoch] = [version.epoch, version.writes, after.epoch].map(|n| n.to_string());
        let mut args = vec![found.into_bytes(), writes.into_bytes(), epoch.into_bytes()];
        for (MemoryChange { memory, meaning }, old) in changes.iter().zip(&spaces) {
            let (space, vector) = match meaning {
                _ if memory.superseded_by.is_some() => (None, None),
                SearchEmbedding::Kept => (old.clone(), None),
                SearchEmbedding::Unknown => (None, None),
                SearchEmbedding::Known(vector) => (Some(vector.space()), Some(vector)),
            };
            let left = old.as_ref().filter(|old| in_set && space.as_ref() != Some(*old)).map(&mut number);
            let into = space.as_ref().map(|space| if in_set { number(space) } else { "hash".to_owned() });
            let until = memory.holds_until().map_or(FOR_GOOD, Timestamp::as_millis);
            let place = space.map(|space| Place { space, in_set });
            let record = serde_json::to_vec(&Record { memory: memory.clone(), vector: place })
                .map_err(|error| StoreError::corrupt("Redis", error))?;
            args.extend([
                memory.id.to_string().into_bytes(),
                record,
                vector.map(|vector| to_bytes(&vector.values)).unwrap_or_default(),
                into.unwrap_or_default().into_bytes(),
                left.unwrap_or_default().into_bytes(),
                json!({"kind": memory.kind, "until": until}).to_string().into_bytes(),
            ]);
        }
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let written: u8 = self.writes.ask(&SCRIPTS.memories.with(&keys, &args)).await?;
        Ok(if written == 1 { MemoryWrite::Written } else { MemoryWrite::VersionConflict })
    }

    async fn read_memories(&self, user: &UserId) -> Result<UserMemories, StoreError> {
        let (slot, _) = self.current(user).await?;
        let memories = slot.lock().memories();
        Ok(memories)
    }

    async fn find_nearest_memories(
        &self,
        user: &UserId,
        to: &EmbeddingVector,
        limit: usize,
    ) -> Result<Vec<(MemoryId, f32)>, StoreError> {
        let (slot, in_set) = self.current(user).await?;
        if !in_set {
            return memories::nearest(Arc::clone(&slot.shelf), to, limit).await;
        }
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut search = cmd("VSIM");
        search.arg(self.keys.vector_set(user, &to.space())).arg("FP32").arg(to_bytes(&to.values)).arg("WITHSCORES");
        search.arg("COUNT").arg(limit).arg("EF").arg(EFFORT.max(limit * 2));
        search.arg("FILTER").arg(format!(".until > {}", Timestamp::now().as_millis()));
        // However many do not hold any more, those that do are found. What is superseded is not in the set at all.
        search.arg("FILTER-EF").arg(ALL);
        let found: Vec<(String, f64)> = self.reads.ask(&search).await?;
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
        let (key, ttl) = ([self.keys.of_memories(user, "upkeep")], ttl.as_millis().to_string());
        let taken: u8 = self.writes.ask(&SCRIPTS.claim_upkeep.with(&key, &[holder.as_bytes(), ttl.as_bytes()])).await?;
        Ok(if taken == 1 { UpkeepClaim::Granted } else { UpkeepClaim::HeldByAnother })
    }

    async fn release_embedding_upkeep(&self, user: &UserId, holder: &str) -> Result<(), StoreError> {
        self.claim_embedding_upkeep(user, holder, Duration::ZERO).await.map(drop)
    }

    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        Ok(self.forget(user, &id.to_string()).await? > 0)
    }

    async fn delete_all_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        Ok(usize::try_from(self.forget(user, "").await?).unwrap_or(usize::MAX))
    }
}
