//! One step: which model is called for a reply, what it costs, and how it is committed.

use std::sync::Arc;

use crate::{
    budget,
    change_verification::{find_unverified_change, request_look},
    citations::{CitedOutputs, find_citations, find_unsupported_claim},
    context::{self, RequestContext},
    limits::LimitReached,
    model_selection::{self, ModelCandidate, ModelRouting},
    prompt::last_step_message,
    reply_attempts::{PartialReply, StepOutcome},
    request_ladder::{RequestLadder, simplify_conversation},
    run::Run,
    run_events::{run_finished, tool_call_ended},
    run_log::{LogClosed, PreviewChunk, RunView},
};
use k8sops_core::{
    AssistantMessageEvent, ChatMessage, ConversationForm, EventBody, MessageId, OpenRun, RunFailed, RunOutcome,
    SessionWarning, StopReason, TokenUsage, ToolCall, ToolCallId, ToolStatus, UserMessage,
};
use k8sops_models::{ChatRequest, ModelError, ModelErrorKind, ModelReply, ToolChoice, tokens};

impl Run {
    /// Requests the next reply and commits it, or ends the run.
    pub(crate) async fn ask_model(
        &self,
        view: &RunView,
        run: &OpenRun,
        routing: &mut ModelRouting,
    ) -> Result<(), LogClosed> {
        let reached = match self.limits.find_reached(run, &view.messages) {
            None => {
                let budgets = &self.limits.budgets;
                budget::find_spent_budget(budgets, &run.usage, &view.used, self.usage_source.as_ref())
                    .await
                    .map(LimitReached::Budget)
            }
            reached => reached,
        };
        if let Some(reached @ LimitReached::Budget(_)) = reached
            && run.steps == 0
        {
            // Nothing is known yet that a last reply could report, and the reply would exceed the budget.
            let message = format!("{}; the message was not answered", reached.describe(&self.limits));
            let warning = EventBody::Warning(SessionWarning::new(reached.code(), message));
            return self
                .log
                .append_events(vec![warning, run_finished(run, RunOutcome::Limit, TokenUsage::default())])
                .await;
        }
        let mut last = None;
        for target in model_selection::attempt_order(&self.candidates) {
            let target = match target {
                Ok(target) => target,
                Err((at, left)) => {
                    let why = format!("is unavailable and is tried again in {} s", left.as_secs().max(1));
                    last = Some((at, why));
                    continue;
                }
            };
            self.announce_model(target.index, last.take(), routing).await?;
            if routing.context_window.is_none() {
                routing.context_window = target.candidate.resolve_context_window().await;
            }
            if self.compact_context(view, &target, routing).await? {
                return Ok(());
            }
            let request = |routing: &ModelRouting, form: &ConversationForm| {
                self.build_request(view, target.candidate, reached, routing, form)
            };
            let ladder = RequestLadder::new(view, target.candidate);
            let outcome = self.attempt_reply(run, &target, routing, ladder, request).await?;
            // Failed attempts may have used tokens.
            let run = &self.log.view().run.unwrap_or_else(|| run.clone());
            match outcome {
                StepOutcome::Answered(message_id, reply) => {
                    target.candidate.circuit.record_success();
                    return self.commit_reply(view, run, target.candidate, message_id, *reply, reached).await;
                }
                StepOutcome::Stopped(message_id, partial) => {
                    return self.commit_stopped_reply(view, run, target.candidate, message_id, partial, routing).await;
                }
                StepOutcome::Interrupted => return Ok(()),
                StepOutcome::GaveUp(error) => {
                    if is_provider_fault(&error) && !is_about_one_request(&error) {
                        target.candidate.circuit.record_failure();
                    }
                    let is_last = target.index + 1 >= self.candidates.len();
                    if is_last || !is_provider_fault(&error) {
                        return self.log.append_events(vec![run_failed(run, &error)]).await;
                    }
                    last = Some((target.index, format!("did not answer ({error})")));
                }
            }
        }
        // The circuit breakers of all later models are open.
        let (at, why) = last.unwrap_or_default();
        let name = self.candidates.get(at).map(ModelCandidate::name).unwrap_or_default();
        let message = format!("{name} {why}, and no fallback answered; try again in a moment");
        let failure = RunFailed {
            code: "models_unavailable".into(),
            message,
            retryable: true,
            provider_request_id: None,
            usage: run.usage,
        };
        self.log.append_events(vec![EventBody::RunFailed(failure)]).await
    }

    /// Warns of an answer that states facts of the cluster in a turn in which no tool ran.
    fn unsupported_claim_warning(&self, answer: &str, view: &RunView) -> Option<SessionWarning> {
        let mut turn =
            view.messages.iter().rev().take_while(|message| !matches!(message.as_ref(), ChatMessage::User(_)));
        if turn.any(|message| matches!(message.as_ref(), ChatMessage::Tool(_))) {
            return None;
        }
        let system = self.system_prompt(view);
        let summary = view.compaction.as_ref().map(|compaction| compaction.summary.as_ref());
        let known = [Some(system.as_ref()), summary].into_iter().flatten();
        let claim = find_unsupported_claim(answer, &view.messages, &known.collect::<Vec<_>>())?;
        let message =
            format!("no tool ran in this turn, and no earlier message says {claim:?}; check it before you rely on it");
        Some(SessionWarning::new("unsupported_claims", message))
    }

    /// Returns the warning of a change that was not looked at, if there is one.
    pub(crate) fn unverified_change_warning(&self, view: &RunView) -> Option<SessionWarning> {
        let tool = find_unverified_change(&view.messages, self.tools.as_ref())?;
        let message =
            format!("{tool} changed something in this turn, and the agent did not check the result; check it yourself");
        Some(SessionWarning::new("unverified_change", message))
    }

    /// Announces a change of the model, with its reason.
    async fn announce_model(
        &self,
        index: usize,
        instead_of: Option<(usize, String)>,
        routing: &mut ModelRouting,
    ) -> Result<(), LogClosed> {
        if routing.index == index {
            return Ok(());
        }
        *routing = ModelRouting { index, ..ModelRouting::default() };
        let name = self.candidates[index].name();
        let warning = match instead_of {
            Some((other, why)) => {
                let other = self.candidates[other].name();
                SessionWarning::new("fallback", format!("{other} {why}; this turn continues with {name}"))
            }
            None => SessionWarning::new("fallback_over", format!("{name} is used again")),
        };
        self.log.append_events(vec![EventBody::Warning(warning)]).await
    }

    /// Returns the conversation of this run, for requests of at most `limit` tokens.
    pub(crate) fn request_context<'a>(&'a self, view: &'a RunView, limit: usize) -> RequestContext<'a> {
        RequestContext { view, prepared: &self.prepared, limit, time_zone: self.settings.time_zone.as_deref() }
    }

    /// Builds the request for the next reply; `None` when the conversation cannot be truncated far enough.
    fn build_request(
        &self,
        view: &RunView,
        candidate: &ModelCandidate,
        reached: Option<LimitReached>,
        routing: &ModelRouting,
        form: &ConversationForm,
    ) -> Option<ChatRequest> {
        let limit = self.limits.context.max_request_tokens(routing.context_window);
        let messages = self.request_context(view, limit).build_conversation(routing.max_bytes)?;
        let mut messages = simplify_conversation(view, messages, form);
        if find_unverified_change(&view.messages, self.tools.as_ref()).is_some() {
            request_look(&mut messages);
        }
        if let Some(reached) = reached {
            let words = last_step_message(&reached.describe(&self.limits));
            messages.push(Arc::new(ChatMessage::User(UserMessage::unlogged(words))));
        }
        let limit = |most: u32| self.settings.max_tokens.map_or(most, |wanted| wanted.min(most));
        Some(ChatRequest {
            provider: candidate.provider.clone(),
            model: candidate.model.clone(),
            system: self.system_prompt(view),
            messages,
            tools: self.tools.tool_specs(&view.messages),
            found_tools: self.tools.found_tools(&kept_messages(view, form)),
            tool_choice: if reached.is_some() { ToolChoice::None } else { ToolChoice::Auto },
            temperature: self.settings.temperature,
            max_tokens: candidate.max_tokens.map(limit).or(self.settings.max_tokens),
            reasoning: self.settings.reasoning,
            form: form.form,
        })
    }

    /// Commits a complete reply, together with the end of the run if it calls no tools.
    async fn commit_reply(
        &self,
        view: &RunView,
        run: &OpenRun,
        candidate: &ModelCandidate,
        message_id: MessageId,
        reply: ModelReply,
        reached: Option<LimitReached>,
    ) -> Result<(), LogClosed> {
        // Calls of a model that was told to call no tools are dropped, and so are those of a refused reply.
        let unanswered = reached.is_some() || reply.stop_reason == StopReason::Refusal;
        let dropped = unanswered && !reply.tool_calls.is_empty();
        let requested = if unanswered { Vec::new() } else { reply.tool_calls };
        let tool_calls: Vec<ToolCall> = requested
            .into_iter()
            .map(|call| ToolCall { id: ToolCallId::generate(), name: call.name, arguments: call.arguments })
            .collect();
        let (usage, empty) = (candidate.with_cost(reply.usage), reply.content.trim().is_empty());
        // A reply that its provider paused continues in the next step, unless this was the last one.
        let ends = tool_calls.is_empty() && (reply.stop_reason != StopReason::Paused || reached.is_some());
        let allowed = self.limits.max_calls.saturating_sub(run.call_count);
        let beyond = tool_calls.iter().skip(usize::try_from(allowed).unwrap_or(usize::MAX));
        let beyond: Vec<EventBody> = beyond
            .map(|call| {
                let words = LimitReached::Calls.describe(&self.limits);
                tool_call_ended(call, &self.find_tool_server(call), ToolStatus::Error, format!("not run: {words}"))
            })
            .collect();
        let CitedOutputs { citations, unknown } = find_citations(&reply.content, &view.messages);
        let mut remarks = Vec::new();
        if ends && !empty {
            let claim = || self.unsupported_claim_warning(&reply.content, view);
            remarks.extend(self.unverified_change_warning(view).or_else(claim));
            remarks.extend(unknown_citation_warning(&unknown));
        }
        let mut events = vec![EventBody::AssistantMessage(AssistantMessageEvent {
            message_id,
            content: reply.content,
            reasoning: reply.reasoning,
            tool_calls,
            citations,
            usage,
            stop_reason: reply.stop_reason,
            provider: Some(candidate.provider.clone()),
            model: Some(candidate.model.clone()),
            // Provider data belongs to the whole reply, so a reply without its calls has none.
            provider_data: reply.provider_data.filter(|_| !dropped),
        })];
        let news = reply.notices.into_iter().filter(|notice| !view.warned.contains(notice.code));
        events.extend(news.map(|notice| EventBody::Warning(SessionWarning::new(notice.code, notice.message))));
        events.extend(remarks.into_iter().map(EventBody::Warning));
        events.extend(beyond);
        if ends {
            if let Some(reached) = reached {
                let message = format!("{}; the turn ends with what is known", reached.describe(&self.limits));
                events.push(EventBody::Warning(SessionWarning::new(reached.code(), message)));
            }
            let mut all = run.usage;
            all += usage;
            let failure = |code: &str, message: &str, retryable| {
                vec![EventBody::RunFailed(RunFailed {
                    code: code.into(),
                    message: message.into(),
                    retryable,
                    provider_request_id: None,
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
                    cut.into_iter().chain([run_finished(run, outcome, usage)]).collect()
                }
            });
        }
        self.log.append_events(events).await
    }

    /// Estimates the usage of a reply that was stopped halfway: the provider reports usage at the end of a reply, and bills a
    /// stopped one as well.
    async fn estimate_stopped_usage(
        &self,
        view: &RunView,
        candidate: &ModelCandidate,
        partial: &PartialReply,
        routing: &ModelRouting,
    ) -> TokenUsage {
        if !candidate.chat.uses_tokens() {
            return TokenUsage::default();
        }
        let limit = self.limits.context.max_request_tokens(routing.context_window);
        let context = self.request_context(view, limit);
        let sent =
            context.estimate_request_tokens(&self.system_prompt(view), &self.tools.tool_specs(&view.messages)).await;
        let came = tokens::count(&partial.text) + tokens::count(&partial.reasoning);
        candidate.with_cost(TokenUsage {
            input_tokens: sent as u64,
            output_tokens: came as u64,
            ..TokenUsage::default()
        })
    }

    /// Handles a reply that was stopped halfway: after a cancel, commits the part that the user has read.
    async fn commit_stopped_reply(
        &self,
        view: &RunView,
        run: &OpenRun,
        candidate: &ModelCandidate,
        message_id: MessageId,
        partial: PartialReply,
        routing: &ModelRouting,
    ) -> Result<(), LogClosed> {
        if !self.cancel.is_cancelled() {
            // Halted: the next owner requests the reply again.
            self.log.send_preview(message_id, PreviewChunk::Void);
            return Ok(());
        }
        let (mut events, mut usage) = (Vec::new(), TokenUsage::default());
        if !partial.text.is_empty() {
            usage = self.estimate_stopped_usage(view, candidate, &partial, routing).await;
            events.push(EventBody::AssistantMessage(AssistantMessageEvent {
                message_id,
                content: partial.text,
                reasoning: (!partial.reasoning.is_empty()).then_some(partial.reasoning),
                tool_calls: Vec::new(),
                citations: Vec::new(),
                usage,
                stop_reason: StopReason::Cancelled,
                provider: Some(candidate.provider.clone()),
                model: Some(candidate.model.clone()),
                provider_data: None,
            }));
        }
        events.push(run_finished(run, RunOutcome::Cancelled, usage));
        self.log.append_events(events).await
    }
}

/// Returns the messages as they are in the log, without outputs that the model's provider does not accept.
fn kept_messages(view: &RunView, form: &ConversationForm) -> Vec<Arc<ChatMessage>> {
    let is_kept = |message: &&Arc<ChatMessage>| !form.outputs_left_out.contains(&message.seq());
    context::messages_after_summary(view).iter().filter(is_kept).cloned().collect()
}

fn unknown_citation_warning(numbers: &[u64]) -> Option<SessionWarning> {
    let listed: Vec<String> = numbers.iter().map(|n| format!("[{n}]")).collect();
    (!numbers.is_empty()).then(|| {
        let message =
            format!("the answer cites {}, but this session has no output with that number", listed.join(", "));
        SessionWarning::new("unknown_citation", message)
    })
}

/// Returns whether another model may succeed where this error occurred.
fn is_provider_fault(error: &ModelError) -> bool {
    match error.kind {
        ModelErrorKind::ContextTooLong | ModelErrorKind::ContentFiltered => false,
        // A server that rejects every form of a conversation does not say what the user could mend.
        ModelErrorKind::InvalidRequest => error.is_rejected_request(),
        _ => true,
    }
}

/// Returns whether an error says nothing of the next call: it is the model's luck in one reply, or about one conversation.
fn is_about_one_request(error: &ModelError) -> bool {
    matches!(
        error.kind,
        ModelErrorKind::MalformedToolCall | ModelErrorKind::EmptyReply | ModelErrorKind::InvalidRequest
    )
}

fn run_failed(run: &OpenRun, error: &ModelError) -> EventBody {
    EventBody::RunFailed(RunFailed {
        code: error.code().into(),
        message: error.to_string(),
        retryable: error.is_retryable(),
        provider_request_id: error.details.request_id.clone(),
        usage: run.usage,
    })
}
