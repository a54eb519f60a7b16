//! The report of a session: its log as a person reads it after an incident. A pure fold of events.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    attachment::MessageAttachment,
    event::{
        AffectedObject, ApprovalDecision, ApprovalRequested, EventAuthor, EventBody, InputAction, RunOutcome,
        SessionEvent,
    },
    ids::{ApprovalId, InputId, MessageId, RunId, SessionId, ToolCallId, UserId},
    message::{ReplyFeedback, TokenUsage, ToolEffect, ToolStatus},
    summary::SessionSummary,
    time::Timestamp,
    usage::ModelUsage,
};

/// The report of a session.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SessionReport {
    /// The session.
    pub session_id: SessionId,
    /// The title.
    pub title: String,
    /// The user of the session.
    pub user_id: UserId,
    /// When the session was created.
    pub created_at: Timestamp,
    /// When the newest event was logged.
    pub updated_at: Timestamp,
    /// The seq of the newest event in the report.
    pub last_seq: u64,
    /// The seq of the oldest event, if events before it are not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begins_at_seq: Option<u64>,
    /// The first message of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The newest answer of the model that ended a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<String>,
    /// Everything that happened, in order.
    pub entries: Vec<ReportEntry>,
    /// The calls that may have changed something, in order, with their approvals. They are among `entries`, too.
    pub changes: Vec<ReportedCall>,
    /// Tokens and cost of the whole session.
    pub usage: TokenUsage,
    /// Tokens and cost by model, as far as the events are kept.
    pub models: Vec<ModelUsage>,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReportEntry {
    /// The seq of the event.
    pub seq: u64,
    /// When it happened.
    pub ts: Timestamp,
    /// The run that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// What happened.
    #[serde(flatten)]
    pub item: ReportItem,
}

/// What happened. The field `kind` of the JSON names the variant.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReportItem {
    /// The user sent a message.
    Message(ReportedMessage),
    /// The model replied.
    Reply(ReportedReply),
    /// A tool call.
    Call(ReportedCall),
    /// An MCP server asked the user something.
    Question(ReportedQuestion),
    /// A run ended.
    RunFinished(ReportedOutcome),
    /// Something that a reader should know: a failure, a takeover, a warning, a loss of the store.
    Notice(ReportedNotice),
}

/// A message of the user.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReportedMessage {
    /// The message.
    pub message_id: MessageId,
    /// The text.
    pub content: String,
    /// The texts that were attached, as the log has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<MessageAttachment>,
}

/// A reply of the model.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReportedReply {
    /// The message.
    pub message_id: MessageId,
    /// The text, in Markdown.
    pub content: String,
    /// The model that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the user thinks of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feedback: Option<ReplyFeedback>,
}

/// A tool call, and what became of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReportedCall {
    /// The call.
    pub tool_call_id: ToolCallId,
    /// The name of the tool.
    pub name: String,
    /// The MCP server; empty if it is not known.
    pub server: String,
    /// The effect on the outside world, if the call was classified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<ToolEffect>,
    /// The arguments that were sent, or that the model wrote if the call was not sent.
    pub arguments: serde_json::Value,
    /// Its approvals, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<ReportedApproval>,
    /// When the call was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// When the call ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How the call ended; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ToolStatus>,
    /// The output, as the log has it.
    pub output: String,
    /// Whether `output` is less than what the tool returned.
    pub truncated: bool,
    /// The time from sending the call to its end, in milliseconds.
    pub duration_ms: u64,
}

/// An approval, and who answered it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReportedApproval {
    /// The approval.
    pub approval_id: ApprovalId,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// One line on what the call does.
    pub summary: String,
    /// The cluster, as the operator calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The objects that the call touches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<AffectedObject>,
    /// A diff, or the output of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// The decision; absent if there is none yet, or none is needed any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<ApprovalDecision>,
    /// Who decided: `user:<id>` or `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub by: Option<EventAuthor>,
    /// The comment of who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// When it was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
}

/// A question of an MCP server, and who answered it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReportedQuestion {
    /// The question.
    pub input_id: InputId,
    /// The MCP server.
    pub server: String,
    /// The question, in the words of the server.
    pub message: String,
    /// How it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<InputAction>,
    /// Who answered: `user:<id>` or `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub by: Option<EventAuthor>,
}

/// How a run ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReportedOutcome {
    /// The outcome.
    pub outcome: RunOutcome,
    /// The time since the run started, in milliseconds.
    pub duration_ms: u64,
    /// Tokens and cost of the run.
    pub usage: TokenUsage,
}

/// Something that a reader should know.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReportedNotice {
    /// A stable code.
    pub code: String,
    /// What happened.
    pub message: String,
}

/// Folds a log into a report. The events must be given in their order.
#[derive(Debug, Clone)]
pub struct ReportBuilder {
    report: SessionReport,
}

impl ReportBuilder {
    /// Begins the report of a session whose log is kept from `oldest_seq` on.
    #[must_use]
    pub fn new(summary: &SessionSummary, oldest_seq: u64) -> Self {
        Self {
            report: SessionReport {
                session_id: summary.session_id,
                title: summary.title.clone(),
                user_id: summary.user_id.clone(),
                created_at: summary.created_at,
                updated_at: summary.updated_at,
                last_seq: 0,
                begins_at_seq: (oldest_seq > 1).then_some(oldest_seq),
                question: None,
                conclusion: None,
                entries: Vec::new(),
                changes: Vec::new(),
                usage: summary.usage,
                models: Vec::new(),
            },
        }
    }

    /// Applies the next event.
    pub fn apply_event(&mut self, event: &Arc<SessionEvent>) {
        self.report.last_seq = event.seq;
        let ts = event.ts;
        let notice =
            |code: &str, message: String| ReportItem::Notice(ReportedNotice { code: code.to_owned(), message });
        match &event.body {
            EventBody::UserMessage(e) => {
                self.report.question.get_or_insert_with(|| e.content.clone());
                let (content, attachments) = (e.content.clone(), e.attachments.clone());
                let item = ReportedMessage { message_id: e.message_id, content, attachments };
                self.push(event, ReportItem::Message(item));
            }
            EventBody::AssistantMessage(e) => {
                self.add_usage(e.provider.as_deref(), e.model.as_deref(), e.usage);
                if !e.content.trim().is_empty() {
                    if e.tool_calls.is_empty() {
                        self.report.conclusion = Some(e.content.clone());
                    }
                    let (message_id, content, model) = (e.message_id, e.content.clone(), e.model.clone());
                    let reply = ReportedReply { message_id, content, model, feedback: None };
                    self.push(event, ReportItem::Reply(reply));
                }
                for call in &e.tool_calls {
                    let item = ReportedCall {
                        tool_call_id: call.id.clone(),
                        name: call.name.clone(),
                        server: String::new(),
                        effect: None,
                        arguments: call.arguments.clone(),
                        approvals: Vec::new(),
                        sent_at: None,
                        ended_at: None,
                        status: None,
                        output: String::new(),
                        truncated: false,
                        duration_ms: 0,
                    };
                    self.push(event, ReportItem::Call(item));
                }
            }
            EventBody::ApprovalRequested(e) => self.update_call(&e.tool_call_id, |call| {
                call.effect = Some(e.effect);
                call.approvals.push(reported_approval(e, ts));
            }),
            EventBody::ApprovalResolved(e) => {
                let mut approvals = self.calls().flat_map(|call| &mut call.approvals);
                if let Some(approval) = approvals.find(|known| known.approval_id == e.approval_id) {
                    approval.decision = Some(e.decision);
                    approval.by = Some(e.by.clone());
                    approval.comment.clone_from(&e.comment);
                    approval.decided_at = Some(ts);
                }
            }
            EventBody::InputRequested(e) => {
                let item = ReportedQuestion {
                    input_id: e.input_id,
                    server: e.server.clone(),
                    message: e.message.clone(),
                    action: None,
                    by: None,
                };
                self.push(event, ReportItem::Question(item));
            }
            EventBody::InputResolved(e) => {
                let mut questions = self.report.entries.iter_mut().rev().filter_map(|entry| match &mut entry.item {
                    ReportItem::Question(question) => Some(question),
                    _ => None,
                });
                if let Some(question) = questions.find(|question| question.input_id == e.input_id) {
                    question.action = Some(e.action);
                    question.by = Some(e.by.clone());
                }
            }
            EventBody::ToolStart(e) => self.update_call(&e.tool_call_id, |call| {
                call.effect = Some(e.effect);
                call.server.clone_from(&e.server);
                call.arguments = e.arguments.clone();
                call.sent_at = e.sent.then_some(ts);
            }),
            EventBody::ToolEnd(e) => self.update_call(&e.tool_call_id, |call| {
                if !e.server.is_empty() {
                    call.server.clone_from(&e.server);
                }
                call.ended_at = Some(ts);
                call.status = Some(e.status);
                call.output.clone_from(&e.content);
                call.truncated = e.truncated;
                call.duration_ms = e.duration_ms;
            }),
            EventBody::MessageFeedback(e) => {
                let mut replies = self.report.entries.iter_mut().rev().filter_map(|entry| match &mut entry.item {
                    ReportItem::Reply(reply) => Some(reply),
                    _ => None,
                });
                if let Some(reply) = replies.find(|reply| reply.message_id == e.message_id) {
                    let (rating, comment, by) = (e.rating, e.comment.clone(), e.by.clone());
                    reply.feedback = Some(ReplyFeedback { rating, comment, by, ts });
                }
            }
            EventBody::RunFinished(e) => {
                let item = ReportedOutcome { outcome: e.outcome, duration_ms: e.duration_ms, usage: e.usage };
                self.push(event, ReportItem::RunFinished(item));
            }
            EventBody::RunFailed(e) => self.push(event, notice(&e.code, format!("run failed: {}", e.message))),
            EventBody::RunRecovered(e) => {
                self.push(event, notice("run_recovered", format!("attempt {}: {}", e.attempt, e.reason)));
            }
            EventBody::Warning(e) => self.push(event, notice(&e.code, e.message.clone())),
            EventBody::LogTruncated(e) => {
                let message = format!("the store has lost events: {} from seq {} on are known", e.lost, e.from_seq);
                self.push(event, notice("log_truncated", message));
            }
            EventBody::TitleChanged(e) => self.report.title.clone_from(&e.title),
            EventBody::ContextCompacted(e) => self.add_usage(e.provider.as_deref(), e.model.as_deref(), e.usage),
            EventBody::MemorySaved(e) => self.add_usage(e.provider.as_deref(), e.model.as_deref(), e.usage),
            EventBody::SettingsChanged(e) => {
                let message = format!("model: {}/{}, by {}", e.settings.provider, e.settings.model, e.by);
                self.push(event, notice("settings_changed", message));
            }
            EventBody::SessionCreated(_)
            | EventBody::RunStarted(_)
            | EventBody::MemoryRecalled(_)
            | EventBody::ServersIntroduced(_) => {}
        }
    }

    /// Ends the report.
    #[must_use]
    pub fn finish(self) -> SessionReport {
        let mut report = self.report;
        let changes = report.entries.iter().filter_map(|entry| match &entry.item {
            ReportItem::Call(call) if call.effect.is_some_and(|effect| effect != ToolEffect::Read) => {
                Some(call.clone())
            }
            _ => None,
        });
        report.changes = changes.collect();
        report
    }

    fn push(&mut self, event: &SessionEvent, item: ReportItem) {
        self.report.entries.push(ReportEntry { seq: event.seq, ts: event.ts, run_id: event.run_id, item });
    }

    /// The calls, the newest first.
    fn calls(&mut self) -> impl Iterator<Item = &mut ReportedCall> {
        self.report.entries.iter_mut().rev().filter_map(|entry| match &mut entry.item {
            ReportItem::Call(call) => Some(call),
            _ => None,
        })
    }

    fn update_call(&mut self, id: &ToolCallId, update: impl FnOnce(&mut ReportedCall)) {
        if let Some(call) = self.calls().find(|call| call.tool_call_id == *id) {
            update(call);
        }
    }

    fn add_usage(&mut self, provider: Option<&str>, model: Option<&str>, usage: TokenUsage) {
        let (Some(provider), Some(model)) = (provider, model) else { return };
        let models = &mut self.report.models;
        match models.iter_mut().find(|known| known.provider == provider && known.model == model) {
            Some(known) => known.usage += usage,
            None => models.push(ModelUsage { provider: provider.to_owned(), model: model.to_owned(), usage }),
        }
    }
}

fn reported_approval(e: &ApprovalRequested, requested_at: Timestamp) -> ReportedApproval {
    ReportedApproval {
        approval_id: e.approval_id,
        requested_at,
        summary: e.summary.clone(),
        cluster: e.cluster.clone(),
        objects: e.objects.clone(),
        preview: e.preview.clone(),
        decision: None,
        by: None,
        comment: None,
        decided_at: None,
    }
}
