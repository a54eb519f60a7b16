//! The tool calls of one reply: each is classed, approved where that is needed, run, and ended. None is left open.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::{Limits, LogClosed, Run, ask::UserAsker, ended, lineup::Course, trust::word_from_outside};
use k8sops_core::{
    ApprovalDecision, ApprovalId, ApprovalRequested, ApprovalResolved, ChatMessage, EventBody, OpenRun, OpenToolCall,
    RunId, StopReason, Timestamp, ToolCall, ToolEffect, ToolEnd, ToolProgress, ToolStart, ToolStatus,
};
use k8sops_tools::{ApprovalRequirement, CallProgress, ClassifiedCall, ToolCallContext, ToolOutcome};

/// How long finding out what a call would do may take, before the user is asked without.
const PREVIEW_LIMIT: Duration = Duration::from_secs(20);
const NOT_RUN: &str = "cancelled by the user before it was run";
const MAYBE_DONE: &str =
    "The call was sent, and it is not known whether it took effect. Look at the state before doing it again.";

/// What the calls of one reply are made in.
struct Scene<'a> {
    /// The conversation up to the reply.
    messages: &'a [Arc<ChatMessage>],
    /// Tokens that the model which asked can take in.
    context_window: Option<u32>,
}

/// What bounds the calls of one reply that run at the same time.
struct Lanes {
    /// Calls that change nothing.
    read: Semaphore,
    /// Calls that change something go one after another, in the order of their approval: two changes that were meant in an
    /// order must not race.
    change: Semaphore,
}

impl Run {
    /// Brings every open call of the run to its end. Returns early, with calls left open, only when the run is halted.
    pub(super) async fn resolve_calls(
        &self,
        run: &OpenRun,
        messages: &[Arc<ChatMessage>],
        course: &Course,
    ) -> Result<(), LogClosed> {
        let known = self.lineup.get(course.at).and_then(|candidate| candidate.context_window);
        let scene = Scene { messages, context_window: course.window.or(known) };
        let lanes = Lanes { read: Semaphore::new(self.limits.parallel_tools), change: Semaphore::new(1) };
        try_join_all(run.calls.iter().map(|call| self.resolve(run.run_id, call, &scene, &lanes))).await?;
        Ok(())
    }

    async fn resolve(
        &self,
        run_id: RunId,
        open: &OpenToolCall,
        scene: &Scene<'_>,
        lanes: &Lanes,
    ) -> Result<(), LogClosed> {
        let messages = scene.messages;
        let call = &open.call;
        let end = |status, content: &str| self.log.append(vec![ended(call, status, content)]);

        // An owner before this one sent it. Only what changes nothing is sent again.
        if let Some(started) = &open.started
            && started.effect != ToolEffect::Read
        {
            return end(ToolStatus::Unknown, MAYBE_DONE).await;
        }
        if self.cancel.is_cancelled() {
            return end(ToolStatus::Cancelled, NOT_RUN).await;
        }
        let Value::Object(arguments) = &call.arguments else {
            return end(ToolStatus::Error, no_object(messages)).await;
        };
        if let Some(why) = self.limits.refuses(call, messages) {
            return end(ToolStatus::Error, &why).await;
        }
        let Some(mut class) = self.tools.classify_call(&call.name, arguments) else {
            let message = format!("there is no tool {:?}; use one of the tools on offer, by its exact name", call.name);
            return end(ToolStatus::Error, &message).await;
        };
        if class.approval == ApprovalRequirement::Denied {
            let message = format!(
                "not allowed: this call would change something ({}), and the operator allows none",
                class.reason
            );
            return end(ToolStatus::Denied, &message).await;
        }
        if class.approval == ApprovalRequirement::RequiredIfUntrusted
            && let Some((word, place)) = word_from_outside(arguments, messages, &self.tools.tool_specs())
        {
            class.approval = ApprovalRequirement::Required;
            class.reason = format!("{}; {word:?} in its arguments comes from {place}", class.reason);
        }
        // What was asked is answered, whatever the operator's rules have become since: a refusal stands, and so do edited
        // arguments.
        let arguments = if class.approval == ApprovalRequirement::Required || open.approval.is_some() {
            match self.approval(open, &class, arguments).await? {
                Answer::Approved(Some(edited)) => {
                    let Some(edited_class) = self.tools.classify_call(&call.name, &edited) else {
                        return end(ToolStatus::Error, "the tool is not there any more; nothing was run").await;
                    };
                    if edited_class.approval == ApprovalRequirement::Denied {
                        let message = format!("not allowed, even as edited ({})", edited_class.reason);
                        return end(ToolStatus::Denied, &message).await;
                    }
                    class = edited_class;
                    edited
                }
                Answer::Approved(None) => arguments.clone(),
                Answer::Refused(message) => return end(ToolStatus::Denied, &message).await,
                Answer::Cancelled => return end(ToolStatus::Cancelled, NOT_RUN).await,
                Answer::Halted => return Ok(()),
            }
        } else {
            arguments.clone()
        };
        let lane = if class.effect == ToolEffect::Read { &lanes.read } else { &lanes.change };
        let _turn = lane.acquire().await.expect("the semaphore is never closed");
        if self.cancel.is_cancelled() {
            return end(ToolStatus::Cancelled, NOT_RUN).await;
        }
        if self.halt.is_cancelled() {
            return Ok(());
        }
        let attempt = open.started.as_ref().map_or(1, |s| s.attempt + 1);
        self.run_call(run_id, call, &class, arguments, attempt, scene).await
    }

    /// Sends one call and logs its end. The start is durable before the call is sent.
    async fn run_call(
        &self,
        run_id: RunId,
        call: &ToolCall,
        class: &ClassifiedCall,
        arguments: Map<String, Value>,
        attempt: u32,
        scene: &Scene<'_>,
    ) -> Result<(), LogClosed> {
        let start = ToolStart {
            tool_call_id: call.id.clone(),
            name: call.name.clone(),
            server: class.tool.server().to_owned(),
            arguments: Value::Object(arguments.clone()),
            effect: class.effect,
            attempt,
        };
        self.log.append(vec![EventBody::ToolStart(start)]).await?;
        // Cancelled while the start was made durable: nothing was sent yet, and nothing is.
        if self.cancel.is_cancelled() {
            return self.log.append(vec![ended(call, ToolStatus::Cancelled, NOT_RUN)]).await;
        }
        // Another process may have taken the session since, and said that it is not known what became of this call.
        if !self.log.holds() {
            return Err(LogClosed);
        }
        let began = Instant::now();
        let (log, id) = (self.log.clone(), call.id.clone());
        let progress = Arc::new(move |p: CallProgress| {
            let CallProgress { progress, total, message } = p;
            log.progress(ToolProgress { tool_call_id: id.clone(), run_id, progress, total, message });
        });
        let elicitation_handler = Arc::new(UserAsker::new(self, call.id.clone(), class.tool.server().to_owned()));
        let context = ToolCallContext {
            id: call.id.clone(),
            progress,
            elicitation_handler,
            context_window: scene.context_window,
        };
        // A halt does not break off a call: its outcome would be lost. It has the call's own time limit to end.
        let outcome = tokio::select! {
            biased;
            outcome = self.tools.execute_call(class, &arguments, context) => Some(outcome),
            () = self.cancel.cancelled() => None,
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let outcome = outcome.unwrap_or_else(|| {
            let (status, content) = if class.effect == ToolEffect::Read {
                (ToolStatus::Cancelled, "cancelled by the user while it ran".to_owned())
            } else {
                (ToolStatus::Unknown, format!("Cancelled by the user while it ran. {MAYBE_DONE}"))
            };
            let bytes = content.len() as u64;
            ToolOutcome { status, content, structured: None, truncated: false, bytes }
        });
        let mut content = outcome.content;
        content.extend(Limits::remark(call, &content, scene.messages));
        let end = ToolEnd {
            tool_call_id: call.id.clone(),
            status: outcome.status,
            content,
            structured: outcome.structured,
            truncated: outcome.truncated,
            bytes: outcome.bytes,
            duration_ms,
        };
        self.log.append(vec![EventBody::ToolEnd(end)]).await
    }

    /// Asks for approval, unless that was done before, and waits for the answer.
    async fn approval(
        &self,
        open: &OpenToolCall,
        class: &ClassifiedCall,
        arguments: &Map<String, Value>,
    ) -> Result<Answer, LogClosed> {
        let mut changes = self.log.changes();
        if open.approval.is_none() {
            let preview = tokio::select! {
                preview = tokio::time::timeout(PREVIEW_LIMIT, self.tools.preview_call(&open.call.name, arguments)) => {
                    preview.ok().flatten()
                }
                () = self.cancel.cancelled() => return Ok(Answer::Cancelled),
                () = self.halt.cancelled() => return Ok(Answer::Halted),
            };
            let request = ApprovalRequested {
                approval_id: ApprovalId::new(),
                tool_call_id: open.call.id.clone(),
                name: open.call.name.clone(),
                arguments: open.call.arguments.clone(),
                effect: class.effect,
                reason: class.reason.clone(),
                preview,
                expires_at: Timestamp::now().plus(self.limits.approval_ttl),
            };
            self.log.append(vec![EventBody::ApprovalRequested(request)]).await?;
        }
        loop {
            changes.mark_unchanged();
            let view = self.log.view();
            let calls = view.run.iter().flat_map(|run| &run.calls);
            let approval = calls.filter(|c| c.call.id == open.call.id).find_map(|c| c.approval.as_ref());
            if let Some(resolved) = approval.and_then(|a| a.resolved.as_ref()) {
                return Ok(Answer::from(resolved));
            }
            tokio::select! {
                result = changes.changed() => result.map_err(|_| LogClosed)?,
                () = self.cancel.cancelled() => return Ok(Answer::Cancelled),
                () = self.halt.cancelled() => return Ok(Answer::Halted),
            }
        }
    }
}

/// What the model is told of arguments that are no object.
fn no_object(messages: &[Arc<ChatMessage>]) -> &'static str {
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

/// What became of a request for approval.
enum Answer {
    /// Run it, with these arguments if they were edited.
    Approved(Option<Map<String, Value>>),
    /// Do not run it; what to tell the model.
    Refused(String),
    Cancelled,
    Halted,
}

impl From<&ApprovalResolved> for Answer {
    fn from(resolved: &ApprovalResolved) -> Self {
        let comment = resolved.comment.as_deref().filter(|c| !c.trim().is_empty());
        match resolved.decision {
            ApprovalDecision::Approve => {
                Self::Approved(resolved.arguments.as_ref().and_then(|a| a.as_object().cloned()))
            }
            ApprovalDecision::Deny => Self::Refused(match comment {
                Some(comment) => format!("denied by the user, who says: {comment}"),
                None => "denied by the user".into(),
            }),
            ApprovalDecision::Expired => Self::Refused("not run: nobody approved it in time".into()),
        }
    }
}

/// The end of a call whose run cannot be driven any further.
pub(super) fn end_of_interrupted(open: &OpenToolCall) -> EventBody {
    match &open.started {
        Some(started) if started.effect != ToolEffect::Read => ended(&open.call, ToolStatus::Unknown, MAYBE_DONE),
        Some(_) => ended(&open.call, ToolStatus::Error, "the run failed while the call ran"),
        None => ended(&open.call, ToolStatus::Cancelled, "not run: the run failed before"),
    }
}
