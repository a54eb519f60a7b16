//! The tools of one session: arguments and outputs are redacted, and outputs are truncated and stored.
//!
//! ```text
//! arguments ─▶ placeholders become values ─▶ MCP server ─▶ values become placeholders ─▶ stored whole ─▶ truncated ─▶ log, model
//! ```

use std::{borrow::Cow, sync::Arc};

use async_trait::async_trait;
use serde_json::{Map, Value};

use k8sops_classifier::SensitiveOutput;
use k8sops_core::{
    ApprovalId, ApprovalRequested, ChatMessage, MessageAttachment, OutputStore, PreviewDetail, SentAttachment,
    ServerIntroduction, SessionId, SessionLog, ToolCallId, ToolEffect, ToolStatus, UserId, load_state, run_long_work,
};
use k8sops_mcp::{
    CallError, CallLimits, CallOutput, CallProgress, ElicitationHandler, McpCallContext, McpHub, OperatorNote,
    ServerStatus, WAITS_FOR_TOKEN,
};
use k8sops_models::{FoundTools, ToolSpec};
use parking_lot::Mutex;

use crate::{
    ArgumentMismatch, CallPreview, ClassifiedCall, PreviewFreshness, StaleApproval, ToolCallContext, ToolCatalog,
    ToolExecutor, ToolExecutorFactory, ToolOptions, ToolOutcome, ToolRef, UntrustedWord, UserTokens, attachments,
    call_errors::explain_call_error,
    catalog::PreviewRun,
    contains_secret,
    output::{OutputBudget, TruncatedOutput, fit_output},
    output_tools,
    preview::{FittedPreview, PreviewBody, fit_preview},
    redacted_output::{RedactedOutput, redact_output},
    redacting_elicitation::RedactingElicitationHandler,
    redaction::{ContentHint, RedactionVault, arguments_contain_placeholder},
    server_introduction::introduce_server,
    tool_search::{FIND_TOOLS, found_names},
    vault_registry::{VaultCell, VaultRegistry},
};

/// Most bytes of a preview in an approval request. It is for people, so no model's tokens count.
const MAX_PREVIEW_BYTES: usize = 48 * 1024;

/// Creates the tool executors of sessions over MCP servers and the built-in tools. Cheap to clone.
#[derive(Clone)]
pub struct SessionToolFactory(Arc<SharedTools>);

struct SharedTools {
    catalog: Arc<ToolCatalog>,
    hub: Arc<McpHub>,
    outputs: Arc<dyn OutputStore>,
    log: Arc<dyn SessionLog>,
    limits: CallLimits,
    tokens: UserTokens,
    vaults: VaultRegistry,
    config: ToolOptions,
}

impl SharedTools {
    /// Returns the vault of a session, which is created on first use.
    async fn open_vault(&self, session: SessionId, cell: &VaultCell) -> Arc<RedactionVault> {
        let create = || async {
            let key = self.outputs.deployment_key().await.unwrap_or_else(|error| {
                // With a random key, the placeholders differ from those of an earlier owner. No secret is shown.
                tracing::warn!(%session, %error, "deployment key unavailable");
                k8sops_core::random_key()
            });
            Arc::new(RedactionVault::new(&key, &session.to_string()))
        };
        cell.get_or_init(create).await.clone()
    }

    fn output_budget(&self, context_window: Option<u32>) -> OutputBudget {
        let share = context_window.and_then(|tokens| usize::try_from(tokens).ok());
        let share = share.map_or(usize::MAX, |tokens| tokens / 100 * self.config.max_output_share);
        OutputBudget { tokens: self.config.max_output_tokens.min(share), bytes: self.config.max_output_bytes }
    }
}

impl SessionToolFactory {
    /// Creates a factory of the tools in `catalog`. Calls go through `hub` within `limits`, with the user's token from
    /// `tokens` where a server wants it. Truncated outputs are stored whole in `outputs`; the others are in `log`.
    #[must_use]
    pub fn new(
        catalog: Arc<ToolCatalog>,
        hub: Arc<McpHub>,
        outputs: Arc<dyn OutputStore>,
        log: Arc<dyn SessionLog>,
        limits: CallLimits,
        tokens: UserTokens,
        config: ToolOptions,
    ) -> Self {
        Self(Arc::new(SharedTools {
            catalog,
            hub,
            outputs,
            log,
            limits,
            tokens,
            vaults: VaultRegistry::default(),
            config,
        }))
    }
}

#[async_trait]
impl ToolExecutorFactory for SessionToolFactory {
    fn create_executor(&self, session: SessionId, user: &UserId) -> Arc<dyn ToolExecutor> {
        Arc::new(SessionToolExecutor {
            shared: self.0.clone(),
            session,
            user: user.clone(),
            vault: self.0.vaults.vault_of(session),
            found: Mutex::default(),
        })
    }

    fn validate_arguments(&self, name: &str, arguments: &Map<String, Value>) -> Result<(), ArgumentMismatch> {
        self.0.catalog.validate_arguments(name, arguments)
    }

    async fn prepare_attachments(
        &self,
        session: SessionId,
        attachments: Vec<SentAttachment>,
        context_window: Option<u32>,
    ) -> Vec<SentAttachment> {
        let vault = self.0.open_vault(session, &self.0.vaults.vault_of(session)).await;
        let budget = self.0.output_budget(context_window);
        let unreadable: Vec<SentAttachment> = attachments.iter().map(without_text).collect();
        let prepare = move || attachments::prepare_attachments(&vault, attachments, budget);
        tokio::task::spawn_blocking(prepare).await.unwrap_or_else(|error| {
            // A text that cannot be redacted is not shown.
            tracing::error!(%session, %error, "redaction failed");
            unreadable
        })
    }
}

pub(crate) struct SessionToolExecutor {
    shared: Arc<SharedTools>,
    session: SessionId,
    user: UserId,
    vault: VaultCell,
    /// Tools that earlier runs found with `find_tools`. Fixed within a run.
    found: Mutex<Arc<[String]>>,
}

impl SessionToolExecutor {
    pub(crate) async fn vault(&self) -> Arc<RedactionVault> {
        self.shared.open_vault(self.session, &self.vault).await
    }

    /// Returns the context of a call of this session, without progress and elicitations.
    fn call_context(&self) -> McpCallContext {
        McpCallContext {
            user: Some(self.user.clone()),
            session: Some(self.session),
            user_token: self.shared.tokens.token_of(self.session),
            ..McpCallContext::with_limits(self.shared.limits)
        }
    }

    fn output_budget(&self, context_window: Option<u32>) -> OutputBudget {
        self.shared.output_budget(context_window)
    }

    /// Sends one call, with secret values in the place of their placeholders, and redacts the answer.
    async fn send_call(
        &self,
        tool: &ToolRef,
        effect: ToolEffect,
        hint: ContentHint,
        arguments: &Map<String, Value>,
        context: McpCallContext,
    ) -> RedactedOutput {
        let vault = self.vault().await;
        let arguments = match vault.reveal_placeholders(arguments) {
            Ok(arguments) => arguments,
            Err(unresolved) => {
                let text = format!("{unresolved} The call was not run.");
                return RedactedOutput { status: ToolStatus::Error, text, structured: None };
            }
        };
        let answer = self.shared.hub.call_tool(tool.server(), tool.tool(), arguments, context).await;
        let redact = move || match answer {
            Ok(output) => redact_output(&vault, output, hint),
            Err(error) => {
                let (status, text) = explain_call_error(&error, effect);
                let text = vault.redact_text(&text, ContentHint::Any).into_owned();
                RedactedOutput { status, text, structured: None }
            }
        };
        match tokio::task::spawn_blocking(redact).await {
            Ok(output) => output,
            // An output that cannot be redacted is not shown.
            Err(error) => {
                tracing::error!(session = %self.session, %error, "redaction failed");
                let error = CallError::Failed("k8sops could not redact the output".into());
                let (status, text) = explain_call_error(&error, effect);
                RedactedOutput { status, text, structured: None }
            }
        }
    }

    /// Truncates an output to the budget. If anything is left out, the whole output is stored.
    async fn truncate_output(&self, call: &ToolCallId, output: RedactedOutput, budget: OutputBudget) -> ToolOutcome {
        let RedactedOutput { status, text, structured } = output;
        // A copy, which takes milliseconds for megabytes.
        let text: Arc<str> = run_long_work(text.len(), move || text.into()).await;
        let whole = text.clone();
        let advice = output_tools::reading_advice(call);
        let truncate = move || fit_output(&whole, structured, budget, Some(&advice));
        let truncated = tokio::task::spawn_blocking(truncate).await.unwrap_or_else(|error| {
            tracing::error!(session = %self.session, %error, "output truncation failed");
            TruncatedOutput {
                content: format!("[the output could not be truncated; {}]", output_tools::reading_advice(call)),
                structured: None,
                truncated: true,
                bytes: text.len() as u64,
            }
        });
        if truncated.truncated {
            let max_bytes = self.shared.config.keep_output_bytes;
            if let Err(error) = self.shared.outputs.save_output(self.session, call, text, max_bytes).await {
                tracing::warn!(session = %self.session, %call, %error, "whole output not stored");
            }
        }
        let TruncatedOutput { content, structured, truncated, bytes } = truncated;
        ToolOutcome { status, content, structured, truncated, bytes }
    }

    pub(crate) fn catalog(&self) -> &ToolCatalog {
        &self.shared.catalog
    }

    /// Makes a call that only reads, and returns what the server sent, with its secrets.
    pub(crate) async fn read_unredacted(&self, call: PreviewRun) -> Result<CallOutput, CallError> {
        let PreviewRun { tool, arguments, .. } = call;
        self.shared.hub.call_tool(tool.server(), tool.tool(), arguments, self.call_context()).await
    }

    /// Returns what a dry run of a call prints; `None` if there is no such call that is certain to change nothing.
    pub(crate) async fn run_dry_run(&self, tool: &ToolRef, arguments: &Map<String, Value>) -> Option<String> {
        // The call is not approved yet, so no tool gets the value of a secret; and what a dry run makes of a placeholder
        // would not be what the call does.
        if arguments_contain_placeholder(arguments) {
            return None;
        }
        let PreviewRun { tool, arguments, sensitive_output } = self.shared.catalog.build_preview(tool, arguments)?;
        let context = self.call_context();
        let hint = content_hint(sensitive_output);
        let output = self.send_call(&tool, ToolEffect::Read, hint, &arguments, context).await;
        Some(match output.status {
            ToolStatus::Ok => output.text,
            // `kubectl diff` fails like this if there is a difference.
            _ => format!("The preview failed, or it found differences:\n{}", output.text),
        })
    }

    /// Stores a whole preview, and fits it into the limit of an approval request.
    async fn store_preview(&self, approval: ApprovalId, text: String) -> FittedPreview {
        let advice = format!("GET /v1/sessions/{}/approvals/{approval}/preview returns all of it", self.session);
        let fitted = fit_preview(&text, MAX_PREVIEW_BYTES, &advice);
        let (call, max_bytes) = (approval.preview_output_id(), self.shared.config.keep_output_bytes);
        if let Err(error) = self.shared.outputs.save_output(self.session, &call, text.into(), max_bytes).await {
            tracing::warn!(session = %self.session, %approval, %error, "whole preview not stored");
        }
        fitted
    }

    /// Reads from the log which tools earlier runs found. A session whose servers' tools all fit needs none.
    async fn load_found_tools(&self) {
        if !self.shared.catalog.has_hidden_tools() {
            return;
        }
        match load_state(self.shared.log.as_ref(), self.session).await {
            Ok(loaded) => *self.found.lock() = found_names(&loaded.state.messages).into(),
            Err(error) => tracing::warn!(session = %self.session, %error, "found tools not read"),
        }
    }

    async fn run_output_tool(&self, tool: &str, arguments: &Map<String, Value>, budget: OutputBudget) -> ToolOutcome {
        let outputs = self.shared.outputs.as_ref();
        let log = self.shared.log.as_ref();
        let keep_bytes = self.shared.config.keep_output_bytes;
        match output_tools::run_output_tool(outputs, log, self.session, tool, arguments, budget, keep_bytes).await {
            // The output was redacted when it was stored; more secrets may be known by now.
            Ok(content) => {
                let content = self.vault().await.redact_text(&content, ContentHint::Any).into_owned();
                text_outcome(ToolStatus::Ok, content)
            }
            Err(error) => text_outcome(ToolStatus::Error, error.to_string()),
        }
    }
}

fn without_text(sent: &SentAttachment) -> SentAttachment {
    let text = "[k8sops could not redact this attachment, so it is not shown]".to_owned();
    SentAttachment { attachment: MessageAttachment { text, ..sent.attachment.clone() }, whole: None }
}

fn text_outcome(status: ToolStatus, content: String) -> ToolOutcome {
    let bytes = content.len() as u64;
    ToolOutcome { status, content, structured: None, truncated: false, bytes }
}

fn content_hint(sensitive: Option<SensitiveOutput>) -> ContentHint {
    match sensitive {
        None => ContentHint::Any,
        Some(SensitiveOutput::Objects) => ContentHint::Objects,
        Some(SensitiveOutput::Values) => ContentHint::Values,
    }
}

#[async_trait]
impl ToolExecutor for SessionToolExecutor {
    async fn wait_until_ready(&self) {
        self.shared.hub.wait_for_first_attempts().await;
        if let Some(token) = self.shared.tokens.token_of(self.session) {
            self.shared.hub.connect_user(&token).await;
        }
        self.load_found_tools().await;
    }

    async fn introduce_servers(&self, known: &[ServerIntroduction]) -> Vec<ServerIntroduction> {
        let is_known = |name: &str| known.iter().any(|server| server.server == name);
        let statuses = self.shared.hub.statuses();
        // The tools of a server that was lost stay on offer.
        let mut new = statuses.iter().filter(|status| status.connected || !status.tools.is_empty());
        let Some(first) = new.find(|status| !is_known(&status.name)) else { return Vec::new() };
        let vault = self.vault().await;
        let new = [first].into_iter().chain(new.filter(|status| !is_known(&status.name)));
        let introductions = new
            .map(|status| introduce_server(&status.name, &status.identity, &self.operator_note(&status.name), &vault));
        introductions.collect()
    }

    fn operator_note(&self, server: &str) -> OperatorNote {
        self.shared.hub.operator_note(server)
    }

    fn tool_specs(&self, messages: &[Arc<ChatMessage>]) -> Arc<[ToolSpec]> {
        let found = self.found.lock().clone();
        self.shared.catalog.tool_specs(&found, messages)
    }

    fn found_tools(&self, messages: &[Arc<ChatMessage>]) -> FoundTools {
        self.shared.catalog.found_tools(messages)
    }

    fn unavailable_servers(&self) -> Vec<String> {
        let statuses = self.shared.hub.statuses();
        // A server that each user connects to separately has no connection of its own.
        let is_missing =
            |status: &&Arc<ServerStatus>| !status.connected && status.error.as_deref() != Some(WAITS_FOR_TOKEN);
        statuses.iter().filter(is_missing).map(|status| status.name.clone()).collect()
    }

    fn classify_call(
        &self,
        name: &str,
        arguments: &Map<String, Value>,
        untrusted_word: Option<&UntrustedWord>,
    ) -> Option<ClassifiedCall> {
        let arguments = &*self.shared.catalog.restore_argument_keys(name, arguments);
        Some(self.shared.catalog.classify_by_name(name, arguments, untrusted_word)?.call)
    }

    fn contains_secret(&self, text: &str) -> bool {
        let is_known =
            self.vault.get().is_some_and(|vault| matches!(vault.redact_text(text, ContentHint::Any), Cow::Owned(_)));
        is_known || contains_secret(text)
    }

    async fn store_attachments(&self, attachments: &[SentAttachment]) {
        let max_bytes = self.shared.config.keep_output_bytes;
        for SentAttachment { attachment, whole } in attachments {
            let (Some(whole), id) = (whole.clone(), &attachment.attachment_id) else { continue };
            if let Err(error) = self.shared.outputs.save_output(self.session, id, whole, max_bytes).await {
                tracing::warn!(session = %self.session, attachment = %id, %error, "whole attachment not stored");
            }
        }
    }

    async fn preview_call(&self, name: &str, arguments: &Map<String, Value>, approval: ApprovalId) -> CallPreview {
        let arguments = &*self.shared.catalog.restore_argument_keys(name, arguments);
        let Some(resolved) = self.shared.catalog.classify_by_name(name, arguments, None) else {
            return CallPreview::default();
        };
        let ClassifiedCall { tool, reason, .. } = resolved.call;
        let preview = self.make_preview(&tool, arguments, &reason).await;
        let mut shown = CallPreview {
            summary: preview.summary,
            objects: preview.objects,
            dependents: preview.dependents,
            cluster: self.shared.hub.cluster_of(tool.server()).map(str::to_owned),
            text: None,
            detail: None,
        };
        if let Some(PreviewBody { kind, text, digest }) = preview.body {
            let fitted = self.store_preview(approval, text).await;
            shown.detail = Some(PreviewDetail { kind, lines_omitted: fitted.lines_omitted, digest });
            shown.text = Some(fitted.text);
        }
        shown
    }

    async fn check_preview(&self, approved: &ApprovalRequested) -> PreviewFreshness {
        let digest = approved.preview_detail.as_ref().and_then(|detail| detail.digest.as_ref());
        let (Some(digest), Value::Object(arguments)) = (digest, &approved.arguments) else {
            return PreviewFreshness::Current;
        };
        let Some(resolved) = self.shared.catalog.classify_by_name(&approved.name, arguments, None) else {
            return PreviewFreshness::Current;
        };
        let ClassifiedCall { tool, reason, .. } = resolved.call;
        if self.shared.catalog.decide_stale_approval(&tool, arguments) == StaleApproval::Run {
            return PreviewFreshness::Current;
        }
        let now = self.make_preview(&tool, arguments, &reason).await;
        match now.body.and_then(|body| body.digest) {
            Some(current) if current == *digest => PreviewFreshness::Current,
            Some(_) => PreviewFreshness::Changed { what: format!("what it showed has changed ({})", now.summary) },
            None => PreviewFreshness::Changed { what: "what it showed could not be read again".to_owned() },
        }
    }

    async fn execute_call(
        &self,
        call: &ClassifiedCall,
        arguments: &Map<String, Value>,
        context: ToolCallContext,
    ) -> ToolOutcome {
        let arguments = &*self.shared.catalog.restore_keys_by_ref(&call.tool, arguments);
        let budget = self.output_budget(context.context_window);
        if call.tool.server() == output_tools::SERVER && call.tool.tool() == FIND_TOOLS {
            return match self.shared.catalog.find_tools(arguments).await {
                Ok(found) => text_outcome(ToolStatus::Ok, found),
                Err(error) => text_outcome(ToolStatus::Error, error.to_string()),
            };
        }
        if call.tool.server() == output_tools::SERVER {
            return self.run_output_tool(call.tool.tool(), arguments, budget).await;
        }
        let sensitive_output = match self.shared.catalog.check_unchanged(call, arguments) {
            Ok(sensitive_output) => sensitive_output,
            Err(outdated) => return text_outcome(ToolStatus::Error, format!("{outdated} The call was not run.")),
        };
        let vault = self.vault().await;
        let sink = context.progress;
        let progress_vault = vault.clone();
        let progress = Arc::new(move |mut progress: CallProgress| {
            let message = progress.message.take();
            progress.message =
                message.map(|message| progress_vault.redact_text(&message, ContentHint::Any).into_owned());
            sink(progress);
        });
        let elicitation_handler = RedactingElicitationHandler::new(vault, context.elicitation_handler);
        let mcp_context = McpCallContext {
            progress,
            elicitation_handler: Some(Arc::new(elicitation_handler) as Arc<dyn ElicitationHandler>),
            ..self.call_context()
        };
        let hint = content_hint(sensitive_output);
        let output = self.send_call(&call.tool, call.effect, hint, arguments, mcp_context).await;
        self.truncate_output(&context.id, output, budget).await
    }
}
