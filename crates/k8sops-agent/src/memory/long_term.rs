//! The long-term memory of all users: retrieval, merging of extracted memories, and corrections by users.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::{
    embedding_backfill::EmbeddingBackfill,
    keyword_index::{KeywordIndex, MemoryCandidate},
    merge::{ExtractedMemory, merge_memories},
    rank::rank_candidates,
};
use k8sops_core::{
    EmbeddingChange, EmbeddingVector, MemoryChange, MemoryId, MemoryKind, MemoryNote, MemorySource, MemoryStore,
    MemoryWrite, SessionId, StoreError, StoredMemory, Timestamp, UserId, UserMemories, UserMemory,
};
use k8sops_models::EmbeddingModel;

/// Time limit of an embedding during retrieval; without it keywords decide.
const QUERY_EMBEDDING_TIMEOUT: Duration = Duration::from_millis(1500);
/// Time limit of a retrieval, which delays a run.
const RETRIEVAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit of the embeddings of extracted memories; missing ones are filled in later.
const EXTRACTION_EMBEDDING_TIMEOUT: Duration = Duration::from_secs(20);
/// Number of known memories that an extraction request shows.
const MAX_SIMILAR: usize = 30;
/// Candidates to rank, by embedding and by keywords each: several times the number of results.
const MIN_CANDIDATES: usize = 64;
/// Candidates that an extracted memory is compared with.
const MAX_COMPARED: usize = 10;
/// Number of users whose keyword index is cached.
const MAX_INDEXED_USERS: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Number of queries whose embedding is cached: 1,024 of 1,536 dimensions take 6 MiB.
const MAX_CACHED_QUERIES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Upper bound of a cached query, in bytes.
const MAX_CACHED_QUERY_BYTES: usize = 2048;
/// Attempts at a write while other writers are faster.
const MAX_WRITE_ATTEMPTS: u32 = 32;
/// Upper bound of the first delay between two attempts.
const WRITE_RETRY_DELAY: Duration = Duration::from_millis(20);

/// A correction of a memory by its user; absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryCorrection {
    /// The new content.
    pub content: Option<String>,
    /// The new kind.
    pub kind: Option<MemoryKind>,
    /// The new tags.
    pub tags: Option<Vec<String>>,
}

/// The long-term memory of all users.
pub struct LongTermMemory {
    store: Arc<dyn MemoryStore>,
    embedder: Option<Arc<dyn EmbeddingModel>>,
    /// Fills in missing embeddings, if there is an embedding model.
    backfill: Option<Arc<EmbeddingBackfill>>,
    /// Upper bound of memories that one message retrieves.
    max_memories: usize,
    indices: Mutex<LruCache<UserId, Arc<Mutex<KeywordIndex>>>>,
    /// Embeddings of recent queries, all by the one embedding model.
    query_embeddings: Mutex<LruCache<String, EmbeddingVector>>,
}

impl LongTermMemory {
    /// Creates the memory over `store`, which compares texts with `embedder`, or by keywords alone.
    #[must_use]
    pub fn new(
        store: Arc<dyn MemoryStore>,
        embedder: Option<Arc<dyn EmbeddingModel>>,
        max_memories: usize,
    ) -> Arc<Self> {
        let backfill = embedder.clone().map(|embedder| EmbeddingBackfill::new(Arc::clone(&store), embedder));
        Arc::new(Self {
            store,
            embedder,
            backfill,
            max_memories,
            indices: Mutex::new(LruCache::new(MAX_INDEXED_USERS)),
            query_embeddings: Mutex::new(LruCache::new(MAX_CACHED_QUERIES)),
        })
    }

    /// Stops the background task. Call it before the store is closed.
    pub async fn shutdown(&self) {
        if let Some(backfill) = &self.backfill {
            backfill.shutdown().await;
        }
    }

    /// Retrieves the memories that are relevant to a message; `None` after an error or a timeout.
    pub async fn retrieve_memories(self: &Arc<Self>, user: &UserId, message: &str) -> Option<Vec<MemoryNote>> {
        match timeout(RETRIEVAL_TIMEOUT, self.search_memories(user, message, self.max_memories)).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                tracing::warn!(%user, %error, "memory retrieval failed");
                None
            }
            Err(_) => {
                tracing::warn!(%user, "memory retrieval timed out");
                None
            }
        }
    }

    /// Returns the memories that are relevant to a text, the best first.
    ///
    /// # Errors
    /// Store errors. A failed embedding is not an error: keywords decide then.
    pub async fn search_memories(
        self: &Arc<Self>,
        user: &UserId,
        text: &str,
        limit: usize,
    ) -> Result<Vec<MemoryNote>, StoreError> {
        let ranked = self.rank_memories(user, text, limit).await?;
        Ok(ranked.into_iter().map(|(found, score)| memory_note(&found.stored.memory, Some(score))).collect())
    }

    /// Returns the known memories that are similar to a conversation, for an extraction.
    ///
    /// # Errors
    /// Store errors.
    pub async fn find_similar(&self, user: &UserId, conversation: &str) -> Result<Vec<StoredMemory>, StoreError> {
        let ranked = self.rank_memories(user, conversation, MAX_SIMILAR).await?;
        Ok(ranked.into_iter().map(|(found, _)| StoredMemory::clone(&found.stored)).collect())
    }

    async fn rank_memories(
        &self,
        user: &UserId,
        text: &str,
        limit: usize,
    ) -> Result<Vec<(MemoryCandidate, f32)>, StoreError> {
        let memories = self.store.read_memories(user).await?;
        if memories.all.is_empty() {
            return Ok(Vec::new());
        }
        let vector = self.embed_query(text).await;
        let most = MIN_CANDIDATES.max(limit.saturating_mul(2));
        let mut found = self.find_candidates(user, &memories, vec![(text.to_owned(), vector)], most).await?;
        Ok(rank_candidates(found.pop().unwrap_or_default(), limit, Timestamp::now()))
    }

    /// Returns for each text the memories that may be relevant to it.
    async fn find_candidates(
        &self,
        user: &UserId,
        memories: &UserMemories,
        texts: Vec<(String, Option<EmbeddingVector>)>,
        most: usize,
    ) -> Result<Vec<Vec<MemoryCandidate>>, StoreError> {
        let mut near = Vec::with_capacity(texts.len());
        for (text, vector) in texts {
            let nearest = match &vector {
                Some(vector) => self.store.find_nearest_memories(user, vector, most).await?,
                None => Vec::new(),
            };
            near.push((text, nearest));
        }
        let index = {
            let mut indices = self.indices.lock();
            if let Some(index) = indices.get(user) {
                Arc::clone(index)
            } else {
                let index = Arc::default();
                indices.put(user.clone(), Arc::clone(&index));
                index
            }
        };
        let (memories, backfill) = (memories.clone(), self.backfill.clone());
        // Off the async runtime: indexing a hundred thousand memories takes a second the first time.
        let search = tokio::task::spawn_blocking(move || {
            let mut index = index.lock();
            index.update(&memories);
            let lacks = backfill
                .is_some_and(|backfill| index.lacks_embedding(|space| backfill.is_current_space(space.as_ref())));
            let now = Timestamp::now();
            let found = near.iter().map(|(text, nearest)| index.find_candidates(text, nearest, most, now)).collect();
            (found, lacks)
        });
        let task_failed = |error| StoreError::unavailable("the search was aborted", error);
        let (found, lacks) = search.await.map_err(task_failed)?;
        if let Some(backfill) = self.backfill.as_ref().filter(|_| lacks) {
            backfill.schedule_user(user);
        }
        Ok(found)
    }

    /// Starts an extraction pass over a conversation of a user.
    ///
    /// # Errors
    /// Store errors.
    pub async fn start_extraction(
        &self,
        user: &UserId,
        session: SessionId,
        after: u64,
    ) -> Result<ExtractionPass, StoreError> {
        let known = self.store.read_memories(user).await?;
        Ok(ExtractionPass {
            session,
            after,
            epoch: known.version.epoch,
            already_merged: find_merged(&known, session, after),
        })
    }

    /// Merges memories that were extracted from a conversation up to `up_to`; returns the new and changed ones. Memories that an
    /// earlier process extracted from the same part are not merged again, and nothing is merged if the user erased all
    /// memories since the pass started.
    ///
    /// # Errors
    /// Store errors.
    pub async fn merge_extraction(
        &self,
        user: &UserId,
        pass: &ExtractionPass,
        up_to: u64,
        extracted: Vec<ExtractedMemory>,
    ) -> Result<Vec<MemoryNote>, StoreError> {
        let source = MemorySource { session_id: pass.session, seq: up_to };
        self.merge_extracted(user, &source, Some(pass), extracted).await
    }

    /// Merges extracted memories; returns the new and changed ones.
    ///
    /// # Errors
    /// Store errors.
    pub async fn merge_memories_from(
        &self,
        user: &UserId,
        source: &MemorySource,
        extracted: Vec<ExtractedMemory>,
    ) -> Result<Vec<MemoryNote>, StoreError> {
        self.merge_extracted(user, source, None, extracted).await
    }

    async fn merge_extracted(
        &self,
        user: &UserId,
        source: &MemorySource,
        pass: Option<&ExtractionPass>,
        mut extracted: Vec<ExtractedMemory>,
    ) -> Result<Vec<MemoryNote>, StoreError> {
        if extracted.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<String> = extracted.iter().map(|one| one.content.clone()).collect();
        for (one, vector) in extracted.iter_mut().zip(self.embed_texts(&texts, EXTRACTION_EMBEDDING_TIMEOUT).await) {
            one.vector = vector;
        }
        let mut attempt = 0;
        let changed = loop {
            let known = self.store.read_memories(user).await?;
            if let Some(pass) = pass {
                if let Some((notes, _)) = find_merged(&known, pass.session, pass.after) {
                    return Ok(notes);
                }
                if pass.epoch != 0 && known.version.epoch != pass.epoch {
                    return Ok(Vec::new());
                }
            }
            let texts = extracted.iter().map(|one| (one.content.clone(), one.vector.clone())).collect();
            let candidates = self.find_candidates(user, &known, texts, MAX_COMPARED).await?;
            let all = extracted.iter().cloned().zip(candidates).collect();
            let changed = merge_memories(&known, all, source, Timestamp::now());
            if self.write_changes(user, &known, &changed, &mut attempt).await? {
                break changed;
            }
        };
        if let Some(backfill) =
            self.backfill.as_ref().filter(|_| changed.iter().any(|c| c.embedding == EmbeddingChange::Clear))
        {
            backfill.schedule_user(user);
        }
        let notes = changed.iter().filter(|change| change.memory.superseded_by.is_none());
        Ok(notes.map(|change| memory_note(&change.memory, None)).collect())
    }

    /// Writes changes that were computed from `known`; returns whether `known` was still current. If not, waits with jitter, and
    /// fails after [`MAX_WRITE_ATTEMPTS`] attempts.
    async fn write_changes(
        &self,
        user: &UserId,
        known: &UserMemories,
        changes: &[MemoryChange],
        attempt: &mut u32,
    ) -> Result<bool, StoreError> {
        if self.store.write_memories(user, known.version, changes).await? == MemoryWrite::Written {
            return Ok(true);
        }
        *attempt += 1;
        if *attempt == MAX_WRITE_ATTEMPTS {
            return Err(StoreError::Unavailable(
                format!("the memories of {user} are changed by others all the time").into(),
            ));
        }
        sleep(WRITE_RETRY_DELAY.mul_f64(fastrand::f64() * f64::from((*attempt).min(8)))).await;
        Ok(false)
    }

    /// Returns all memories of a user, the newest first.
    ///
    /// # Errors
    /// Store errors.
    pub async fn list_memories(&self, user: &UserId) -> Result<Vec<UserMemory>, StoreError> {
        let memories = self.store.read_memories(user).await?;
        Ok(memories.all.iter().rev().map(|stored| stored.memory.clone()).collect())
    }

    /// Corrects a memory; `None` when the user has no memory with this id.
    ///
    /// # Errors
    /// Store errors.
    pub async fn correct_memory(
        &self,
        user: &UserId,
        id: MemoryId,
        correction: MemoryCorrection,
    ) -> Result<Option<UserMemory>, StoreError> {
        let MemoryCorrection { content, kind, tags } = correction;
        let vector = match &content {
            Some(content) => {
                self.embed_texts(std::slice::from_ref(content), QUERY_EMBEDDING_TIMEOUT).await.pop().flatten()
            }
            None => None,
        };
        let mut attempt = 0;
        loop {
            let known = self.store.read_memories(user).await?;
            let Some(stored) = known.get(id) else { return Ok(None) };
            let (mut memory, mut meaning) = (stored.memory.clone(), EmbeddingChange::Keep);
            if let Some(content) = &content {
                memory.content.clone_from(content);
                // The user is the authority.
                memory.confidence = 1.0;
                memory.superseded_by = None;
                meaning = vector.clone().into();
            }
            memory.kind = kind.unwrap_or(memory.kind);
            if let Some(tags) = &tags {
                memory.tags.clone_from(tags);
            }
            memory.updated_at = Timestamp::now();
            let change = MemoryChange { memory, embedding: meaning };
            if self.write_changes(user, &known, std::slice::from_ref(&change), &mut attempt).await? {
                if let Some(backfill) = self.backfill.as_ref().filter(|_| change.embedding == EmbeddingChange::Clear) {
                    backfill.schedule_user(user);
                }
                return Ok(Some(change.memory));
            }
        }
    }

    /// Deletes a memory; returns whether it existed.
    ///
    /// # Errors
    /// Store errors.
    pub async fn delete_memory(&self, user: &UserId, id: MemoryId) -> Result<bool, StoreError> {
        self.store.delete_memory(user, id).await
    }

    /// Deletes all memories of a user; returns their number.
    ///
    /// # Errors
    /// Store errors.
    pub async fn delete_all_memories(&self, user: &UserId) -> Result<usize, StoreError> {
        self.store.delete_all_memories(user).await
    }

    /// Returns the embedding of a query, from the cache if possible.
    async fn embed_query(&self, text: &str) -> Option<EmbeddingVector> {
        let known = self.query_embeddings.lock().get(text).cloned();
        if known.is_some() {
            return known;
        }
        let vector =
            self.embed_texts(std::slice::from_ref(&text.to_owned()), QUERY_EMBEDDING_TIMEOUT).await.pop().flatten()?;
        // A conversation is queried once and is long.
        if text.len() <= MAX_CACHED_QUERY_BYTES {
            let mut query_embeddings = self.query_embeddings.lock();
            query_embeddings.put(text.to_owned(), vector.clone());
        }
        Some(vector)
    }

    /// Returns the embeddings of texts, `None` for those that failed or timed out.
    async fn embed_texts(&self, texts: &[String], limit: Duration) -> Vec<Option<EmbeddingVector>> {
        let nothing = vec![None; texts.len()];
        let Some(embedder) = &self.embedder else { return nothing };
        match timeout(limit, embedder.embed(texts)).await {
            Ok(Ok(vectors)) => vectors.into_iter().map(Some).collect(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "embedding failed, comparing memories by keywords");
                nothing
            }
            Err(_) => {
                tracing::warn!("embedding timed out, comparing memories by keywords");
                nothing
            }
        }
    }
}

/// A memory extraction over a part of a conversation.
#[derive(Debug, Clone)]
pub struct ExtractionPass {
    session: SessionId,
    /// The part starts after this event.
    after: u64,
    /// The epoch of the user's memories when it started; erasing all memories starts a new one.
    epoch: u64,
    /// Memories that were merged from this part already, and the event up to which it was read.
    pub already_merged: Option<(Vec<MemoryNote>, u64)>,
}

/// Returns the memories from the part of a session after an event, and the event up to which it was read.
fn find_merged(known: &UserMemories, session: SessionId, after: u64) -> Option<(Vec<MemoryNote>, u64)> {
    let from_there = |stored: &&Arc<StoredMemory>| {
        let source = stored.memory.source.as_ref();
        source.is_some_and(|source| source.session_id == session && source.seq > after)
    };
    let found: Vec<_> = known.all.iter().filter(from_there).collect();
    let up_to = found.iter().filter_map(|stored| Some(stored.memory.source.as_ref()?.seq)).max()?;
    Some((found.iter().map(|stored| memory_note(&stored.memory, None)).collect(), up_to))
}

fn memory_note(memory: &UserMemory, score: Option<f32>) -> MemoryNote {
    MemoryNote { id: memory.id, kind: memory.kind, content: memory.content.clone(), score }
}
