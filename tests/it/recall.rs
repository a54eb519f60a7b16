//! Quality of recall over `tests/recall/facts.jsonl`: paraphrased questions find the fact that answers them, with a real
//! embedding model and by words only. The lower bounds are slightly below the values that were measured when they were
//! set.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use k8sops_agent::memory::{ExtractedMemory, LongTermMemory};
use k8sops_core::{EmbeddingVector, MemoryKind, MemorySource, MemoryStore, SessionId, UserId};
use k8sops_models::{EmbeddingModel, ModelError, ProviderEmbedder, ProviderOptions, ProviderProtocol};
use k8sops_store::InMemoryStore;
use serde::Deserialize;
use tokio::process::Command;

use k8sops_testing::{child_program::ChildProgram, testbed};

/// A fact, a paraphrase of it, and a question that only this fact answers.
#[derive(Debug, Deserialize)]
struct RecallFact {
    id: String,
    kind: MemoryKind,
    fact: String,
    again: String,
    question: String,
}

fn load_facts() -> Vec<RecallFact> {
    let lines = include_str!("../recall/facts.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// Starts a server with a real embedding model.
async fn embedding_server() -> ChildProgram {
    let mut command = Command::new(testbed::path("K8SOPS_TEST_LLAMA_SERVER"));
    command.args(["--model", &testbed::path("K8SOPS_TEST_EMBEDDING_MODEL"), "--embeddings", "--offline", "--no-webui"]);
    command.args(["--alias", "minilm", "--host", "127.0.0.1", "--ctx-size", "2048", "--parallel", "4"]);
    // One thread: on a busy machine, two mostly wait for each other.
    command.args(["--threads", "1", "--threads-batch", "1", "--ubatch-size", "512"]);
    let port = testbed::free_port();
    let url = format!("http://127.0.0.1:{port}");
    command.args(["--port", &port.to_string()]);
    ChildProgram::start_at(&mut command, url, "/health").await
}

/// The embeddings of all texts, computed in advance: recall has a time limit for embeddings, and the load of the
/// machine must not affect the result.
struct PrecomputedEmbeddings(HashMap<String, EmbeddingVector>);

impl PrecomputedEmbeddings {
    async fn embed_facts(server: &ChildProgram, facts: &[RecallFact]) -> Arc<dyn EmbeddingModel> {
        let config = ProviderOptions {
            name: "llama".into(),
            protocol: ProviderProtocol::OpenaiChat,
            dialect: Default::default(),
            base_url: format!("{}/v1", server.url),
            api_key: None,
            key_optional: true,
            key_variable: "NONE".into(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(120),
            headers: BTreeMap::new(),
            max_context: 2048,
            keep_alive: None,
            models: Vec::new(),
        };
        let embedder = ProviderEmbedder::new("llama", &config, "minilm", Some(384)).unwrap();
        let texts = facts.iter().flat_map(|fact| [&fact.fact, &fact.again, &fact.question]);
        let texts: Vec<String> = texts.cloned().collect();
        let vectors = embedder.embed(&texts).await.unwrap();
        Arc::new(Self(texts.into_iter().zip(vectors).collect()))
    }
}

#[async_trait]
impl EmbeddingModel for PrecomputedEmbeddings {
    fn name(&self) -> &'static str {
        "llama/minilm"
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<EmbeddingVector>, ModelError> {
        Ok(texts.iter().map(|text| self.0[text].clone()).collect())
    }
}

fn test_user() -> UserId {
    "anna".parse().unwrap()
}

fn extracted_memory(kind: MemoryKind, content: &str) -> ExtractedMemory {
    ExtractedMemory {
        kind,
        content: content.into(),
        tags: Vec::new(),
        confidence: 0.8,
        expires_at: None,
        same_as: None,
        contradicts: None,
        vector: None,
    }
}

/// Recall at 5 (share of questions whose fact is among the first five results) and mean reciprocal rank.
struct RecallQuality {
    recall: f64,
    reciprocal: f64,
}

async fn measure_recall(memory: &Arc<LongTermMemory>, facts: &[&RecallFact]) -> RecallQuality {
    let (mut recall, mut reciprocal) = (0.0, 0.0);
    for fact in facts {
        let found = memory.search_memories(&test_user(), &fact.question, 5).await.unwrap();
        match found.iter().position(|note| note.content == fact.fact) {
            Some(index) => {
                recall += 1.0;
                reciprocal += 1.0 / (index + 1) as f64;
            }
            None => println!("  {} not found by: {}", fact.id, fact.question),
        }
    }
    let count = facts.len() as f64;
    RecallQuality { recall: recall / count, reciprocal: reciprocal / count }
}

/// Stores all facts, ten per merge.
async fn store_facts(
    store: &Arc<InMemoryStore>,
    embedder: Option<Arc<dyn EmbeddingModel>>,
    facts: &[RecallFact],
) -> Arc<LongTermMemory> {
    let memory = LongTermMemory::new(store.clone(), embedder, 5);
    let source = MemorySource { session_id: SessionId::new(), seq: 1 };
    for part in facts.chunks(10) {
        let part = part.iter().map(|fact| extracted_memory(fact.kind, &fact.fact)).collect();
        memory.merge_memories_from(&test_user(), &source, part).await.unwrap();
    }
    memory
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn paraphrased_questions_find_their_facts() {
    let facts = load_facts();
    assert!(facts.len() >= 200);
    let server = embedding_server().await;
    // Lower bounds (recall, reciprocal rank): by embeddings and words, and by words only.
    let cases = [
        ("meaning and words", Some(PrecomputedEmbeddings::embed_facts(&server, &facts).await), 0.67, 0.5),
        ("words alone", None, 0.26, 0.15),
    ];
    for (name, embedder, least_recall, least_reciprocal) in cases {
        let store = Arc::new(InMemoryStore::default());
        let memory = store_facts(&store, embedder, &facts).await;
        assert_eq!(
            store.read_memories(&test_user()).await.unwrap().all.len(),
            facts.len(),
            "every fact is one of its own"
        );
        // The constants of `memory::rank` were tuned with the even facts; the odd ones are the held-out set.
        for (half, parity) in [("tuned by", 0), ("held out", 1)] {
            let half_of: Vec<&RecallFact> = facts.iter().skip(parity).step_by(2).collect();
            let found = measure_recall(&memory, &half_of).await;
            println!(
                "{name}, {half}: recall@5 {:.3}, MRR {:.3} of {} questions",
                found.recall,
                found.reciprocal,
                half_of.len()
            );
            assert!(found.recall >= least_recall && found.reciprocal >= least_reciprocal, "{name}, {half}");
        }
        memory.shutdown().await;
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn paraphrased_facts_are_not_stored_twice() {
    let facts = load_facts();
    let server = embedding_server().await;
    let store = Arc::new(InMemoryStore::default());
    let memory = LongTermMemory::new(store.clone(), Some(PrecomputedEmbeddings::embed_facts(&server, &facts).await), 5);
    let sessions = |telling: fn(&RecallFact) -> &str| -> Vec<Vec<ExtractedMemory>> {
        // Fifty sessions, each with a few facts of every kind.
        let session =
            |n| facts.iter().skip(n).step_by(50).map(|fact| extracted_memory(fact.kind, telling(fact))).collect();
        (0..50).map(session).collect()
    };
    for (round, telling) in
        [(1, (|fact| &fact.fact) as fn(&RecallFact) -> &str), (2, |fact| &fact.again), (3, |fact| &fact.fact)]
    {
        for session in sessions(telling) {
            let source = MemorySource { session_id: SessionId::new(), seq: 1 };
            memory.merge_memories_from(&test_user(), &source, session).await.unwrap();
        }
        let known = store.read_memories(&test_user()).await.unwrap().all;
        let twice: Vec<&str> = known
            .iter()
            .map(|stored| stored.memory.content.as_str())
            .filter(|c| !facts.iter().any(|f| f.fact == *c))
            .collect();
        println!("round {round}: {} memories of {} facts", known.len(), facts.len());
        assert_eq!(known.len(), facts.len(), "round {round}: kept twice: {twice:#?}");
    }
    memory.shutdown().await;
}
