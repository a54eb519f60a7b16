//! Long-term memory of sessions: memories are retrieved while a message is being committed, and extracted when a session is idle
//! or deleted.
//!
//! Only the owner of a session extracts memories from it, and records in the log how far it has read (`memory_saved`), so
//! that another process continues from there.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    inner::RuntimeInner,
    instrumented, model_candidates,
    run_handle::{SessionProjection, TaskMessage, panic_message},
    usage_recorder::{self, UserUsage},
};
use k8sops_agent::{
    MemoryRetriever, ModelCandidate, OneShotCompletion, UsageSource,
    memory::{EXTRACTION_SYSTEM_PROMPT, LongTermMemory, extraction_request, parse_extraction},
    without_rejected_content,
};
use k8sops_core::{ChatMessage, MemoryNote, MemorySaved, SessionState, Timestamp, TokenUsage, UsageDay, UserId};
use k8sops_models::tokens;
use k8sops_telemetry::{Metrics, RecallOutcome as Recalled, spans};
use k8sops_tools::ToolExecutor;

/// Tokens of conversation in one extraction request.
const PIECE_TOKENS: usize = 12_000;
/// Upper bound of requests of one extraction; older parts of the conversation are skipped.
const MAX_PIECES: usize = 4;
/// Upper bound of an answer in tokens: a dozen memories of a few sentences.
const ANSWER_TOKENS: usize = 2_000;
/// Attempts at an answer that can be parsed.
const MAX_PARSE_ATTEMPTS: usize = 2;
/// Time limit of one extraction, which keeps the session owned.
const EXTRACTION_TIMEOUT: Duration = Duration::from_mins(5);
/// How long an extraction may continue during a shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(15);

/// Retrieves memories of a user. The retrieval starts before the run asks for it.
pub(super) struct UserMemoryRetriever {
    memory: Arc<LongTermMemory>,
    metrics: Arc<Metrics>,
    user: UserId,
    /// The retrieval that was started for the run's message; taken once.
    retrieval: Mutex<Option<RetrievalTask>>,
}

/// A retrieval in progress.
pub(super) type RetrievalTask = AbortOnDropHandle<Vec<MemoryNote>>;

/// Starts the retrieval of memories for a message.
pub(super) fn start_retrieval(
    shared: &RuntimeInner,
    memory: &Arc<LongTermMemory>,
    user: &UserId,
    message: &str,
) -> RetrievalTask {
    let (memory, metrics) = (Arc::clone(memory), shared.dependencies.metrics.clone());
    let (user, message) = (user.clone(), message.to_owned());
    let retrieving = async move { retrieve_and_count(&memory, &metrics, &user, &message).await };
    AbortOnDropHandle::new(tokio::spawn(shared.worker_watch.watch_task("memory retrieval", retrieving)))
}

async fn retrieve_and_count(
    memory: &Arc<LongTermMemory>,
    metrics: &Metrics,
    user: &UserId,
    message: &str,
) -> Vec<MemoryNote> {
    let began = Instant::now();
    let found = memory.retrieve_memories(user, message).await;
    let outcome = match &found {
        None => Recalled::Failed,
        Some(found) if found.is_empty() => Recalled::Nothing,
        Some(_) => Recalled::Found,
    };
    metrics.record_memory_recall(outcome, began.elapsed());
    found.unwrap_or_default()
}

impl UserMemoryRetriever {
    pub(super) fn new(
        memory: Arc<LongTermMemory>,
        metrics: Arc<Metrics>,
        user: UserId,
        retrieval: Option<RetrievalTask>,
    ) -> Self {
        Self { memory, metrics, user, retrieval: Mutex::new(retrieval) }
    }
}

#[async_trait]
impl MemoryRetriever for UserMemoryRetriever {
    async fn retrieve_memories(&self, message: &str) -> Vec<MemoryNote> {
        let retrieval = self.retrieval.lock().take();
        match retrieval {
            Some(retrieval) => retrieval.await.unwrap_or_default(),
            None => retrieve_and_count(&self.memory, &self.metrics, &self.user, message).await,
        }
    }
}

/// Starts the extraction of memories, which sends its result to the session actor. It is aborted when the handle is dropped.
pub(super) fn start_extraction(
    shared: &Arc<RuntimeInner>,
    state: SessionState,
    tools: &Arc<dyn ToolExecutor>,
    actor: mpsc::Sender<TaskMessage>,
) -> AbortOnDropHandle<()> {
    let (shared, tools) = (shared.clone(), tools.clone());
    let (session, up_to_seq) = (state.summary.session_id, state.learned_up_to);
    let watch = shared.worker_watch.clone();
    let extracting = async move {
        let extraction = AssertUnwindSafe(extract_memories(&shared, state, tools.as_ref()));
        let saved = extraction.catch_unwind().await.unwrap_or_else(|panic| {
            tracing::error!(%session, panic = panic_message(&*panic), "memory extraction panicked");
            MemorySaved { up_to_seq, ..MemorySaved::default() }
        });
        // An actor that is gone needs no result.
        let _ = actor.send(TaskMessage::MemoriesExtracted(saved)).await;
    };
    AbortOnDropHandle::new(tokio::spawn(watch.watch_task("memory extraction", extracting)))
}

/// Extracts memories from what was said since the last extraction. What fails now is extracted the next time.
async fn extract_memories(shared: &Arc<RuntimeInner>, state: SessionState, tools: &dyn ToolExecutor) -> MemorySaved {
    let session = state.summary.session_id;
    let up_to_seq = state.learned_up_to;
    let mut saved = MemorySaved { up_to_seq, ..MemorySaved::default() };
    let settings = &state.summary.settings;
    let span = spans::memory_extraction_span(session, &settings.provider, &settings.model);
    let extraction = extract_into(shared, state, tools, &mut saved).instrument(span.clone());
    match timeout(EXTRACTION_TIMEOUT, extraction).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            spans::record_failure(&span, "not_learned");
            tracing::warn!(%session, %error, "memory extraction failed");
        }
        Err(_) => {
            spans::record_failure(&span, "timeout");
            tracing::warn!(%session, "memory extraction timed out");
        }
    }
    spans::record_usage(&span, &saved.usage);
    saved
}

/// Extracts memories from a deleted session.
pub(super) async fn extract_from_deleted(shared: &Arc<RuntimeInner>, state: SessionState) {
    let tools = shared.dependencies.tools.create_executor(state.summary.session_id, &state.summary.user_id);
    let (user, session, mut spent) = (state.summary.user_id.clone(), state.summary.session_id, state.spent.clone());
    let saved = tokio::select! {
        saved = extract_memories(shared, state, tools.as_ref()) => saved,
        () = async { shared.halt.cancelled().await; sleep(SHUTDOWN_GRACE).await } => return,
    };
    if let (Some(provider), Some(model)) = (&saved.provider, &saved.model) {
        spent.add_usage(UsageDay::today(), provider, model, saved.usage);
        usage_recorder::record_usage(shared, &user, session, &spent).await;
    }
}

async fn extract_into(
    shared: &Arc<RuntimeInner>,
    state: SessionState,
    tools: &dyn ToolExecutor,
    saved: &mut MemorySaved,
) -> anyhow::Result<()> {
    let Some(memory) = &shared.dependencies.memory else { return Ok(()) };
    let (user, session) = (state.summary.user_id.clone(), state.summary.session_id);
    let (after, last_seq) = (state.learned_up_to, state.last_seq());
    let pass = memory.start_extraction(&user, session, after).await?;
    if let Some((memories, up_to)) = pass.already_merged.clone() {
        // An earlier process merged them and ended before it recorded that.
        saved.memories = memories;
        saved.up_to_seq = up_to;
        return Ok(());
    }
    let user_words = join_user_messages(&state);
    let settings = state.summary.settings.clone();
    let at = instrumented::span_context(&state);
    let budgets = shared.dependencies.limits.load().budgets;
    anyhow::ensure!(
        !k8sops_agent::is_budget_spent(&budgets.session, &state.summary.usage),
        "the session's budget is used up"
    );
    let candidates = model_candidates::model_candidates(&shared.dependencies, &settings.provider, &settings.model, &at);
    let simplified = state.simplified.clone();
    // What the model rejected in the conversation would be rejected here as well.
    let form = candidates.first().map(|candidate| candidate.known_form(&simplified)).unwrap_or_default();
    let pieces = split_transcript(&without_rejected_content(&unextracted_messages(&state), &form));
    let spending = UserUsage { shared: shared.clone(), projection: Arc::new(SessionProjection::new(state)) };
    if let Some(today) = spending.user_usage_today().await {
        anyhow::ensure!(
            !k8sops_agent::is_budget_spent(&budgets.user_day, &today),
            "the user's budget of today is used up"
        );
    }
    let mut extracted = Vec::new();
    for piece in &pieces {
        let known = memory.find_similar(&user, piece).await?;
        let completion = OneShotCompletion {
            system: EXTRACTION_SYSTEM_PROMPT,
            question: extraction_request(piece, &known.iter().collect::<Vec<_>>()),
            most: ANSWER_TOKENS,
            settings: &settings,
            simplified: &simplified,
        };
        for _ in 0..MAX_PARSE_ATTEMPTS {
            let answer = complete_with_fallback(shared, &candidates, &completion, saved).await?;
            let read = parse_extraction(&answer, &user_words, Timestamp::now(), |text| tools.contains_secret(text));
            if let Some(found) = read {
                extracted.extend(found);
                break;
            }
            tracing::debug!(%session, "answer is not a list of memories");
        }
    }
    saved.memories = memory.merge_extraction(&user, &pass, last_seq, extracted).await?;
    saved.up_to_seq = last_seq;
    Ok(())
}

/// Returns the answer of the first model that answers.
async fn complete_with_fallback(
    shared: &RuntimeInner,
    candidates: &[ModelCandidate],
    completion: &OneShotCompletion<'_>,
    saved: &mut MemorySaved,
) -> anyhow::Result<String> {
    let limits = shared.dependencies.limits.load_full();
    let mut last = anyhow::anyhow!("no model is configured");
    for candidate in candidates {
        let mut usage = TokenUsage::default();
        let answer = completion.ask(candidate, &limits.retry, &mut usage).await;
        saved.usage += candidate.with_cost(usage);
        match answer {
            Ok(answer) => {
                saved.provider = Some(candidate.provider.clone());
                saved.model = Some(candidate.model.clone());
                return Ok(answer);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// Returns the messages since the last extraction, except those off the record.
fn unextracted_messages(state: &SessionState) -> Vec<Arc<ChatMessage>> {
    let mut on_record = false;
    let said = state.messages.iter().filter(|message| {
        // The messages of a turn follow the user's message.
        if let ChatMessage::User(message) = &***message {
            on_record = message.memory;
        }
        on_record && message.seq() > state.learned_up_to
    });
    said.cloned().collect()
}

fn join_user_messages(state: &SessionState) -> String {
    let users = state.messages.iter().filter_map(|message| match message.as_ref() {
        ChatMessage::User(message) => Some(message.content.as_str()),
        _ => None,
    });
    users.collect::<Vec<_>>().join("\n")
}

/// Returns the conversation as text, in pieces of bounded size; skips the oldest pieces if there are too many.
fn split_transcript(messages: &[Arc<ChatMessage>]) -> Vec<String> {
    let mut pieces: Vec<(String, usize)> = Vec::new();
    for message in messages {
        let line = k8sops_agent::transcript_line(message);
        let size = tokens::count(&line);
        match pieces.last_mut() {
            Some((piece, held)) if *held + size <= PIECE_TOKENS => {
                piece.push_str(&line);
                *held += size;
            }
            _ => pieces.push((line, size)),
        }
    }
    let passed_over = pieces.len().saturating_sub(MAX_PIECES);
    pieces.into_iter().skip(passed_over).map(|(piece, _)| piece).collect()
}
