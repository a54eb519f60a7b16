//! The tool calls of one reply: each is classified, approved if needed, executed and ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::{
    elicitation::UserElicitation,
    limits::RunLimits,
    model_selection::ModelRouting,
    provenance::find_untrusted_word,
    run::Run,
    run_events::{OUTCOME_UNKNOWN, RECORD_LOST, tool_call_ended},
    run_log::{LogClosed, RunView, StartConfirmation},
};
use k8sops_core::{
    ApprovalDecision, ApprovalId, ApprovalRequested, ApprovalResolved, ApprovalState, ChatMessage, EventBody,
    LostToolCall, OpenRun, OpenToolCall, RunId, ServerIntroduction, SessionWarning, StopReason, Timestamp, ToolCall,
    ToolCallId, ToolEffect, ToolEnd, ToolProgress, ToolStart, ToolStatus,
};
use k8sops_tools::{
    ApprovalRequirement, CallPreview, CallProgress, ClassifiedCall, PreviewFreshness, ToolCallContext, ToolOutcome,
};

/// Time limit of a preview, after which the approval request goes out without one.
const PREVIEW_TIMEOUT: Duration = Duration::from_secs(20);
/// Code of the warning that an approval lapsed.
const APPROVAL_STALE: &str = "approval_stale";
/// Said of a call that was cancelled before it was sent.
const NOT_RUN: &str = "cancelled by the user before it was run";
/// Said of a call whose start was not confirmed.
const NOT_CONFIRMED: &str = "not sent, and nothing was changed: the session store did not confirm in time that the record of this call would survive \
     a failure, so sending it could have made the change twice. Call the tool again if the change is still needed; if this \
     error repeats, the operator has to look at the store.";

/// What all calls of one reply share.
struct CallEnvironment<'a> {
    /// The conversation up to the reply.
    messages: &'a [Arc<ChatMessage>],
    /// What MCP servers say of themselves.
    servers: &'a [ServerIntroduction],
    /// Calls that were sent, and whose records the store has lost.
    lost_calls: &'a [LostToolCall],
    /// The context window of the model that made the calls, in tokens.
    context_window: Option<u32>,
}

/// Which calls of one reply may run concurrently.
struct CallConcurrency {
    /// Permits of calls with the effect `read`.
    read: Semaphore,
    /// The permit of all other calls, which run one after another in the order of their approval: two changes that the model
    /// meant in an order must not race.
    change: Semaphore,
}

impl Run {
    /// Resolves every open call of the run. Leaves calls open only when the run is halted.
    pub(crate) async fn resolve_calls(
        &self,
        run: &OpenRun,
        view: &RunView,
        routing: &ModelRouting,
    ) -> Result<(), LogClosed> {
        let known = self.candidates.get(routing.index).and_then(|candidate| candidate.context_window);
        let RunView { messages, servers, lost_calls, .. } = view;
        let context_window = routing.context_window.or(known);
        let environment = CallEnvironment { messages, servers, lost_calls, context_window };
        let concurrency =
            CallConcurrency { read: Semaphore::new(self.limits.parallel_tools), change: Semaphore::new(1) };
        try_join_all(run.calls.iter().map(|call| self.resolve_call(run.run_id, call, &environment, &concurrency)))
            .await?;
        Ok(())
    }

    async fn resolve_call(
        &self,
        run_id: RunId,
        open: &OpenToolCall,
        environment: &CallEnvironment<'_>,
        concurrency: &CallConcurrency,
    ) -> Result<(), LogClosed> {
        let messages = environment.messages;
        let call = &open.call;
        let end = async |status, content: &str| {
            let known = open.server();
            let server = if known.is_empty() { self.find_tool_server(call) } else { known.to_owned() };
            self.log.append_events(vec![tool_call_ended(call, &server, status, content)]).await
        };
        let attempt = open.started.as_ref().map_or(1, |s| s.attempt + 1);

        // An earlier owner sent this call. Only a `read` call may be sent again.
        if let Some(started) = &open.started
            && started.effect != ToolEffect::Read
        {
            return end(ToolStatus::Unknown, OUTCOME_UNKNOWN).await;
        }
        if environment.lost_calls.iter().any(|lost| call.repeats(run_id, lost)) {
            return end(ToolStatus::Unknown, RECORD_LOST).await;
        }
        if self.cancel.is_cancelled() {
            return end(ToolStatus::Cancelled, NOT_RUN).await;
        }
        let Value::Object(arguments) = &call.arguments else {
            return end(ToolStatus::Error, invalid_arguments_message(messages)).await;
        };
        if let Some(why) = self.limits.refuse_repeated_call(call, messages) {
            return end(ToolStatus::Error, &why).await;
        }
        // After an approval lapsed, it is asked for the arguments that were approved then, which may be edited ones.
        let asked = open.approval.as_ref().and_then(|approval| approval.requested.arguments.as_object());
        let mut arguments = asked.unwrap_or(arguments).clone();
        let mut lapsed = None;
        loop {
            let untrusted_word =
                find_untrusted_word(&arguments, messages, &self.tools.tool_specs(messages), environment.servers);
            let Some(mut class) = self.tools.classify_call(&call.name, &arguments, untrusted_word.as_ref()) else {
                let message =
                    format!("there is no tool {:?}; use one of the tools on offer, by its exact name", call.name);
                return end(ToolStatus::Error, &message).await;
            };
            let reason = match &class.approval {
                ApprovalRequirement::Deny { reason } => {
                    let message = format!("not allowed: {reason}");
                    return self.deny_call(call, &class, arguments, attempt, &message).await;
                }
                ApprovalRequirement::Ask { reason } => Some(reason.clone()),
                // An answer stands even if the operator's rules have changed since: a denial as well as edited arguments.
                ApprovalRequirement::Run if open.approval.is_some() || lapsed.is_some() => Some(class.reason.clone()),
                ApprovalRequirement::Run => None,
            };
            let mut approved = None;
            if let Some(reason) = reason {
                let question = ApprovalQuestion { call, class: &class, reason, arguments: &arguments, lapsed };
                match self.await_approval(question).await? {
                    ApprovalAnswer::Approved(approval, Some(edited)) => {
                        // Edited arguments are the words of the person who edited them.
                        let Some(edited_class) = self.tools.classify_call(&call.name, &edited, None) else {
                            return end(ToolStatus::Error, "the tool no longer exists; nothing was run").await;
                        };
                        if let ApprovalRequirement::Deny { reason } = &edited_class.approval {
                            let message = format!("not allowed, even as edited: {reason}");
                            return self.deny_call(call, &edited_class, edited, attempt, &message).await;
                        }
                        class = edited_class;
                        arguments = edited;
                        approved = Some(approval);
                    }
                    ApprovalAnswer::Approved(approval, None) => approved = Some(approval),
                    ApprovalAnswer::Denied(message) => {
                        return self.deny_call(call, &class, arguments, attempt, &message).await;
                    }
                    ApprovalAnswer::Cancelled => return end(ToolStatus::Cancelled, NOT_RUN).await,
                    ApprovalAnswer::Halted => return Ok(()),
                }
            }
            let lane = if class.effect == ToolEffect::Read { &concurrency.read } else { &concurrency.change };
            let _turn = lane.acquire().await.expect("the semaphore is never closed");
            // What was seen is compared directly before the call, behind all calls that had their turn before.
            let freshness = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return end(ToolStatus::Cancelled, NOT_RUN).await,
                () = self.halt.cancelled() => return Ok(()),
                freshness = self.check_preview(approved.as_deref()) => freshness,
            };
            if let (Some(approval), PreviewFreshness::Changed { what }) = (approved, freshness) {
                lapsed = Some(LapsedApproval { id: approval.approval_id, what });
                continue;
            }
            return self.run_call(run_id, call, &class, arguments, attempt, environment).await;
        }
    }

    /// Ends a call that was denied. Its start is committed with its end, so that no owner takes it for one that was sent.
    async fn deny_call(
        &self,
        call: &ToolCall,
        class: &ClassifiedCall,
        arguments: Map<String, Value>,
        attempt: u32,
        message: &str,
    ) -> Result<(), LogClosed> {
        let start = ToolStart { sent: false, ..tool_start(call, class, arguments, attempt) };
        let end = tool_call_ended(call, class.tool.server(), ToolStatus::Denied, message);
        self.log.append_events(vec![EventBody::ToolStart(start), end]).await
    }

    /// Returns the server of the tool that a call names; empty if there is no such tool.
    pub(crate) fn find_tool_server(&self, call: &ToolCall) -> String {
        let class = self.tools.classify_call(&call.name, call.arguments.as_object().unwrap_or(&Map::new()), None);
        class.map(|class| class.tool.server().to_owned()).unwrap_or_default()
    }

    /// Compares what an approval showed with what holds now.
    async fn check_preview(&self, approved: Option<&ApprovalRequested>) -> PreviewFreshness {
        let Some(approved) = approved else { return PreviewFreshness::Current };
        let check = tokio::time::timeout(PREVIEW_TIMEOUT, self.tools.check_preview(approved));
        check.await.unwrap_or_else(|_| PreviewFreshness::Changed {
            what: format!("what it showed could not be read again within {} s", PREVIEW_TIMEOUT.as_secs()),
        })
    }

    /// Sends one call and commits its end. Its start is committed before, and confirmed if the call may change something.
    async fn run_call(
        &self,
        run_id: RunId,
        call: &ToolCall,
        class: &ClassifiedCall,
        arguments: Map<String, Value>,
        attempt: u32,
        environment: &CallEnvironment<'_>,
    ) -> Result<(), LogClosed> {
        let start = tool_start(call, class, arguments.clone(), attempt);
        self.log.append_events(vec![EventBody::ToolStart(start)]).await?;
        if let Some((status, why)) = self.find_obstacle(call, class.effect).await {
            self.log.record_unsent_call(&call.id);
            return self.log.append_events(vec![tool_call_ended(call, class.tool.server(), status, why)]).await;
        }
        // Another process may have taken over the session and ended this call as `unknown`.
        if !self.log.holds_lease() {
            return Err(LogClosed);
        }
        let began = Instant::now();
        let (log, id) = (self.log.clone(), call.id.clone());
        let progress = Arc::new(move |p: CallProgress| {
            let CallProgress { progress, total, message } = p;
            log.send_progress(ToolProgress { tool_call_id: id.clone(), run_id, progress, total, message });
        });
        let elicitation_handler = Arc::new(UserElicitation::new(self, call.id.clone(), class.tool.server().to_owned()));
        let call_site = ToolCallContext {
            id: call.id.clone(),
            progress,
            elicitation_handler,
            context_window: environment.context_window,
        };
        // A halt does not interrupt a call, because its outcome would be lost. The call ends within its own time limit.
        let outcome = tokio::select! {
            biased;
            outcome = self.tools.execute_call(class, &arguments, call_site) => Some(outcome),
            () = self.cancel.cancelled() => None,
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let outcome = outcome.unwrap_or_else(|| {
            let (status, explanation) = if class.effect == ToolEffect::Read {
                (ToolStatus::Cancelled, "cancelled by the user while it ran".to_owned())
            } else {
                (ToolStatus::Unknown, format!("Cancelled by the user while it ran. {OUTCOME_UNKNOWN}"))
            };
            let bytes = explanation.len() as u64;
            ToolOutcome { status, content: explanation, structured: None, truncated: false, bytes }
        });
        let mut output = outcome.content;
        output.extend(RunLimits::repeat_remark(call, &output, environment.messages));
        let end = ToolEnd {
            tool_call_id: call.id.clone(),
            name: call.name.clone(),
            server: class.tool.server().to_owned(),
            status: outcome.status,
            content: output,
            structured: outcome.structured,
            truncated: outcome.truncated,
            bytes: outcome.bytes,
            duration_ms,
        };
        self.log.append_events(vec![EventBody::ToolEnd(end)]).await
    }

    /// Returns why a call whose start is committed is not sent: its status, and what is said of it.
    async fn find_obstacle(&self, call: &ToolCall, effect: ToolEffect) -> Option<(ToolStatus, &'static str)> {
        let confirmation = async {
            match effect {
                // A `read` call can be sent any number of times.
                ToolEffect::Read => StartConfirmation::Confirmed,
                ToolEffect::Idempotent | ToolEffect::Mutating => self.log.confirm_call_start(&call.id).await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Some((ToolStatus::Cancelled, NOT_RUN)),
            confirmation = confirmation => match confirmation {
                StartConfirmation::Confirmed => None,
                StartConfirmation::Unconfirmed => Some((ToolStatus::Error, NOT_CONFIRMED)),
            },
        }
    }

    /// Requests approval, unless an earlier owner did, and waits for the answer.
    async fn await_approval(&self, question: ApprovalQuestion<'_>) -> Result<ApprovalAnswer, LogClosed> {
        let ApprovalQuestion { call, class, reason, arguments, lapsed } = question;
        let mut changes = self.log.subscribe();
        if lapsed.is_some() || self.newest_approval(&call.id).is_none() {
            let approval_id = ApprovalId::new();
            let preview = self.tools.preview_call(&call.name, arguments, approval_id);
            let preview = tokio::select! {
                preview = tokio::time::timeout(PREVIEW_TIMEOUT, preview) => preview.unwrap_or_default(),
                () = self.cancel.cancelled() => return Ok(ApprovalAnswer::Cancelled),
                () = self.halt.cancelled() => return Ok(ApprovalAnswer::Halted),
            };
            let CallPreview { summary, objects, dependents, cluster, text, detail } = preview;
            let request = ApprovalRequested {
                approval_id,
                tool_call_id: call.id.clone(),
                name: call.name.clone(),
                arguments: Value::Object(arguments.clone()),
                effect: class.effect,
                reason,
                preview: text,
                expires_at: Timestamp::now().saturating_add(self.limits.approval_ttl),
                summary,
                objects,
                dependents,
                server: class.tool.server().to_owned(),
                cluster,
                preview_detail: detail,
                replaces: lapsed.as_ref().map(|lapsed| lapsed.id),
                answered_by: self.approval_audience,
            };
            let mut events = Vec::new();
            if let Some(LapsedApproval { what, .. }) = lapsed {
                let message = format!("{} was approved and not run: {what}; it is asked again", call.name);
                events.push(EventBody::Warning(SessionWarning::new(APPROVAL_STALE, message)));
            }
            events.push(EventBody::ApprovalRequested(request));
            self.log.append_events(events).await?;
        }
        loop {
            changes.mark_unchanged();
            if let Some(ApprovalState { requested, resolved: Some(resolved) }) = self.newest_approval(&call.id) {
                return Ok(ApprovalAnswer::from_log(requested, &resolved));
            }
            tokio::select! {
                result = changes.changed() => result.map_err(|_| LogClosed)?,
                () = self.cancel.cancelled() => return Ok(ApprovalAnswer::Cancelled),
                () = self.halt.cancelled() => return Ok(ApprovalAnswer::Halted),
            }
        }
    }

    /// Returns the newest approval that was requested for a call.
    fn newest_approval(&self, call: &ToolCallId) -> Option<ApprovalState> {
        let run = self.log.view().run?;
        run.calls.into_iter().find(|open| &open.call.id == call)?.approval
    }
}

/// Returns the start of a call that is about to be sent.
fn tool_start(call: &ToolCall, class: &ClassifiedCall, arguments: Map<String, Value>, attempt: u32) -> ToolStart {
    ToolStart {
        tool_call_id: call.id.clone(),
        name: call.name.clone(),
        server: class.tool.server().to_owned(),
        arguments: Value::Object(arguments),
        effect: class.effect,
        attempt,
        sent: true,
    }
}

/// A call for which an approval is requested.
struct ApprovalQuestion<'a> {
    call: &'a ToolCall,
    class: &'a ClassifiedCall,
    reason: String,
    arguments: &'a Map<String, Value>,
    /// The approval that this one replaces.
    lapsed: Option<LapsedApproval>,
}

/// An approval that was granted and does not hold any more, because what it showed has changed.
struct LapsedApproval {
    id: ApprovalId,
    /// What has changed.
    what: String,
}

/// Returns the message about arguments that are not an object.
fn invalid_arguments_message(messages: &[Arc<ChatMessage>]) -> &'static str {
    let reply = messages.iter().rev().find_map(|message| match message.as_ref() {
        ChatMessage::Assistant(reply) => Some(reply),
        _ => None,
    });
    if reply.is_some_and(|reply| reply.stop_reason == StopReason::MaxTokens) {
        "your reply was cut at the limit of its tokens before the arguments were whole, so nothing was run; call the tool \
         again with shorter arguments, or do it in several calls"
    } else {
        "the arguments are not a JSON object; call the tool again with an object that fits its schema"
    }
}

/// The answer to an approval request.
enum ApprovalAnswer {
    /// Execute what was requested, with other arguments if they were edited.
    Approved(Box<ApprovalRequested>, Option<Map<String, Value>>),
    /// Do not execute it; holds the message to the model.
    Denied(String),
    Cancelled,
    Halted,
}

impl ApprovalAnswer {
    fn from_log(requested: ApprovalRequested, resolved: &ApprovalResolved) -> Self {
        let comment = resolved.comment.as_deref().filter(|c| !c.trim().is_empty());
        match resolved.decision {
            ApprovalDecision::Approve => {
                let edited = resolved.arguments.as_ref().and_then(|a| a.as_object().cloned());
                Self::Approved(Box::new(requested), edited)
            }
            ApprovalDecision::Deny => Self::Denied(match comment {
                Some(comment) => format!("denied by the user, who says: {comment}"),
                None => "denied by the user".into(),
            }),
            ApprovalDecision::Expired => Self::Denied("not run: the approval expired".into()),
        }
    }
}
