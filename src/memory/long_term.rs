//! The long-term memory of all users: recall, learning, and what users do with their memories themselves.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::timeout};

use super::{Learned, merge, rank};
use crate::{
    models::Embedder,
    session::{
        LongTermStore, Memory, MemoryId, MemoryKind, MemoryNote, MemorySource, StoreError, StoredMemory, Timestamp,
        UserId, Vector,
    },
};

/// How long recall may wait for the meaning of a message: without it the words decide.
const EMBED_LIMIT: Duration = Duration::from_millis(1500);
/// How long recall may take altogether: a turn does not wait for it any longer.
const RECALL_LIMIT: Duration = Duration::from_secs(3);
/// Known memories that the model is shown when it looks for new ones.
const NEAR: usize = 30;
/// Memories that get their vectors at once, where they lack them.
const REFRESH: usize = 256;

/// A change of a memory by its user. Absent: as before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Correction {
    /// What it says.
    pub content: Option<String>,
    /// Its kind.
    pub kind: Option<MemoryKind>,
    /// Its tags.
    pub tags: Option<Vec<String>>,
}

/// The long-term memory of all users.
pub struct LongTermMemory {
    store: Arc<dyn LongTermStore>,
    embedder: Option<Arc<dyn Embedder>>,
    /// The most memories that a message recalls.
    max_memories: usize,
    /// One refreshing of vectors at a time.
    refreshing: Mutex<()>,
}

impl LongTermMemory {
    /// Memories in `store`, compared by meaning with `embedder`, or by their words alone.
    #[must_use]
    pub fn new(store: Arc<dyn LongTermStore>, embedder: Option<Arc<dyn Embedder>>, max_memories: usize) -> Arc<Self> {
        Arc::new(Self { store, embedder, max_memories, refreshing: Mutex::default() })
    }

    /// The memories that speak to what a user says. What goes wrong, or takes too long, costs the recall and nothing else.
    pub async fn recall(self: &Arc<Self>, user: &UserId, message: &str) -> Vec<MemoryNote> {
        match timeout(RECALL_LIMIT, self.search(user, message, self.max_memories)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!(%user, %error, "no memories are recalled");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!(%user, "no memories are recalled: it took too long");
                Vec::new()
            }
        }
    }

    /// The memories that speak to a text, the best first.
    ///
    /// # Errors
    /// Those of the store. An embedding that fails is none: then the words decide.
    pub async fn search(
        self: &Arc<Self>,
        user: &UserId,
        text: &str,
        limit: usize,
    ) -> Result<Vec<MemoryNote>, StoreError> {
        let memories = self.store.memories(user).await?;
        if memories.is_empty() {
            return Ok(Vec::new());
        }
        self.refresh_in_background(user, &memories);
        let vector = self.vector(text).await;
        let ranked = rank(&memories, text, vector.as_ref(), limit, Timestamp::now());
        Ok(ranked.into_iter().map(|ranked| note(&ranked.stored.memory, Some(ranked.score))).collect())
    }

    /// The known memories that are near to a conversation, for the one who looks for new ones.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn near(&self, user: &UserId, conversation: &str) -> Result<Vec<StoredMemory>, StoreError> {
        let memories = self.store.memories(user).await?;
        let vector = if memories.is_empty() { None } else { self.vector(conversation).await };
        let ranked = rank(&memories, conversation, vector.as_ref(), NEAR, Timestamp::now());
        Ok(ranked.into_iter().map(|ranked| ranked.stored.clone()).collect())
    }

    /// Takes in what was learned, and says what of it is new or changed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn learn(
        &self,
        user: &UserId,
        source: &MemorySource,
        mut learned: Vec<Learned>,
    ) -> Result<Vec<MemoryNote>, StoreError> {
        if learned.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<String> = learned.iter().map(|one| one.content.clone()).collect();
        for (one, vector) in learned.iter_mut().zip(self.vectors(&texts).await) {
            one.vector = vector;
        }
        let known = self.store.memories(user).await?;
        let changed = merge(&known, learned, source, Timestamp::now());
        self.store.put_memories(user, &changed).await?;
        let notes = changed.iter().filter(|stored| stored.memory.superseded_by.is_none());
        Ok(notes.map(|stored| note(&stored.memory, None)).collect())
    }

    /// All memories of a user, the newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn all(&self, user: &UserId) -> Result<Vec<Memory>, StoreError> {
        let memories = self.store.memories(user).await?;
        Ok(memories.iter().rev().map(|stored| stored.memory.clone()).collect())
    }

    /// Corrects a memory; `None` when the user has no such.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn correct(
        &self,
        user: &UserId,
        id: MemoryId,
        correction: Correction,
    ) -> Result<Option<Memory>, StoreError> {
        let memories = self.store.memories(user).await?;
        let Some(mut stored) = memories.iter().find(|stored| stored.memory.id == id).cloned() else { return Ok(None) };
        let Correction { content, kind, tags } = correction;
        if let Some(content) = content {
            stored.vector = self.vector(&content).await;
            stored.memory.content = content;
            // Nobody is surer than the user.
            stored.memory.confidence = 1.0;
            stored.memory.superseded_by = None;
        }
        stored.memory.kind = kind.unwrap_or(stored.memory.kind);
        stored.memory.tags = tags.unwrap_or(stored.memory.tags);
        stored.memory.updated_at = Timestamp::now();
        self.store.put_memories(user, std::slice::from_ref(&stored)).await?;
        Ok(Some(stored.memory))
    }

    /// Forgets one memory; whether it was there.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn forget(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        self.store.delete_memory(user, id).await
    }

    /// Forgets all memories of a user; how many there were.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn forget_all(&self, user: &UserId) -> Result<usize, StoreError> {
        self.store.delete_memories(user).await
    }

    async fn vector(&self, text: &str) -> Option<Vector> {
        self.vectors(std::slice::from_ref(&text.to_owned())).await.pop().flatten()
    }

    /// The meanings of texts, as far as they can be had in time.
    async fn vectors(&self, texts: &[String]) -> Vec<Option<Vector>> {
        let nothing = vec![None; texts.len()];
        let Some(embedder) = &self.embedder else { return nothing };
        match timeout(EMBED_LIMIT, embedder.embed(texts)).await {
            Ok(Ok(vectors)) => vectors.into_iter().map(Some).collect(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "no embedding; memories are compared by their words");
                nothing
            }
            Err(_) => {
                tracing::warn!("no embedding in time; memories are compared by their words");
                nothing
            }
        }
    }

    /// Gives memories that lack a vector of the model in use one: they were written while it was away, or before it was
    /// chosen. Vectors of two models are never compared.
    fn refresh_in_background(self: &Arc<Self>, user: &UserId, memories: &[StoredMemory]) {
        let Some(embedder) = &self.embedder else { return };
        let lacks =
            |stored: &&StoredMemory| stored.vector.as_ref().is_none_or(|vector| vector.model != embedder.name());
        let lacking: Vec<MemoryId> =
            memories.iter().filter(lacks).take(REFRESH).map(|stored| stored.memory.id).collect();
        if lacking.is_empty() {
            return;
        }
        let (this, user) = (Arc::clone(self), user.clone());
        tokio::spawn(async move {
            let Ok(_one) = this.refreshing.try_lock() else { return };
            if let Err(error) = this.refresh(&user, &lacking).await {
                tracing::warn!(%user, %error, "the vectors of memories could not be made anew");
            }
        });
    }

    async fn refresh(&self, user: &UserId, lacking: &[MemoryId]) -> anyhow::Result<()> {
        let Some(embedder) = &self.embedder else { return Ok(()) };
        let contents = |memories: &[StoredMemory]| -> BTreeMap<MemoryId, String> {
            let wanted = memories.iter().filter(|stored| lacking.contains(&stored.memory.id));
            wanted.map(|stored| (stored.memory.id, stored.memory.content.clone())).collect()
        };
        let before = contents(&self.store.memories(user).await?);
        let texts: Vec<String> = before.values().cloned().collect();
        let vectors = embedder.embed(&texts).await?;
        let made: BTreeMap<MemoryId, Vector> = before.keys().copied().zip(vectors).collect();
        // Those that were corrected or forgotten in the meantime are left alone.
        let now = self.store.memories(user).await?;
        let still = contents(&now);
        let changed: Vec<StoredMemory> = now
            .iter()
            .filter(|stored| {
                before.get(&stored.memory.id).is_some_and(|text| still.get(&stored.memory.id) == Some(text))
            })
            .filter_map(|stored| {
                let vector = made.get(&stored.memory.id)?.clone();
                Some(StoredMemory { vector: Some(vector), ..stored.clone() })
            })
            .collect();
        self.store.put_memories(user, &changed).await?;
        Ok(())
    }
}

fn note(memory: &Memory, score: Option<f32>) -> MemoryNote {
    MemoryNote { id: memory.id, kind: memory.kind, content: memory.content.clone(), score }
}
