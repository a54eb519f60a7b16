//! Memories: one hash for each user, with a field for each memory and one that counts the writes, so that a replica need not
//! read again what it has read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

use super::RedisStore;
use crate::{
    session::{LongTermStore, MemoryId, StoreError, StoredMemory, UserId},
    store::memories::{read, sorted, written},
};

/// The field that counts the writes.
const VERSION: &str = "version";
/// The most users whose memories are held; recall reads those of the one who speaks.
const MOST_KNOWN: usize = 256;

/// The memories of a user, and the count of writes that they were read at.
type Read = (Option<u64>, Arc<[StoredMemory]>);

/// What was read of users. A plain mutex: held for a look.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<UserId, Read>>);

impl Known {
    fn get(&self, user: &UserId, version: Option<u64>) -> Option<Arc<[StoredMemory]>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(user).filter(|(read, _)| *read == version).map(|(_, memories)| Arc::clone(memories))
    }

    fn put(&self, user: &UserId, version: Option<u64>, memories: &Arc<[StoredMemory]>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(user.clone(), (version, Arc::clone(memories)));
    }
}

#[async_trait]
impl LongTermStore for RedisStore {
    async fn put_memories(&self, user: &UserId, memories: &[StoredMemory]) -> Result<(), StoreError> {
        let key = self.keys.memories(user);
        let mut set = redis::cmd("HSET");
        set.arg(&key);
        for stored in memories {
            set.arg(stored.memory.id.to_string()).arg(written(stored)?);
        }
        if !memories.is_empty() {
            self.writes.ask::<redis::Value>(&set).await?;
            self.writes.ask::<redis::Value>(redis::cmd("HINCRBY").arg(&key).arg(VERSION).arg(1) as &_).await?;
        }
        Ok(())
    }

    async fn memories(&self, user: &UserId) -> Result<Arc<[StoredMemory]>, StoreError> {
        let key = self.keys.memories(user);
        let version: Option<u64> = self.reads.ask(redis::cmd("HGET").arg(&key).arg(VERSION) as &_).await?;
        if let Some(known) = self.memories.get(user, version) {
            return Ok(known);
        }
        // Read after its version: what is written in between is read again next time.
        let fields: HashMap<String, Vec<u8>> = self.reads.ask(redis::cmd("HGETALL").arg(&key) as &_).await?;
        let mut memories = Vec::with_capacity(fields.len());
        for (field, bytes) in fields.iter().filter(|(field, _)| field.as_str() != VERSION) {
            match read(bytes) {
                Ok(memory) => memories.push(memory),
                Err(error) => tracing::warn!(%user, %field, %error, "a memory cannot be read, and is passed over"),
            }
        }
        let memories = sorted(memories);
        self.memories.put(user, version, &memories);
        Ok(memories)
    }

    async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        let key = self.keys.memories(user);
        let gone: u64 = self.writes.ask(redis::cmd("HDEL").arg(&key).arg(id.to_string()) as &_).await?;
        if gone > 0 {
            self.writes.ask::<redis::Value>(redis::cmd("HINCRBY").arg(&key).arg(VERSION).arg(1) as &_).await?;
        }
        Ok(gone > 0)
    }

    async fn delete_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        let there = self.memories(user).await?.len();
        self.writes.ask::<redis::Value>(redis::cmd("DEL").arg(self.keys.memories(user)) as &_).await?;
        Ok(there)
    }
}
