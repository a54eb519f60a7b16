//! The long-term memory of all users: recall, learning, and what users do with their memories themselves.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{
    Learned,
    index::{Index, MemoryCandidate},
    lru::Lru,
    merge::merge,
    rank::rank,
    upkeep::Upkeep,
};
use k8sops_core::{
    EmbeddingVector, MemoryChange, MemoryId, MemoryKind, MemoryNote, MemorySource, MemoryStore, MemoryWrite,
    SearchEmbedding, SessionId, StoreError, StoredMemory, Timestamp, UserId, UserMemories, UserMemory,
};
use k8sops_models::EmbeddingModel;

/// How long recall may wait for the meaning of a message: without it the words decide.
const EMBED_LIMIT: Duration = Duration::from_millis(1500);
/// How long recall may take altogether: a turn does not wait for it any longer.
const RECALL_LIMIT: Duration = Duration::from_secs(3);
/// How long learning waits for meanings. Nobody waits for it; what it does not get is made later.
const LEARN_LIMIT: Duration = Duration::from_secs(20);
/// Known memories that the model is shown when it looks for new ones.
const NEAR: usize = 30;
/// Memories that are looked at of each kind, those nearest in meaning and those with the most words in common, before they
/// are ranked: several times what is wanted.
const CANDIDATES: usize = 64;
/// And before what was learned is held against them: of one fact there are not many tellings.
const ALIKE: usize = 10;
/// Users whose words are held.
const INDEXED: usize = 64;
/// Questions whose meaning is held: 1,024 of 1,536 dimensions are 6 MiB.
const QUESTIONS: usize = 1024;
/// A longer text is not held, in bytes.
const LONGEST_QUESTION: usize = 2048;
/// How often a change is tried anew because somebody else has written meanwhile, and the wait in between.
const ATTEMPTS: u32 = 32;
const ATTEMPT_WAIT: Duration = Duration::from_millis(20);

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
    store: Arc<dyn MemoryStore>,
    embedder: Option<Arc<dyn EmbeddingModel>>,
    /// Makes the vectors that are missing, where there is an embedder.
    upkeep: Option<Arc<Upkeep>>,
    /// The most memories that a message recalls.
    max_memories: usize,
    indices: Mutex<Lru<UserId, Arc<Mutex<Index>>>>,
    /// Meanings of what was asked lately. All are of the one embedder.
    questions: Mutex<Lru<String, EmbeddingVector>>,
}

impl LongTermMemory {
    /// Memories in `store`, compared by meaning with `embedder`, or by their words alone.
    #[must_use]
    pub fn new(
        store: Arc<dyn MemoryStore>,
        embedder: Option<Arc<dyn EmbeddingModel>>,
        max_memories: usize,
    ) -> Arc<Self> {
        let upkeep = embedder.clone().map(|embedder| Upkeep::new(Arc::clone(&store), embedder));
        Arc::new(Self {
            store,
            embedder,
            upkeep,
            max_memories,
            indices: Mutex::new(Lru::new(INDEXED)),
            questions: Mutex::new(Lru::new(QUESTIONS)),
        })
    }

    /// Ends what is under way in the background. To be called before the store is closed.
    pub async fn stop(&self) {
        if let Some(upkeep) = &self.upkeep {
            upkeep.stop().await;
        }
    }

    /// The memories that speak to what a user says; `None` when something went wrong, or took too long. That costs the
    /// recall and nothing else.
    pub async fn recall(self: &Arc<Self>, user: &UserId, message: &str) -> Option<Vec<MemoryNote>> {
        match timeout(RECALL_LIMIT, self.search(user, message, self.max_memories)).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                tracing::warn!(%user, %error, "no memories are recalled");
                None
            }
            Err(_) => {
                tracing::warn!(%user, "no memories are recalled: it took too long");
                None
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
        let ranked = self.ranked(user, text, limit).await?;
        Ok(ranked.into_iter().map(|(found, score)| note(&found.stored.memory, Some(score))).collect())
    }

    /// The known memories that are near to a conversation, for the one who looks for new ones.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn near(&self, user: &UserId, conversation: &str) -> Result<Vec<StoredMemory>, StoreError> {
        let ranked = self.ranked(user, conversation, NEAR).await?;
        Ok(ranked.into_iter().map(|(found, _)| StoredMemory::clone(&found.stored)).collect())
    }

    async fn ranked(&self, user: &UserId, text: &str, limit: usize) -> Result<Vec<(MemoryCandidate, f32)>, StoreError> {
        let memories = self.store.read_memories(user).await?;
        if memories.all.is_empty() {
            return Ok(Vec::new());
        }
        let vector = self.question(text).await;
        let most = CANDIDATES.max(limit.saturating_mul(2));
        let mut found = self.candidates(user, &memories, vec![(text.to_owned(), vector)], most).await?;
        Ok(rank(found.pop().unwrap_or_default(), limit, Timestamp::now()))
    }

    /// For each text the memories that may speak to it.
    async fn candidates(
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
            let mut indices = self.indices.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = indices.get(user) {
                Arc::clone(index)
            } else {
                let index = Arc::default();
                indices.put(user.clone(), Arc::clone(&index));
                index
            }
        };
        let (memories, upkeep) = (memories.clone(), self.upkeep.clone());
        // Aside: the words of a hundred thousand memories take a second to cut, the first time.
        let looking = tokio::task::spawn_blocking(move || {
            let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
            index.update(&memories);
            let lacks = upkeep.is_some_and(|upkeep| index.lacks(|space| upkeep.is_wanted(space.as_ref())));
            let now = Timestamp::now();
            let found = near.iter().map(|(text, nearest)| index.candidates(text, nearest, most, now)).collect();
            (found, lacks)
        });
        let broke_off = |error| StoreError::unavailable("the search was aborted", error);
        let (found, lacks) = looking.await.map_err(broke_off)?;
        if let Some(upkeep) = self.upkeep.as_ref().filter(|_| lacks) {
            upkeep.tend(user);
        }
        Ok(found)
    }

    /// What is known of a user before a conversation of theirs is looked at.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn look(&self, user: &UserId, session: SessionId, after: u64) -> Result<Look, StoreError> {
        let known = self.store.read_memories(user).await?;
        Ok(Look { session, after, epoch: known.version.epoch, taken_in: taken_in(&known, session, after) })
    }

    /// Takes in what was learned from a conversation up to `up_to`, and says what of it is new or changed. What was learned
    /// from the same part of it before, by a process that could not say so, is not taken in again; and nothing is, when the
    /// user has had all memories erased since the look began.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn learn_from(
        &self,
        user: &UserId,
        look: &Look,
        up_to: u64,
        learned: Vec<Learned>,
    ) -> Result<Vec<MemoryNote>, StoreError> {
        let source = MemorySource { session_id: look.session, seq: up_to };
        self.take_in(user, &source, Some(look), learned).await
    }

    /// Takes in what was learned, wherever, and says what of it is new or changed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn learn(
        &self,
        user: &UserId,
        source: &MemorySource,
        learned: Vec<Learned>,
    ) -> Result<Vec<MemoryNote>, StoreError> {
        self.take_in(user, source, None, learned).await
    }

    async fn take_in(
        &self,
        user: &UserId,
        source: &MemorySource,
        look: Option<&Look>,
        mut learned: Vec<Learned>,
    ) -> Result<Vec<MemoryNote>, StoreError> {
        if learned.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<String> = learned.iter().map(|one| one.content.clone()).collect();
        for (one, vector) in learned.iter_mut().zip(self.vectors(&texts, LEARN_LIMIT).await) {
            one.vector = vector;
        }
        let mut attempt = 0;
        let changed = loop {
            let known = self.store.read_memories(user).await?;
            if let Some(look) = look {
                if let Some((notes, _)) = taken_in(&known, look.session, look.after) {
                    return Ok(notes);
                }
                if look.epoch != 0 && known.version.epoch != look.epoch {
                    return Ok(Vec::new());
                }
            }
            let texts = learned.iter().map(|one| (one.content.clone(), one.vector.clone())).collect();
            let candidates = self.candidates(user, &known, texts, ALIKE).await?;
            let all = learned.iter().cloned().zip(candidates).collect();
            let changed = merge(&known, all, source, Timestamp::now());
            if self.put(user, &known, &changed, &mut attempt).await? {
                break changed;
            }
        };
        if let Some(upkeep) =
            self.upkeep.as_ref().filter(|_| changed.iter().any(|c| c.meaning == SearchEmbedding::Unknown))
        {
            upkeep.tend(user);
        }
        let notes = changed.iter().filter(|change| change.memory.superseded_by.is_none());
        Ok(notes.map(|change| note(&change.memory, None)).collect())
    }

    /// Writes what was decided upon `known`; whether it still was what is known. If not, it waits a little, and after many
    /// attempts it gives up.
    async fn put(
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
        if *attempt == ATTEMPTS {
            return Err(StoreError::Unavailable(
                format!("the memories of {user} are changed by others all the time").into(),
            ));
        }
        sleep(ATTEMPT_WAIT.mul_f64(fastrand::f64() * f64::from((*attempt).min(8)))).await;
        Ok(false)
    }

    /// All memories of a user, the newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn all(&self, user: &UserId) -> Result<Vec<UserMemory>, StoreError> {
        let memories = self.store.read_memories(user).await?;
        Ok(memories.all.iter().rev().map(|stored| stored.memory.clone()).collect())
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
    ) -> Result<Option<UserMemory>, StoreError> {
        let Correction { content, kind, tags } = correction;
        let vector = match &content {
            Some(content) => self.vectors(std::slice::from_ref(content), EMBED_LIMIT).await.pop().flatten(),
            None => None,
        };
        let mut attempt = 0;
        loop {
            let known = self.store.read_memories(user).await?;
            let Some(stored) = known.get(id) else { return Ok(None) };
            let (mut memory, mut meaning) = (stored.memory.clone(), SearchEmbedding::Kept);
            if let Some(content) = &content {
                memory.content.clone_from(content);
                // Nobody is surer than the user.
                memory.confidence = 1.0;
                memory.superseded_by = None;
                meaning = vector.clone().into();
            }
            memory.kind = kind.unwrap_or(memory.kind);
            if let Some(tags) = &tags {
                memory.tags.clone_from(tags);
            }
            memory.updated_at = Timestamp::now();
            let change = MemoryChange { memory, meaning };
            if self.put(user, &known, std::slice::from_ref(&change), &mut attempt).await? {
                if let Some(upkeep) = self.upkeep.as_ref().filter(|_| change.meaning == SearchEmbedding::Unknown) {
                    upkeep.tend(user);
                }
                return Ok(Some(change.memory));
            }
        }
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
        self.store.delete_all_memories(user).await
    }

    /// The meaning of a question, which may have been asked before.
    async fn question(&self, text: &str) -> Option<EmbeddingVector> {
        let known = self.questions.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        if known.is_some() {
            return known;
        }
        let vector = self.vectors(std::slice::from_ref(&text.to_owned()), EMBED_LIMIT).await.pop().flatten()?;
        // A conversation is asked once, and is long.
        if text.len() <= LONGEST_QUESTION {
            let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
            questions.put(text.to_owned(), vector.clone());
        }
        Some(vector)
    }

    /// The meanings of texts, as far as they can be had in time.
    async fn vectors(&self, texts: &[String], limit: Duration) -> Vec<Option<EmbeddingVector>> {
        let nothing = vec![None; texts.len()];
        let Some(embedder) = &self.embedder else { return nothing };
        match timeout(limit, embedder.embed(texts)).await {
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
}

/// A look at a part of a conversation.
#[derive(Debug, Clone)]
pub struct Look {
    session: SessionId,
    /// The part begins after this event.
    after: u64,
    /// Which life of the user's memories it was begun in.
    epoch: u64,
    /// What was taken in of this part already, and up to which event.
    pub taken_in: Option<(Vec<MemoryNote>, u64)>,
}

/// What is known from the part of a session after an event, and up to which event it was looked at.
fn taken_in(known: &UserMemories, session: SessionId, after: u64) -> Option<(Vec<MemoryNote>, u64)> {
    let from_there = |stored: &&Arc<StoredMemory>| {
        let source = stored.memory.source.as_ref();
        source.is_some_and(|source| source.session_id == session && source.seq > after)
    };
    let found: Vec<_> = known.all.iter().filter(from_there).collect();
    let up_to = found.iter().filter_map(|stored| Some(stored.memory.source.as_ref()?.seq)).max()?;
    Some((found.iter().map(|stored| note(&stored.memory, None)).collect(), up_to))
}

fn note(memory: &UserMemory, score: Option<f32>) -> MemoryNote {
    MemoryNote { id: memory.id, kind: memory.kind, content: memory.content.clone(), score }
}
