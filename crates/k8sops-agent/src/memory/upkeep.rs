//! Vectors for memories that lack one of the model in use: they were learned while the embedder was away, or before this
//! model was chosen.

use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use k8sops_core::{
    EmbeddingSpace, EmbeddingVector, MemoryChange, MemoryId, MemoryStore, MemoryWrite, SearchEmbedding, StoreError,
    UpkeepClaim, UserId, UserMemory,
};
use k8sops_models::{EmbeddingModel, ModelError};

/// Memories of one step: a server on a small machine embeds so many within a second, and a store writes them at once.
const STEP: usize = 32;
/// The most users that wait for their turn. Those beyond come up again with their next search.
const MOST_USERS: usize = 64;
/// How long a step may take. The claim on a user outlasts it.
const STEP_LIMIT: Duration = Duration::from_secs(60);
const CLAIM: Duration = Duration::from_secs(120);
/// The waits while the embedder is away double from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(300);
/// A text that the embedder does not take is tried again after this.
const POISON_FOR: Duration = Duration::from_secs(3600);
/// What is left of a text that the embedder may have found too long, in bytes.
const SHORTENED: usize = 400;
/// A text that every embedder takes.
const HARMLESS: &str = "kubernetes";

/// The care for vectors.
pub(super) struct Upkeep {
    store: Arc<dyn MemoryStore>,
    embedder: Arc<dyn EmbeddingModel>,
    /// What this process is called by the others.
    holder: String,
    tasks: TaskTracker,
    stopped: CancellationToken,
    /// One user at a time: the embedder is there for recall first.
    turn: Semaphore,
    /// Users that are taken care of, or wait for it.
    users: Mutex<HashSet<UserId>>,
    /// Texts that the embedder does not take, by memory.
    poison: Mutex<HashMap<MemoryId, (u64, Instant)>>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Upkeep {
    pub(super) fn new(store: Arc<dyn MemoryStore>, embedder: Arc<dyn EmbeddingModel>) -> Arc<Self> {
        Arc::new(Self {
            store,
            embedder,
            holder: format!("{:016x}", fastrand::u64(..)),
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
            turn: Semaphore::new(1),
            users: Mutex::default(),
            poison: Mutex::default(),
        })
    }

    /// Whether a vector in this space can be compared with the embedder's.
    pub(super) fn is_wanted(&self, space: Option<&EmbeddingSpace>) -> bool {
        let dimensions = self.embedder.dimensions();
        space.is_some_and(|space| {
            *space.model == *self.embedder.name() && dimensions.is_none_or(|wanted| wanted == space.dimensions)
        })
    }

    /// Sees to it, in the background, that all memories of a user get their vectors.
    pub(super) fn tend(self: &Arc<Self>, user: &UserId) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopped.is_cancelled() || users.len() >= MOST_USERS || !users.insert(user.clone()) {
            return;
        }
        drop(users);
        let tended = Tended { upkeep: Arc::clone(self), user: user.clone() };
        self.tasks.spawn(async move {
            let stopped = tended.upkeep.stopped.clone();
            stopped.run_until_cancelled(tended.upkeep.all_of(&tended.user)).await;
        });
    }

    /// Ends what is under way; what is left to do is done by another process, or by the next.
    pub(super) async fn stop(&self) {
        self.stopped.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn all_of(&self, user: &UserId) {
        let Ok(_turn) = self.turn.acquire().await else { return };
        let mut wait = FIRST_WAIT;
        loop {
            let step = async {
                if self.store.claim_embedding_upkeep(user, &self.holder, CLAIM).await? == UpkeepClaim::HeldByAnother {
                    // Another process is at it.
                    return Ok(true);
                }
                self.step(user).await
            };
            match step.await {
                Ok(true) => break,
                Ok(false) => wait = FIRST_WAIT,
                Err(error) => {
                    tracing::warn!(%user, %error, wait = wait.as_secs(), "the vectors of memories cannot be made now");
                    sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    wait = (wait * 2).min(LAST_WAIT);
                }
            }
        }
        // Should this fail, the claim runs out.
        let _ = self.store.release_embedding_upkeep(user, &self.holder).await;
    }

    /// Makes some vectors; whether all are made.
    async fn step(&self, user: &UserId) -> Result<bool, StepError> {
        let memories = self.store.read_memories(user).await?;
        let now = k8sops_core::Timestamp::now();
        let lacking: Vec<UserMemory> = {
            let mut poison = self.poison.lock().unwrap_or_else(PoisonError::into_inner);
            poison.retain(|_, (_, since)| since.elapsed() < POISON_FOR);
            let is_poison =
                |memory: &UserMemory| poison.get(&memory.id).is_some_and(|(text, _)| *text == digest(memory));
            let lacking = memories.all.iter().filter(|stored| !self.is_wanted(stored.space.as_ref()));
            let lacking = lacking.map(|stored| &stored.memory).filter(|memory| memory.is_current(now));
            lacking.filter(|memory| !is_poison(memory)).take(STEP).cloned().collect()
        };
        if lacking.is_empty() {
            return Ok(true);
        }
        let made = self.vectors(&lacking).await?;
        self.write(user, &made).await?;
        Ok(false)
    }

    async fn vectors(&self, memories: &[UserMemory]) -> Result<Vec<(UserMemory, EmbeddingVector)>, ModelError> {
        let texts: Vec<String> = memories.iter().map(|memory| memory.content.clone()).collect();
        if let Ok(vectors) = self.embed(&texts).await {
            return Ok(memories.iter().cloned().zip(vectors).collect());
        }
        // Is the embedder away, or does it not take one of these?
        self.embed(&[HARMLESS.to_owned()]).await?;
        let mut made = Vec::new();
        for memory in memories {
            let short = memory.content[..memory.content.floor_char_boundary(SHORTENED)].to_owned();
            let mut vector = self.embed(std::slice::from_ref(&memory.content)).await;
            if vector.is_err() && short != memory.content {
                vector = self.embed(&[short]).await;
            }
            if let Some(vector) = vector.ok().and_then(|mut vectors| vectors.pop()) {
                made.push((memory.clone(), vector));
            } else {
                tracing::warn!(memory = %memory.id, "the embedder does not take a memory; its words are left");
                let mut poison = self.poison.lock().unwrap_or_else(PoisonError::into_inner);
                poison.insert(memory.id, (digest(memory), Instant::now()));
            }
        }
        Ok(made)
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<EmbeddingVector>, ModelError> {
        match timeout(STEP_LIMIT, self.embedder.embed(texts)).await {
            Ok(vectors) => vectors,
            Err(_) => Err(ModelError::Timeout(format!("no embedding within {} s", STEP_LIMIT.as_secs()))),
        }
    }

    /// Those that were corrected or forgotten in the meantime are left alone.
    async fn write(&self, user: &UserId, made: &[(UserMemory, EmbeddingVector)]) -> Result<(), StoreError> {
        loop {
            let memories = self.store.read_memories(user).await?;
            let changes: Vec<MemoryChange> = made
                .iter()
                .filter_map(|(before, vector)| {
                    let memory = &memories.get(before.id)?.memory;
                    let meaning = SearchEmbedding::Known(vector.clone());
                    (memory.content == before.content).then(|| MemoryChange { memory: memory.clone(), meaning })
                })
                .collect();
            // When somebody else has written meanwhile: once more.
            if self.store.write_memories(user, memories.version, &changes).await? == MemoryWrite::Written {
                return Ok(());
            }
        }
    }
}

/// A user that is taken care of, as long as this lives.
struct Tended {
    upkeep: Arc<Upkeep>,
    user: UserId,
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.upkeep.users.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.user);
    }
}

fn digest(memory: &UserMemory) -> u64 {
    let mut hasher = DefaultHasher::new();
    memory.content.hash(&mut hasher);
    hasher.finish()
}
