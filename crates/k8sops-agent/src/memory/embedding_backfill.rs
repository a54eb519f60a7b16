//! Fills in embeddings for memories that have none of the model in use, because the embedding model was unavailable or another
//! one was configured.

use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use k8sops_core::{
    EmbeddingChange, EmbeddingSpace, EmbeddingVector, MemoryChange, MemoryId, MemoryStore, MemoryWrite, StoreError,
    UpkeepClaim, UserId, UserMemory,
};
use k8sops_models::{EmbeddingModel, ModelError, ModelErrorKind};

/// Memories per batch: a server on a small machine embeds 32 within a second.
const BATCH_SIZE: usize = 32;
/// Upper bound of queued users. Others are scheduled again by their next search.
const MAX_QUEUED_USERS: usize = 64;
/// Time limit of a batch, below that of the claim.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long this process claims a user.
const CLAIM_TTL: Duration = Duration::from_secs(120);
/// Bounds of the exponential backoff while the embedding model is unavailable.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// How long a text that the model rejects is skipped.
const REJECTED_TTL: Duration = Duration::from_secs(3600);
/// Bytes of a text that is retried because it may have been too long.
const SHORTENED_BYTES: usize = 400;
/// A text that every embedding model accepts.
const PROBE_TEXT: &str = "kubernetes";

/// The background task that fills in embeddings.
pub(super) struct EmbeddingBackfill {
    store: Arc<dyn MemoryStore>,
    embedder: Arc<dyn EmbeddingModel>,
    /// The name of this process in claims.
    holder: String,
    tasks: TaskTracker,
    stopped: CancellationToken,
    /// Serializes users, because retrieval needs the embedding model first.
    one_user: Semaphore,
    /// Users in progress or queued.
    users: Mutex<HashSet<UserId>>,
    /// Texts that the model rejected, by memory.
    rejected_texts: Mutex<HashMap<MemoryId, (u64, Instant)>>,
}

/// Why a batch failed.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl EmbeddingBackfill {
    pub(super) fn new(store: Arc<dyn MemoryStore>, embedder: Arc<dyn EmbeddingModel>) -> Arc<Self> {
        Arc::new(Self {
            store,
            embedder,
            holder: format!("{:016x}", fastrand::u64(..)),
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
            one_user: Semaphore::new(1),
            users: Mutex::default(),
            rejected_texts: Mutex::default(),
        })
    }

    /// Returns whether an embedding in this space can be compared with those of the model.
    pub(super) fn is_current_space(&self, space: Option<&EmbeddingSpace>) -> bool {
        let dimensions = self.embedder.dimensions();
        space.is_some_and(|space| {
            *space.model == *self.embedder.name() && dimensions.is_none_or(|wanted| wanted == space.dimensions)
        })
    }

    /// Schedules the memories of a user in the background.
    pub(super) fn schedule_user(self: &Arc<Self>, user: &UserId) {
        let mut users = self.users.lock();
        if self.stopped.is_cancelled() || users.len() >= MAX_QUEUED_USERS || !users.insert(user.clone()) {
            return;
        }
        drop(users);
        let guard = BackfillGuard { backfill: Arc::clone(self), user: user.clone() };
        self.tasks.spawn(async move {
            let stopped = guard.backfill.stopped.clone();
            stopped.run_until_cancelled(guard.backfill.backfill_user(&guard.user)).await;
        });
    }

    /// Stops all work. Another process, or the next start, continues it.
    pub(super) async fn shutdown(&self) {
        self.stopped.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn backfill_user(&self, user: &UserId) {
        let Ok(_permit) = self.one_user.acquire().await else { return };
        let mut wait = MIN_BACKOFF;
        loop {
            let batch = async {
                if self.store.claim_embedding_upkeep(user, &self.holder, CLAIM_TTL).await? == UpkeepClaim::HeldByAnother
                {
                    // Another process has the claim.
                    return Ok(true);
                }
                self.embed_batch(user).await
            };
            match batch.await {
                Ok(true) => break,
                Ok(false) => wait = MIN_BACKOFF,
                Err(error) => {
                    // Once until a batch succeeds again.
                    if wait == MIN_BACKOFF {
                        tracing::warn!(%user, %error, "embedding backfill failed, retrying");
                    } else {
                        tracing::debug!(%user, %error, wait = wait.as_secs(), "embedding backfill failed, retrying");
                    }
                    sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    wait = (wait * 2).min(MAX_BACKOFF);
                }
            }
        }
        // If this fails, the claim expires.
        let _ = self.store.release_embedding_upkeep(user, &self.holder).await;
    }

    /// Embeds one batch; returns whether nothing is left.
    async fn embed_batch(&self, user: &UserId) -> Result<bool, BatchError> {
        let memories = self.store.read_memories(user).await?;
        let now = k8sops_core::Timestamp::now();
        let missing: Vec<UserMemory> = {
            let mut rejected_texts = self.rejected_texts.lock();
            rejected_texts.retain(|_, (_, since)| since.elapsed() < REJECTED_TTL);
            let is_rejected = |memory: &UserMemory| {
                rejected_texts.get(&memory.id).is_some_and(|(text, _)| *text == content_digest(memory))
            };
            let missing = memories.all.iter().filter(|stored| !self.is_current_space(stored.space.as_ref()));
            let missing = missing.map(|stored| &stored.memory).filter(|memory| memory.is_valid_at(now));
            missing.filter(|memory| !is_rejected(memory)).take(BATCH_SIZE).cloned().collect()
        };
        if missing.is_empty() {
            return Ok(true);
        }
        let made = self.embed_memories(&missing).await?;
        self.write_embeddings(user, &made).await?;
        Ok(false)
    }

    async fn embed_memories(&self, memories: &[UserMemory]) -> Result<Vec<(UserMemory, EmbeddingVector)>, ModelError> {
        let texts: Vec<String> = memories.iter().map(|memory| memory.content.clone()).collect();
        if let Ok(vectors) = self.embed_texts(&texts).await {
            return Ok(memories.iter().cloned().zip(vectors).collect());
        }
        // Is the model unavailable, or does it reject one of these texts?
        self.embed_texts(&[PROBE_TEXT.to_owned()]).await?;
        let mut made = Vec::new();
        for memory in memories {
            let short = memory.content[..memory.content.floor_char_boundary(SHORTENED_BYTES)].to_owned();
            let mut vector = self.embed_texts(std::slice::from_ref(&memory.content)).await;
            if vector.is_err() && short != memory.content {
                vector = self.embed_texts(&[short]).await;
            }
            if let Some(vector) = vector.ok().and_then(|mut vectors| vectors.pop()) {
                made.push((memory.clone(), vector));
            } else {
                tracing::warn!(memory = %memory.id, "embedding model rejected a memory, keywords only");
                let mut rejected_texts = self.rejected_texts.lock();
                rejected_texts.insert(memory.id, (content_digest(memory), Instant::now()));
            }
        }
        Ok(made)
    }

    async fn embed_texts(&self, texts: &[String]) -> Result<Vec<EmbeddingVector>, ModelError> {
        match timeout(BATCH_TIMEOUT, self.embedder.embed(texts)).await {
            Ok(vectors) => vectors,
            Err(_) => Err(ModelError::new(
                ModelErrorKind::Timeout,
                format!("no embedding within {} s", BATCH_TIMEOUT.as_secs()),
            )),
        }
    }

    /// Writes embeddings, except of memories that were corrected or deleted in the meantime.
    async fn write_embeddings(&self, user: &UserId, made: &[(UserMemory, EmbeddingVector)]) -> Result<(), StoreError> {
        loop {
            let memories = self.store.read_memories(user).await?;
            let changes: Vec<MemoryChange> = made
                .iter()
                .filter_map(|(before, vector)| {
                    let memory = &memories.get(before.id)?.memory;
                    let meaning = EmbeddingChange::Set(vector.clone());
                    (memory.content == before.content)
                        .then(|| MemoryChange { memory: memory.clone(), embedding: meaning })
                })
                .collect();
            // Retried when another writer was faster.
            if self.store.write_memories(user, memories.version, &changes).await? == MemoryWrite::Written {
                return Ok(());
            }
        }
    }
}

/// Removes its user from the queue when dropped.
struct BackfillGuard {
    backfill: Arc<EmbeddingBackfill>,
    user: UserId,
}

impl Drop for BackfillGuard {
    fn drop(&mut self) {
        self.backfill.users.lock().remove(&self.user);
    }
}

fn content_digest(memory: &UserMemory) -> u64 {
    let mut hasher = DefaultHasher::new();
    memory.content.hash(&mut hasher);
    hasher.finish()
}
