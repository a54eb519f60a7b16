//! Long-term memory over a store in memory, with an embedder that knows a few meanings.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::*;
use k8sops_core::{EmbeddingVector, MemoryKind, MemorySource, MemoryStore, SessionId, UserId};
use k8sops_models::{EmbeddingModel, ModelError, ModelErrorKind};
use k8sops_store::InMemoryStore;

/// Texts about the same of these words have the same meaning.
const MEANINGS: [&[&str]; 3] =
    [&["cluster", "mars-17", "where"], &["oncall", "anna", "who"], &["database", "postgres"]];

#[derive(Default)]
struct Meanings {
    name: &'static str,
    calls: AtomicUsize,
    away: AtomicBool,
    hangs: AtomicBool,
    /// A text with this word is refused, and all that come with it.
    poison: Option<&'static str>,
}

#[async_trait]
impl EmbeddingModel for Meanings {
    fn name(&self) -> &str {
        self.name
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<EmbeddingVector>, ModelError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(ModelError::new(ModelErrorKind::Network, "away"));
        }
        if self.poison.is_some_and(|poison| texts.iter().any(|text| text.contains(poison))) {
            return Err(ModelError::new(ModelErrorKind::InvalidRequest, "too long"));
        }
        let vector = |text: &String| {
            let lower = text.to_lowercase();
            let values = MEANINGS.map(|words| if words.iter().any(|word| lower.contains(word)) { 1.0 } else { 0.01 });
            EmbeddingVector { model: self.name.into(), values: values.into() }
        };
        Ok(texts.iter().map(vector).collect())
    }
}

fn user() -> UserId {
    "anna".parse().unwrap()
}

fn learned(content: &str) -> ExtractedMemory {
    ExtractedMemory {
        kind: MemoryKind::Semantic,
        content: content.into(),
        tags: Vec::new(),
        confidence: 1.0,
        expires_at: None,
        same_as: None,
        contradicts: None,
        vector: None,
    }
}

async fn memory_of(embedder: Option<Arc<Meanings>>) -> (Arc<LongTermMemory>, Arc<InMemoryStore>) {
    let store = Arc::new(InMemoryStore::default());
    let embedder = embedder.map(|embedder| embedder as Arc<dyn EmbeddingModel>);
    let memory = LongTermMemory::new(store.clone(), embedder, 2);
    let source = MemorySource { session_id: SessionId::new(), seq: 5 };
    let all = [
        "The shop runs on mars-17",
        "Anna is oncall on Mondays",
        "orders uses postgres",
        "payments-api needs 2 replicas",
    ];
    memory.merge_memories_from(&user(), &source, all.map(learned).to_vec()).await.unwrap();
    (memory, store)
}

/// The models of the vectors of all memories.
async fn spaces(store: &InMemoryStore) -> Vec<Option<String>> {
    let all = store.read_memories(&user()).await.unwrap().all;
    all.iter().map(|stored| stored.space.as_ref().map(|space| space.model.to_string())).collect()
}

async fn recalled(memory: &Arc<LongTermMemory>, message: &str) -> Vec<String> {
    memory.retrieve_memories(&user(), message).await.unwrap().into_iter().map(|note| note.content).collect()
}

#[tokio::test]
async fn a_message_recalls_what_speaks_to_it_and_no_more_than_is_wanted() {
    let (memory, _) = memory_of(Some(Arc::new(Meanings { name: "m", ..Meanings::default() }))).await;
    assert_eq!(recalled(&memory, "where does it run?").await, ["The shop runs on mars-17"]);
    assert_eq!(recalled(&memory, "restart payments-api").await, ["payments-api needs 2 replicas"]);
    assert_eq!(recalled(&memory, "where is it, who has it, and which database?").await.len(), 2);
    assert!(recalled(&memory, "good morning").await.is_empty());
    assert!(
        memory.retrieve_memories(&"ben".parse().unwrap(), "where does it run?").await.unwrap().is_empty(),
        "another's"
    );
}

#[tokio::test(start_paused = true)]
async fn an_embedder_that_fails_or_hangs_costs_the_meaning_and_never_the_turn() {
    let embedder = Arc::new(Meanings { name: "m", ..Meanings::default() });
    let (memory, _) = memory_of(Some(embedder.clone())).await;
    embedder.away.store(true, Ordering::SeqCst);
    assert_eq!(recalled(&memory, "restart payments-api").await, ["payments-api needs 2 replicas"]);
    embedder.hangs.store(true, Ordering::SeqCst);
    let began = tokio::time::Instant::now();
    assert_eq!(recalled(&memory, "restart payments-api").await, ["payments-api needs 2 replicas"]);
    assert!(began.elapsed() <= Duration::from_secs(2));
}

#[tokio::test]
async fn another_model_makes_the_vectors_anew_and_mixes_none() {
    let (_, store) = memory_of(Some(Arc::new(Meanings { name: "old", ..Meanings::default() }))).await;
    let new = Arc::new(Meanings { name: "new", ..Meanings::default() });
    let memory = LongTermMemory::new(store.clone(), Some(new), 2);
    // Not found yet: there is nothing to compare it with.
    assert!(recalled(&memory, "where is it?").await.is_empty());
    let renewed = async {
        while spaces(&store).await.iter().any(|space| space.as_deref() != Some("new")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed).await.expect("the embeddings are renewed");
    assert_eq!(recalled(&memory, "where is it?").await, ["The shop runs on mars-17"]);
}

#[tokio::test]
async fn a_part_of_a_session_is_taken_in_once_however_many_have_looked_at_it() {
    let (memory, store) = memory_of(None).await;
    let session = SessionId::new();
    let facts =
        |words: &str| vec![learned(&format!("payments-api {words} redis")), learned("Ben is oncall on Tuesdays")];
    // Two look at the same part, and tell of it in other words.
    let (one, other) = (
        memory.start_extraction(&user(), session, 3).await.unwrap(),
        memory.start_extraction(&user(), session, 3).await.unwrap(),
    );
    assert_eq!(memory.merge_extraction(&user(), &one, 9, facts("needs")).await.unwrap().len(), 2);
    let again = memory.merge_extraction(&user(), &other, 8, facts("cannot do without")).await.unwrap();
    assert!(again.len() == 2 && again[0].content == "payments-api needs redis", "{again:?}");
    assert_eq!(store.read_memories(&user()).await.unwrap().all.len(), 6);
    // One who comes after a crash hears of it before anybody is asked; the next part is new.
    let late = memory.start_extraction(&user(), session, 3).await.unwrap();
    assert_eq!(late.already_merged.map(|(notes, up_to)| (notes.len(), up_to)), Some((2, 9)));
    let next = memory.start_extraction(&user(), session, 9).await.unwrap();
    assert!(next.already_merged.is_none());
    // What is erased meanwhile does not come back.
    memory.delete_all_memories(&user()).await.unwrap();
    assert!(memory.merge_extraction(&user(), &next, 12, facts("has")).await.unwrap().is_empty());
    assert!(store.read_memories(&user()).await.unwrap().all.is_empty());
}

#[tokio::test]
async fn a_user_corrects_and_erases_what_is_remembered() {
    let (memory, store) = memory_of(Some(Arc::new(Meanings { name: "m", ..Meanings::default() }))).await;
    let all = memory.list_memories(&user()).await.unwrap();
    assert_eq!((all.len(), all[0].content.as_str()), (4, "payments-api needs 2 replicas"), "the newest first");
    let id = all[3].id;
    let correction =
        MemoryCorrection { content: Some("The shop's database is postgres 16".into()), ..MemoryCorrection::default() };
    let corrected = memory.correct_memory(&user(), id, correction.clone()).await.unwrap().unwrap();
    assert_eq!(
        (corrected.content.as_str(), corrected.kind),
        ("The shop's database is postgres 16", MemoryKind::Semantic)
    );
    assert!(recalled(&memory, "where is it?").await.is_empty(), "its meaning is another");
    let ben: UserId = "ben".parse().unwrap();
    assert_eq!(memory.correct_memory(&ben, id, correction).await.unwrap(), None);
    assert!(!memory.delete_memory(&ben, id).await.unwrap());
    assert!(memory.delete_memory(&user(), id).await.unwrap());
    assert_eq!(memory.delete_all_memories(&user()).await.unwrap(), 3);
    assert!(store.read_memories(&user()).await.unwrap().all.is_empty());
}

#[tokio::test]
async fn the_same_sessions_fed_twice_leave_no_duplicates() {
    for embedder in [None, Some(Arc::new(Meanings { name: "m", ..Meanings::default() }))] {
        let (memory, store) = memory_of(embedder).await;
        let source = MemorySource { session_id: SessionId::new(), seq: 5 };
        for _ in 0..2 {
            for n in 0..50 {
                let all = vec![
                    learned(&format!("service svc-{n} runs in namespace ns-{n}")),
                    learned("orders uses postgres"),
                ];
                memory.merge_memories_from(&user(), &source, all).await.unwrap();
            }
        }
        assert_eq!(store.read_memories(&user()).await.unwrap().all.len(), 54);
    }
}

#[tokio::test]
async fn a_question_that_was_asked_before_makes_no_call() {
    let embedder = Arc::new(Meanings { name: "m", ..Meanings::default() });
    let (memory, _) = memory_of(Some(embedder.clone())).await;
    let calls = || embedder.calls.load(Ordering::SeqCst);
    let before = calls();
    for _ in 0..3 {
        assert_eq!(recalled(&memory, "where does it run?").await, ["The shop runs on mars-17"]);
    }
    assert_eq!(calls(), before + 1);
    recalled(&memory, "where does it run, then?").await;
    assert_eq!(calls(), before + 2);
    // What failed is not held.
    embedder.away.store(true, Ordering::SeqCst);
    recalled(&memory, "who is it?").await;
    embedder.away.store(false, Ordering::SeqCst);
    assert_eq!(recalled(&memory, "who is it?").await, ["Anna is oncall on Mondays"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_while_the_embedder_was_away_gets_its_vector_when_it_is_back() {
    let embedder = Arc::new(Meanings { name: "m", ..Meanings::default() });
    embedder.away.store(true, Ordering::SeqCst);
    let (memory, store) = memory_of(Some(embedder.clone())).await;
    assert_eq!(spaces(&store).await, [const { None }; 4]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let calls = embedder.calls.load(Ordering::SeqCst);
    assert!((4..60).contains(&calls), "it is asked again, and less and less often: {calls}");
    embedder.away.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(spaces(&store).await.iter().all(Option::is_some), "the backfill runs by itself");
    memory.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_text_that_the_embedder_does_not_take_holds_up_no_other() {
    let embedder = Arc::new(Meanings { name: "m", poison: Some("oncall"), ..Meanings::default() });
    let (memory, store) = memory_of(Some(embedder.clone())).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let calls = embedder.calls.load(Ordering::SeqCst);
    assert_eq!(spaces(&store).await.iter().filter(|space| space.is_some()).count(), 3);
    // It is found by its words, and not tried with each search.
    assert_eq!(recalled(&memory, "is anna oncall on mondays").await, ["Anna is oncall on Mondays"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(embedder.calls.load(Ordering::SeqCst), calls + 1, "the question");
    memory.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_waits_for_the_embedder() {
    let embedder = Arc::new(Meanings { name: "m", ..Meanings::default() });
    embedder.away.store(true, Ordering::SeqCst);
    let (memory, _) = memory_of(Some(embedder.clone())).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    memory.shutdown().await;
    let calls = embedder.calls.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(embedder.calls.load(Ordering::SeqCst), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_learn_at_once_lose_nothing_and_keep_nothing_twice() {
    let store = Arc::new(InMemoryStore::default());
    let learners = (0..4).map(|_| {
        let memory = LongTermMemory::new(store.clone(), None, 5);
        tokio::spawn(async move {
            let source = MemorySource { session_id: SessionId::new(), seq: 5 };
            for n in 0..10 {
                let all = vec![learned(&format!("service svc-{n} runs in namespace ns-{n}"))];
                memory.merge_memories_from(&user(), &source, all).await.unwrap();
            }
        })
    });
    for learner in learners.collect::<Vec<_>>() {
        learner.await.unwrap();
    }
    assert_eq!(store.read_memories(&user()).await.unwrap().all.len(), 10);
}
