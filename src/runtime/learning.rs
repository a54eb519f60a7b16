//! Long-term memory at work: what speaks to a message is looked up while the message is being committed, and what a
//! conversation says that is worth remembering is found when its session rests, or goes.
//!
//! Only the owner of a session learns from it, and says in the log how far it has looked (`memory_saved`): another process
//! goes on from there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    Shared,
    asking::{self, UserSpending},
    observed,
    run_log::Projection,
};
use k8sops_agent::{
    MemoryRetriever, ModelCandidate, OneShotCompletion, UsageSource,
    memory::{EXTRACTION_SYSTEM_PROMPT, LongTermMemory, extraction_request, parse_extraction},
};
use k8sops_core::{
    ChatMessage, MemoryNote, MemorySaved, SessionId, SessionSettings, SessionState, Timestamp, TokenUsage, UsageDay,
    UserId,
};
use k8sops_models::tokens;
use k8sops_telemetry::{Metrics, RecallOutcome as Recalled, spans};
use k8sops_tools::ToolExecutor;

/// Tokens of conversation that are looked at in one call, and the calls of one look: what is older is passed over.
const PIECE: usize = 12_000;
const PIECES: usize = 4;
/// Tokens of an answer: a dozen memories of a few sentences.
const ANSWER: usize = 2_000;
/// How often a model is asked whose answer cannot be read.
const TRIES: usize = 2;
/// How long one look may take: a session is held for it.
const LIMIT: Duration = Duration::from_mins(5);
/// How much of it is left when the service stops.
const LAST: Duration = Duration::from_secs(15);

/// The memories that speak to a message. The look-up has begun before the run asks for it.
pub(super) struct UserRecall {
    memory: Arc<LongTermMemory>,
    metrics: Arc<Metrics>,
    user: UserId,
    /// Begun for the run's message; taken once.
    begun: Mutex<Option<Begun>>,
}

/// A look-up on its way.
pub(super) type Begun = AbortOnDropHandle<Vec<MemoryNote>>;

/// Begins to look up what speaks to a message.
pub(super) fn begin(memory: &Arc<LongTermMemory>, metrics: &Arc<Metrics>, user: &UserId, message: &str) -> Begun {
    let (memory, metrics) = (Arc::clone(memory), Arc::clone(metrics));
    let (user, message) = (user.clone(), message.to_owned());
    AbortOnDropHandle::new(tokio::spawn(async move { recall(&memory, &metrics, &user, &message).await }))
}

async fn recall(memory: &Arc<LongTermMemory>, metrics: &Metrics, user: &UserId, message: &str) -> Vec<MemoryNote> {
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

impl UserRecall {
    pub(super) fn new(memory: Arc<LongTermMemory>, metrics: Arc<Metrics>, user: UserId, begun: Option<Begun>) -> Self {
        Self { memory, metrics, user, begun: Mutex::new(begun) }
    }
}

#[async_trait]
impl MemoryRetriever for UserRecall {
    async fn retrieve_memories(&self, message: &str) -> Vec<MemoryNote> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        match begun {
            Some(begun) => begun.await.unwrap_or_default(),
            None => recall(&self.memory, &self.metrics, &self.user, message).await,
        }
    }
}

/// The look of a session's owner for what is worth remembering, while one is under way.
#[derive(Debug, Default)]
pub(super) struct Learning(Option<ExtractionPass>);

#[derive(Debug)]
struct ExtractionPass {
    session: SessionId,
    /// Up to where it was looked before.
    after: u64,
    task: AbortOnDropHandle<MemorySaved>,
}

impl Learning {
    pub(super) fn begin(&mut self, shared: &Arc<Shared>, projection: &Arc<Projection>, tools: &Arc<dyn ToolExecutor>) {
        let (shared, tools) = (shared.clone(), tools.clone());
        let state = projection.read(Clone::clone);
        let (session, after) = (state.summary.session_id, state.learned_up_to);
        let task = tokio::spawn(async move { learn(&shared, state, tools.as_ref()).await });
        self.0 = Some(ExtractionPass { session, after, task: AbortOnDropHandle::new(task) });
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// Waits for the end of the look; for ever when there is none.
    pub(super) async fn ended(&mut self) -> MemorySaved {
        let Some(ExtractionPass { session, after, task }) = &mut self.0 else { return std::future::pending().await };
        let saved = task.await.unwrap_or_else(|panic| {
            tracing::error!(%session, %panic, "a look for memories panicked");
            MemorySaved { up_to_seq: *after, ..MemorySaved::default() }
        });
        self.0 = None;
        saved
    }
}

/// Looks at what was said since the last look, and saves what is worth remembering. What cannot be found out now is looked
/// at the next time.
pub(super) async fn learn(shared: &Arc<Shared>, state: SessionState, tools: &dyn ToolExecutor) -> MemorySaved {
    let session = state.summary.session_id;
    let up_to_seq = state.learned_up_to;
    let mut saved = MemorySaved { up_to_seq, ..MemorySaved::default() };
    let settings = &state.summary.settings;
    let span = spans::memory_extraction_span(session, &settings.provider, &settings.model);
    let look = look(shared, state, tools, &mut saved).instrument(span.clone());
    match timeout(LIMIT, look).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            spans::record_failure(&span, "not_learned");
            tracing::warn!(%session, %error, "nothing is remembered of the session for now");
        }
        Err(_) => {
            spans::record_failure(&span, "timeout");
            tracing::warn!(%session, "nothing is remembered of the session for now: it took too long");
        }
    }
    spans::record_usage(&span, &saved.usage);
    saved
}

/// Learns from a session that has gone.
pub(super) async fn learn_of_gone(shared: &Arc<Shared>, state: SessionState) {
    let tools = shared.parts.tools.create_executor(state.summary.session_id, &state.summary.user_id);
    let (user, session, mut spent) = (state.summary.user_id.clone(), state.summary.session_id, state.spent.clone());
    let saved = tokio::select! {
        saved = learn(shared, state, tools.as_ref()) => saved,
        () = async { shared.halt.cancelled().await; sleep(LAST).await } => return,
    };
    if let (Some(provider), Some(model)) = (&saved.provider, &saved.model) {
        spent.add(UsageDay::today(), provider, model, saved.usage);
        asking::note(shared, &user, session, &spent).await;
    }
}

async fn look(
    shared: &Arc<Shared>,
    state: SessionState,
    tools: &dyn ToolExecutor,
    saved: &mut MemorySaved,
) -> anyhow::Result<()> {
    let Some(memory) = &shared.parts.memory else { return Ok(()) };
    let (user, session) = (state.summary.user_id.clone(), state.summary.session_id);
    let (after, last_seq) = (state.learned_up_to, state.last_seq());
    let look = memory.start_extraction(&user, session, after).await?;
    if let Some((memories, up_to)) = look.already_merged.clone() {
        // By a process that did not come to say so.
        saved.memories = memories;
        saved.up_to_seq = up_to;
        return Ok(());
    }
    let pieces = pieces(&said(&state));
    let user_words = words_of_user(&state);
    let settings = state.summary.settings.clone();
    let at = observed::place(&state);
    let budgets = shared.parts.limits.load().budgets;
    anyhow::ensure!(
        !k8sops_agent::is_budget_spent(&budgets.session, &state.summary.usage),
        "the session's budget is used up"
    );
    let spending = UserSpending { shared: shared.clone(), projection: Arc::new(Projection::new(state)) };
    if let Some(today) = spending.user_usage_today().await {
        anyhow::ensure!(
            !k8sops_agent::is_budget_spent(&budgets.user_day, &today),
            "the user's budget of today is used up"
        );
    }
    let candidates = asking::model_candidates(&shared.parts, &settings.provider, &settings.model, &at);
    let mut learned = Vec::new();
    for piece in &pieces {
        let known = memory.find_similar(&user, piece).await?;
        let question = extraction_request(piece, &known.iter().collect::<Vec<_>>());
        for _ in 0..TRIES {
            let answer = ask(shared, &candidates, &settings, question.clone(), saved).await?;
            let read = parse_extraction(&answer, &user_words, Timestamp::now(), |text| tools.contains_secret(text));
            if let Some(found) = read {
                learned.extend(found);
                break;
            }
            tracing::debug!(%session, "what the model answered is no list of memories");
        }
    }
    saved.memories = memory.merge_extraction(&user, &look, last_seq, learned).await?;
    saved.up_to_seq = last_seq;
    Ok(())
}

/// Asks the first of the models that answers.
async fn ask(
    shared: &Shared,
    candidates: &[ModelCandidate],
    settings: &SessionSettings,
    question: String,
    saved: &mut MemorySaved,
) -> anyhow::Result<String> {
    let aside = OneShotCompletion { system: EXTRACTION_SYSTEM_PROMPT, question, most: ANSWER, settings };
    let limits = shared.parts.limits.load_full();
    let mut last = anyhow::anyhow!("no model is configured");
    for candidate in candidates {
        let mut usage = TokenUsage::default();
        let answer = aside.ask(candidate, &limits.retry, &mut usage).await;
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

/// The messages since the last look, but for those that were said off the record.
fn said(state: &SessionState) -> Vec<&ChatMessage> {
    let mut on_record = false;
    let said = state.messages.iter().map(AsRef::as_ref).filter(|message| {
        // What belongs to a turn stands behind the user's message.
        if let ChatMessage::User(message) = message {
            on_record = message.memory;
        }
        on_record && message.seq() > state.learned_up_to
    });
    said.collect()
}

fn words_of_user(state: &SessionState) -> String {
    let users = state.messages.iter().filter_map(|message| match message.as_ref() {
        ChatMessage::User(message) => Some(message.content.as_str()),
        _ => None,
    });
    users.collect::<Vec<_>>().join("\n")
}

/// The conversation as text, in pieces that a model can take in; the newest of it where there is too much.
fn pieces(messages: &[&ChatMessage]) -> Vec<String> {
    let mut pieces: Vec<(String, usize)> = Vec::new();
    for message in messages {
        let line = k8sops_agent::transcript_line(message);
        let size = tokens::count(&line);
        match pieces.last_mut() {
            Some((piece, held)) if *held + size <= PIECE => {
                piece.push_str(&line);
                *held += size;
            }
            _ => pieces.push((line, size)),
        }
    }
    let passed_over = pieces.len().saturating_sub(PIECES);
    pieces.into_iter().skip(passed_over).map(|(piece, _)| piece).collect()
}
