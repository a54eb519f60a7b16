//! One reply of the model: asked for, streamed, tried again where that helps, committed.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{LogClosed, Piece, Run, RunView, ended, finished, history, limits::Reached, prompt::last_step};
use crate::{
    models::{ChatRequest, Delta, ModelError, Reply, ToolChoice},
    session::{
        AssistantMessageEvent, EventBody, Message, MessageId, OpenRun, Outcome, RunFailed, RunRecovered, StopReason,
        Timestamp, ToolCall, ToolCallId, ToolStatus, Usage, UserMessage, Warning,
    },
};

/// How one attempt at a reply ended.
enum Attempt {
    Done(Reply),
    Failed(ModelError),
    /// Cancelled or halted; with the text that had come until then.
    Stopped(Written),
}

/// What of a reply has been shown.
#[derive(Default)]
struct Written {
    text: String,
    reasoning: String,
}

impl Written {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reasoning.is_empty()
    }
}

impl Run {
    /// Asks the model for its next reply and commits it; or ends the run.
    pub(super) async fn ask_model(&self, view: &RunView, run: &OpenRun) -> Result<(), LogClosed> {
        let reached = self.limits.reached(run, &view.messages);
        let request = self.request(view, reached);
        // Counted here and not in the view: a wait between two attempts is an event, the attempt itself is not.
        let mut attempts_of_run = run.attempt;
        for attempt in 1.. {
            let message_id = MessageId::new();
            let mut written = Written::default();
            match self.attempt(message_id, request.clone(), &mut written).await {
                Attempt::Done(reply) => return self.commit_reply(run, message_id, reply, reached).await,
                Attempt::Stopped(written) => return self.stop(run, message_id, written).await,
                Attempt::Failed(error) => {
                    let mut events = Vec::new();
                    if !written.is_empty() {
                        self.log.preview(message_id, Piece::Void);
                        attempts_of_run += 1;
                        events.push(EventBody::RunRecovered(RunRecovered {
                            attempt: attempts_of_run,
                            superseded: vec![message_id],
                            reason: error.to_string(),
                        }));
                    }
                    let Some(wait) = self.limits.retry.delay(attempt, &error) else {
                        events.push(EventBody::RunFailed(RunFailed {
                            code: error.code().into(),
                            message: error.to_string(),
                            retryable: error.retryable(),
                        }));
                        return self.log.append(events).await;
                    };
                    let seconds = wait.as_secs_f32();
                    events.push(EventBody::Warning(Warning {
                        code: error.code().into(),
                        message: format!("{error}; trying again in {seconds:.1} s (attempt {attempt} failed)"),
                    }));
                    self.log.append(events).await?;
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        // The loop of the run looks at both and does what is due.
                        () = self.cancel.cancelled() => return Ok(()),
                        () = self.halt.cancelled() => return Ok(()),
                    }
                }
            }
        }
        Ok(())
    }

    fn request(&self, view: &RunView, reached: Option<Reached>) -> ChatRequest {
        let mut messages = history::fitted(&view.messages, self.context_window);
        if let Some(reached) = reached {
            messages.push(Arc::new(Message::User(UserMessage {
                message_id: MessageId::new(),
                seq: 0,
                ts: Timestamp::now(),
                content: last_step(&reached.words(&self.limits)),
            })));
        }
        ChatRequest {
            model: self.settings.model.clone(),
            system: self.system.clone(),
            messages,
            tools: self.tools.specs(),
            tool_choice: if reached.is_some() { ToolChoice::None } else { ToolChoice::Auto },
            temperature: self.settings.temperature,
            max_tokens: self.settings.max_tokens,
        }
    }

    /// One call of the model. What is shown is noted in `written`.
    async fn attempt(&self, message_id: MessageId, request: ChatRequest, written: &mut Written) -> Attempt {
        let stream = async {
            let mut stream = self.model.stream(request).await?;
            while let Some(delta) = stream.next().await {
                match delta? {
                    Delta::Text(piece) => {
                        self.log.preview(message_id, Piece::Text(&piece));
                        written.text.push_str(&piece);
                    }
                    Delta::Reasoning(piece) => {
                        self.log.preview(message_id, Piece::Reasoning(&piece));
                        written.reasoning.push_str(&piece);
                    }
                    Delta::Done(reply) => return Ok(reply),
                }
            }
            Err(ModelError::MalformedStream("the model's stream ended without its end mark".into()))
        };
        let outcome = tokio::select! {
            biased;
            () = stopped(&self.cancel, &self.halt) => None,
            outcome = stream => Some(outcome),
        };
        match outcome {
            None => Attempt::Stopped(std::mem::take(written)),
            Some(Ok(reply)) => Attempt::Done(reply),
            Some(Err(error)) => Attempt::Failed(error),
        }
    }

    /// Commits a whole reply, and the end of the run with it where it asks for no tools.
    async fn commit_reply(
        &self,
        run: &OpenRun,
        message_id: MessageId,
        reply: Reply,
        reached: Option<Reached>,
    ) -> Result<(), LogClosed> {
        // A model that calls tools although it was told not to gets no answer to them; and what was refused is not done in
        // part.
        let unanswered = reached.is_some() || reply.stop_reason == StopReason::Refusal;
        let requested = if unanswered { Vec::new() } else { reply.tool_calls };
        let tool_calls: Vec<ToolCall> = requested
            .into_iter()
            .map(|call| ToolCall { id: ToolCallId::generate(), name: call.name, arguments: call.arguments })
            .collect();
        let (usage, empty, ends) = (reply.usage, reply.content.trim().is_empty(), tool_calls.is_empty());
        let allowed = self.limits.max_calls.saturating_sub(run.call_count);
        let beyond = tool_calls.iter().skip(usize::try_from(allowed).unwrap_or(usize::MAX));
        let beyond: Vec<EventBody> = beyond
            .map(|call| {
                let words = Reached::Calls.words(&self.limits);
                ended(call, ToolStatus::Error, format!("not run: {words}"))
            })
            .collect();
        let mut events = vec![EventBody::AssistantMessage(AssistantMessageEvent {
            message_id,
            content: reply.content,
            reasoning: reply.reasoning,
            tool_calls,
            usage,
            stop_reason: reply.stop_reason,
        })];
        events.extend(beyond);
        if ends {
            if let Some(reached) = reached {
                let message = format!("{}; the turn ends with what is known", reached.words(&self.limits));
                events.push(EventBody::Warning(Warning { code: reached.code().into(), message }));
            }
            events.extend(match reply.stop_reason {
                StopReason::Refusal => {
                    failure("refusal", "the model, or its provider's filter, refused to answer", false)
                }
                StopReason::MaxTokens if empty => failure(
                    "max_tokens",
                    "the reply reached the limit of its tokens before any text; raise max_tokens",
                    false,
                ),
                _ if empty => failure("empty_reply", "the model's reply was empty; send the message again", true),
                reason => {
                    let cut = (reason == StopReason::MaxTokens).then(|| {
                        EventBody::Warning(Warning {
                            code: "max_tokens".into(),
                            message: "the reply was cut at the limit of its tokens; raise max_tokens to get more"
                                .into(),
                        })
                    });
                    let outcome = if reached.is_some() { Outcome::Limit } else { Outcome::Completed };
                    cut.into_iter().chain([finished(run, outcome, usage)]).collect()
                }
            });
        }
        self.log.append(events).await
    }

    /// The reply was stopped in its middle: keeps what the user has read of it when it was cancelled.
    async fn stop(&self, run: &OpenRun, message_id: MessageId, written: Written) -> Result<(), LogClosed> {
        if !self.cancel.is_cancelled() {
            // Halted: the next owner asks anew.
            self.log.preview(message_id, Piece::Void);
            return Ok(());
        }
        let mut events = Vec::new();
        if !written.text.is_empty() {
            events.push(EventBody::AssistantMessage(AssistantMessageEvent {
                message_id,
                content: written.text,
                reasoning: (!written.reasoning.is_empty()).then_some(written.reasoning),
                tool_calls: Vec::new(),
                usage: Usage::default(),
                stop_reason: StopReason::Cancelled,
            }));
        }
        events.push(finished(run, Outcome::Cancelled, Usage::default()));
        self.log.append(events).await
    }
}

fn failure(code: &str, message: &str, retryable: bool) -> Vec<EventBody> {
    vec![EventBody::RunFailed(RunFailed { code: code.into(), message: message.into(), retryable })]
}

/// Resolves when either token is cancelled.
pub(super) async fn stopped(cancel: &CancellationToken, halt: &CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = halt.cancelled() => {}
    }
}
