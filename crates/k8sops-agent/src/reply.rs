//! One reply of a model: who is asked for it, what it costs, and how it is committed.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    LogClosed, Piece, Run, RunView,
    attempts::{Asked, Written},
    budget, context, ended, finished,
    limits::Reached,
    lineup::{self, Candidate, Course},
    prompt::last_step,
};
use k8sops_core::{
    AssistantMessageEvent, ChatMessage, EventBody, MessageId, OpenRun, RunFailed, RunOutcome, SessionWarning,
    StopReason, TokenUsage, ToolCall, ToolCallId, ToolStatus, UserMessage,
};
use k8sops_models::{ChatRequest, ModelError, ModelReply, ToolChoice, tokens};

impl Run {
    /// Asks for the next reply and commits it; or ends the run.
    pub(super) async fn ask_model(&self, view: &RunView, run: &OpenRun, course: &mut Course) -> Result<(), LogClosed> {
        let reached = match self.limits.reached(run, &view.messages) {
            None => {
                let budgets = &self.limits.budgets;
                budget::spent(budgets, &run.usage, &view.used, self.spending.as_ref()).await.map(Reached::Budget)
            }
            reached => reached,
        };
        if let Some(reached @ Reached::Budget(_)) = reached
            && run.steps == 0
        {
            // Nothing is known yet that a last answer could say, and it would cost what may not be spent.
            let message = format!("{}; the message was not answered", reached.words(&self.limits));
            let warning = EventBody::Warning(SessionWarning::new(reached.code(), message));
            return self.log.append(vec![warning, finished(run, RunOutcome::Limit, TokenUsage::default())]).await;
        }
        let mut last = None;
        for turn in lineup::order(&self.lineup) {
            let turn = match turn {
                Ok(turn) => turn,
                Err((at, left)) => {
                    let why = format!("is down and is asked again in {} s", left.as_secs().max(1));
                    last = Some((at, why));
                    continue;
                }
            };
            self.announce(turn.at, last.take(), course).await?;
            if course.window.is_none() {
                course.window = turn.candidate.window().await;
            }
            if self.make_room(view, &turn, course).await? {
                return Ok(());
            }
            let request = |course: &Course| self.request(view, turn.candidate, reached, course);
            match self.attempts(run, &turn, course, request).await? {
                Asked::Answered(message_id, reply) => {
                    turn.candidate.circuit.record_success();
                    return self.commit_reply(view, run, turn.candidate, message_id, *reply, reached).await;
                }
                Asked::Stopped(message_id, written) => {
                    return self.stop(view, run, turn.candidate, message_id, written, course).await;
                }
                Asked::Interrupted => return Ok(()),
                Asked::GaveUp(error) => {
                    if speaks_of_the_model(&error) {
                        turn.candidate.circuit.record_failure();
                    }
                    let is_last = turn.at + 1 >= self.lineup.len();
                    if is_last || !speaks_of_the_model(&error) {
                        return self.log.append(vec![failed(run, &error)]).await;
                    }
                    last = Some((turn.at, format!("did not answer ({error})")));
                }
            }
        }
        // Those after the last one that was asked are all left alone, each for what it did a short while ago.
        let (at, why) = last.unwrap_or_default();
        let name = self.lineup.get(at).map(Candidate::name).unwrap_or_default();
        let message = format!("{name} {why}, and so did all that could stand in for it; try again in a moment");
        let failure = RunFailed { code: "models_unavailable".into(), message, retryable: true, usage: run.usage };
        self.log.append(vec![EventBody::RunFailed(failure)]).await
    }

    /// Says who answers, when it is not who answered before, and why.
    async fn announce(
        &self,
        at: usize,
        instead_of: Option<(usize, String)>,
        course: &mut Course,
    ) -> Result<(), LogClosed> {
        if course.at == at {
            return Ok(());
        }
        *course = Course { at, ..Course::default() };
        let name = self.lineup[at].name();
        let warning = match instead_of {
            Some((other, why)) => {
                let other = self.lineup[other].name();
                SessionWarning::new("fallback", format!("{other} {why}; this turn goes on with {name}"))
            }
            None => SessionWarning::new("fallback_over", format!("{name} is asked again")),
        };
        self.log.append(vec![EventBody::Warning(warning)]).await
    }

    /// The request for the next reply; `None` when the conversation cannot be cut down to the room that there is.
    fn request(
        &self,
        view: &RunView,
        candidate: &Candidate,
        reached: Option<Reached>,
        course: &Course,
    ) -> Option<ChatRequest> {
        let mut messages = context::conversation(view, self.limits.context.limit(course.window), course.room)?;
        if let Some(reached) = reached {
            let words = last_step(&reached.words(&self.limits));
            messages.push(Arc::new(ChatMessage::User(UserMessage::unlogged(words))));
        }
        let limit = |most: u32| self.settings.max_tokens.map_or(most, |wanted| wanted.min(most));
        Some(ChatRequest {
            provider: candidate.provider.clone(),
            model: candidate.model.clone(),
            system: self.system.clone(),
            messages,
            tools: self.tools.tool_specs(),
            tool_choice: if reached.is_some() { ToolChoice::None } else { ToolChoice::Auto },
            temperature: self.settings.temperature,
            max_tokens: candidate.max_tokens.map(limit).or(self.settings.max_tokens),
            reasoning: self.settings.reasoning,
        })
    }

    /// Commits a whole reply, and the end of the run with it where it asks for no tools.
    async fn commit_reply(
        &self,
        view: &RunView,
        run: &OpenRun,
        candidate: &Candidate,
        message_id: MessageId,
        reply: ModelReply,
        reached: Option<Reached>,
    ) -> Result<(), LogClosed> {
        // A model that calls tools although it was told not to gets no answer to them; and what was refused is not done in
        // part.
        let unanswered = reached.is_some() || reply.stop_reason == StopReason::Refusal;
        let dropped = unanswered && !reply.tool_calls.is_empty();
        let requested = if unanswered { Vec::new() } else { reply.tool_calls };
        let tool_calls: Vec<ToolCall> = requested
            .into_iter()
            .map(|call| ToolCall { id: ToolCallId::generate(), name: call.name, arguments: call.arguments })
            .collect();
        let (usage, empty) = (candidate.priced(reply.usage), reply.content.trim().is_empty());
        // A reply that its provider has paused goes on by itself; unless this was to be the last.
        let ends = tool_calls.is_empty() && (reply.stop_reason != StopReason::Paused || reached.is_some());
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
            provider: Some(candidate.provider.clone()),
            model: Some(candidate.model.clone()),
            // Of a reply that is not kept whole nothing can be given back.
            provider_data: reply.provider_data.filter(|_| !dropped),
        })];
        let news = reply.notices.into_iter().filter(|notice| !view.warned.contains(notice.code));
        events.extend(news.map(|notice| EventBody::Warning(SessionWarning::new(notice.code, notice.message))));
        events.extend(beyond);
        if ends {
            if let Some(reached) = reached {
                let message = format!("{}; the turn ends with what is known", reached.words(&self.limits));
                events.push(EventBody::Warning(SessionWarning::new(reached.code(), message)));
            }
            let mut all = run.usage;
            all += usage;
            let failure = |code: &str, message: &str, retryable| {
                vec![EventBody::RunFailed(RunFailed {
                    code: code.into(),
                    message: message.into(),
                    retryable,
                    usage: all,
                })]
            };
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
                        EventBody::Warning(SessionWarning::new(
                            "max_tokens",
                            "the reply was cut at the limit of its tokens; raise max_tokens to get more",
                        ))
                    });
                    let outcome = if reached.is_some() { RunOutcome::Limit } else { RunOutcome::Completed };
                    cut.into_iter().chain([finished(run, outcome, usage)]).collect()
                }
            });
        }
        self.log.append(events).await
    }

    /// The reply was stopped in its middle: keeps what the user has read of it when it was cancelled.
    async fn stop(
        &self,
        view: &RunView,
        run: &OpenRun,
        candidate: &Candidate,
        message_id: MessageId,
        written: Written,
        course: &Course,
    ) -> Result<(), LogClosed> {
        if !self.cancel.is_cancelled() {
            // Halted: the next owner asks anew.
            self.log.preview(message_id, Piece::Void);
            return Ok(());
        }
        let (mut events, mut usage) = (Vec::new(), TokenUsage::default());
        if !written.text.is_empty() {
            // The provider counts when a reply is whole, and bills what was sent and written all the same.
            let limit = self.limits.context.limit(course.window);
            let sent = context::estimate(view, limit, &self.system, &self.tools.tool_specs());
            let came = tokens::count(&written.text) + tokens::count(&written.reasoning);
            usage = candidate.priced(TokenUsage {
                input_tokens: sent as u64,
                output_tokens: came as u64,
                ..TokenUsage::default()
            });
            events.push(EventBody::AssistantMessage(AssistantMessageEvent {
                message_id,
                content: written.text,
                reasoning: (!written.reasoning.is_empty()).then_some(written.reasoning),
                tool_calls: Vec::new(),
                usage,
                stop_reason: StopReason::Cancelled,
                provider: Some(candidate.provider.clone()),
                model: Some(candidate.model.clone()),
                provider_data: None,
            }));
        }
        events.push(finished(run, RunOutcome::Cancelled, usage));
        self.log.append(events).await
    }
}

/// Whether a failure is one of the model and its provider, that another might not have; and not one of the request.
fn speaks_of_the_model(error: &ModelError) -> bool {
    !matches!(error, ModelError::ContextTooLong(_) | ModelError::InvalidRequest(_))
}

fn failed(run: &OpenRun, error: &ModelError) -> EventBody {
    EventBody::RunFailed(RunFailed {
        code: error.code().into(),
        message: error.to_string(),
        retryable: error.is_retryable(),
        usage: run.usage,
    })
}

/// Resolves when either token is cancelled.
pub(super) async fn stopped(cancel: &CancellationToken, halt: &CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = halt.cancelled() => {}
    }
}
