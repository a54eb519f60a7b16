//! Attempts at one reply of one model: streaming, retries, and truncation when the conversation is too long.

use std::{panic::resume_unwind, sync::Arc};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cancellation::wait_until_stopped,
    history,
    model_selection::{ModelAttempt, ModelRouting},
    request_ladder::RequestLadder,
    retry_wait::RetrySchedule,
    run::Run,
    run_log::{LogClosed, PreviewChunk, RunLog},
};
use k8sops_core::{
    ConversationForm, DroppedCall, EventBody, MessageId, OpenRun, RunRecovered, SessionWarning, StopReason,
};
use k8sops_models::{ChatRequest, ModelError, ModelErrorKind, ModelReply, ReplyDelta, ReplyStream};

/// How often a conversation is truncated, each time to two thirds, for a model that rejects it as too long.
const MAX_TRUNCATIONS: u32 = 8;
/// The code of the warning that a failed call used tokens.
const CALL_DROPPED: &str = "call_dropped";

/// How a call of one model ended.
pub(crate) enum StepOutcome {
    Answered(MessageId, Box<ModelReply>),
    /// Cancelled or halted during the reply; holds what had arrived.
    Stopped(MessageId, PartialReply),
    /// Cancelled or halted between two attempts; the loop of the run handles both.
    Interrupted,
    /// It failed, and the retry policy allows no more attempts.
    GaveUp(ModelError),
}

/// The part of a reply that has been streamed.
#[derive(Default)]
pub(crate) struct PartialReply {
    pub(crate) text: String,
    pub(crate) reasoning: String,
}

impl PartialReply {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reasoning.is_empty()
    }
}

/// How one attempt at a reply ended.
enum AttemptOutcome {
    Done(ModelReply),
    Failed(ModelError),
    Stopped(PartialReply),
}

/// Returns whether a reply is no answer, although its model ended it.
fn is_empty_reply(reply: &ModelReply) -> bool {
    reply.content.trim().is_empty()
        && reply.tool_calls.is_empty()
        && matches!(reply.stop_reason, StopReason::EndTurn | StopReason::ToolUse | StopReason::Other)
}

/// Returns the record of a failed call in a place that has no other warning.
fn dropped_call_warning(call: Box<DroppedCall>, error: &ModelError) -> EventBody {
    let message = format!("{error} The tokens of this call are counted.");
    EventBody::Warning(SessionWarning { dropped_call: Some(call), ..SessionWarning::new(CALL_DROPPED, message) })
}

/// Shows the pieces of a reply as they come. It is a task of its own, so that a piece wakes neither the run, with its span and
/// signals, nor anything else.
struct ReplyRelay {
    log: Arc<dyn RunLog>,
    message_id: MessageId,
    /// What was shown so far.
    // A synchronous mutex: held for a push, never across an await.
    shown: Arc<Mutex<PartialReply>>,
}

impl ReplyRelay {
    async fn relay_deltas(self, mut stream: ReplyStream) -> Result<ModelReply, ModelError> {
        while let Some(delta) = stream.next().await {
            match delta? {
                ReplyDelta::Text(piece) => {
                    self.log.send_preview(self.message_id, PreviewChunk::Text(&piece));
                    self.shown.lock().text.push_str(&piece);
                }
                ReplyDelta::Reasoning(piece) => {
                    self.log.send_preview(self.message_id, PreviewChunk::Reasoning(&piece));
                    self.shown.lock().reasoning.push_str(&piece);
                }
                ReplyDelta::Done(reply) => return Ok(*reply),
            }
        }
        Err(ModelError::new(ModelErrorKind::MalformedStream, "the model's stream ended without its end mark"))
    }
}

impl Run {
    /// Calls one model until it has replied or the retry policy is exhausted.
    pub(crate) async fn attempt_reply(
        &self,
        run: &OpenRun,
        target: &ModelAttempt<'_>,
        routing: &mut ModelRouting,
        mut ladder: RequestLadder,
        request: impl Fn(&ModelRouting, &ConversationForm) -> Option<ChatRequest>,
    ) -> Result<StepOutcome, LogClosed> {
        let too_long = || {
            let name = target.candidate.name();
            ModelError::new(
                ModelErrorKind::ContextTooLong,
                format!(
                    "The message is too long for {name}, even without the conversation before it. Send less, or choose a model \
                 with a larger context window."
                ),
            )
        };
        let mut retries = RetrySchedule::new(target.retry_policy(self.limits.retry));
        let mut truncations = 0;
        let mut empty_reply: Option<ModelReply> = None;
        // Counted here, because an attempt is not an event.
        let mut attempts_of_run = self.log.view().run.map_or(run.attempt, |run| run.attempt);
        loop {
            let Some(request) = request(routing, ladder.form()) else { return Ok(StepOutcome::GaveUp(too_long())) };
            let sent = history::conversation_bytes(&request.messages);
            let message_id = MessageId::new();
            let mut partial = PartialReply::default();
            let error = match self.attempt_once(target, message_id, request, &mut partial).await {
                AttemptOutcome::Done(reply) => {
                    if empty_reply.is_some() || !is_empty_reply(&reply) {
                        if let Some(warning) = ladder.finish(target.candidate) {
                            self.log.append_events(vec![EventBody::Warning(warning)]).await?;
                        }
                        return Ok(StepOutcome::Answered(message_id, Box::new(reply)));
                    }
                    let name = target.candidate.name();
                    let message = format!("{name} replied without text and without calls");
                    let error = ModelError::new(ModelErrorKind::EmptyReply, message).with_usage(reply.usage);
                    empty_reply = Some(reply);
                    error
                }
                AttemptOutcome::Stopped(partial) => return Ok(StepOutcome::Stopped(message_id, partial)),
                AttemptOutcome::Failed(error) => error,
            };
            let mut events = Vec::new();
            let dropped_call = target.candidate.dropped_call(error.details.usage);
            if !partial.is_empty() {
                self.log.send_preview(message_id, PreviewChunk::Void);
                attempts_of_run += 1;
                events.push(EventBody::RunRecovered(RunRecovered {
                    attempt: attempts_of_run,
                    superseded: vec![message_id],
                    reason: error.to_string(),
                }));
            }
            if ladder.climb(&error) {
                events.extend(dropped_call.map(|call| dropped_call_warning(call, &error)));
                if !events.is_empty() {
                    self.log.append_events(events).await?;
                }
                if self.cancel.is_cancelled() || self.halt.is_cancelled() {
                    return Ok(StepOutcome::Interrupted);
                }
                continue;
            }
            if error.kind == ModelErrorKind::ContextTooLong && truncations < MAX_TRUNCATIONS {
                truncations += 1;
                // The rejection may have named the window. Later steps compact the conversation before it is met again.
                routing.context_window = target.candidate.resolve_context_window().await;
                routing.max_bytes = Some(sent / 3 * 2);
                let message = format!("{error}; trying again without the oldest outputs and turns");
                let warning = SessionWarning { dropped_call, ..SessionWarning::new(error.code(), message) };
                events.push(EventBody::Warning(warning));
                self.log.append_events(events).await?;
                if self.cancel.is_cancelled() || self.halt.is_cancelled() {
                    return Ok(StepOutcome::Interrupted);
                }
                continue;
            }
            let Some(retry) = retries.schedule_retry(&error) else {
                if error.kind == ModelErrorKind::EmptyReply
                    && let Some(reply) = empty_reply
                {
                    return Ok(StepOutcome::Answered(message_id, Box::new(reply)));
                }
                events.extend(dropped_call.map(|call| dropped_call_warning(call, &error)));
                if !events.is_empty() {
                    self.log.append_events(events).await?;
                }
                return Ok(StepOutcome::GaveUp(error));
            };
            events.push(EventBody::Warning(SessionWarning { dropped_call, ..retry.warning(&error) }));
            self.log.append_events(events).await?;
            tokio::select! {
                () = retry.wait() => {}
                () = wait_until_stopped(&self.cancel, &self.halt) => return Ok(StepOutcome::Interrupted),
            }
        }
    }

    /// Calls the model once. Collects what it streams in `partial`.
    async fn attempt_once(
        &self,
        target: &ModelAttempt<'_>,
        message_id: MessageId,
        request: ChatRequest,
        partial: &mut PartialReply,
    ) -> AttemptOutcome {
        let shown = Arc::new(Mutex::new(PartialReply::default()));
        let mut relayed_task = None;
        let request = async {
            let stream = target.candidate.chat.stream(request).await?;
            let relay = ReplyRelay { log: self.log.clone(), message_id, shown: shown.clone() };
            let relayed = AbortOnDropHandle::new(tokio::spawn(relay.relay_deltas(stream)));
            relayed_task.insert(relayed).await.unwrap_or_else(|error| match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(ModelError::new(ModelErrorKind::MalformedStream, "the model's stream was given up")),
            })
        };
        let outcome = tokio::select! {
            biased;
            () = wait_until_stopped(&self.cancel, &self.halt) => None,
            outcome = request => Some(outcome),
        };
        if let (None, Some(task)) = (&outcome, relayed_task) {
            // Nothing may be shown after what is kept of it was taken.
            task.abort();
            let _ = task.await;
        }
        *partial = std::mem::take(&mut *shown.lock());
        match outcome {
            None => AttemptOutcome::Stopped(std::mem::take(partial)),
            Some(Ok(reply)) => AttemptOutcome::Done(reply),
            Some(Err(error)) => AttemptOutcome::Failed(error),
        }
    }
}
