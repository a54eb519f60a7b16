//! Tool calls: traced, and recorded in the audit trail before they are sent.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tracing::Instrument as _;

use super::span_context;
use crate::{
    audit::{AuditAction, AuditRecord, AuditTrail},
    runtime::{lease::LeaseValidity, run_handle::SessionProjection},
};
use k8sops_core::{
    ApprovalId, ApprovalRequested, ChatMessage, ErrorChain, SentAttachment, ServerIntroduction, ToolCallId, ToolEffect,
    ToolStatus,
};
use k8sops_models::{FoundTools, ToolSpec};
use k8sops_telemetry::spans;
use k8sops_tools::{
    CallPreview, ClassifiedCall, OperatorNote, PreviewFreshness, ToolCallContext, ToolExecutor, ToolOutcome,
    UntrustedWord,
};

pub(in crate::runtime) struct InstrumentedTools {
    pub(in crate::runtime) inner: Arc<dyn ToolExecutor>,
    pub(in crate::runtime) projection: Arc<SessionProjection>,
    pub(in crate::runtime) audit: AuditTrail,
    pub(in crate::runtime) lease_validity: Arc<LeaseValidity>,
}

impl InstrumentedTools {
    /// Records a call in the audit trail. A `read` call is sent meanwhile, any other once its record is durable.
    ///
    /// # Errors
    /// The reason why the call must not be sent.
    async fn audit_call(
        &self,
        class: &ClassifiedCall,
        arguments: &Map<String, Value>,
        id: &ToolCallId,
    ) -> Result<(), String> {
        if !self.audit.is_enabled() {
            return Ok(());
        }
        let target = &class.tool;
        let entry = self.projection.read(|state| {
            let calls = state.run.iter().flat_map(|run| &run.calls);
            let approval = calls.filter(|open| &open.call.id == id).find_map(|open| open.approval.as_ref());
            let approved_by = approval.and_then(|a| a.resolved.as_ref()).map(|resolved| resolved.by.to_string());
            AuditRecord::new(AuditAction::ToolCallStarted)
                .with_actor(format!("user:{}", state.summary.user_id))
                .with_session(state.summary.session_id)
                .with_run(state.summary.open_run)
                .with_tool_call(id, target.server(), target.tool(), class.effect)
                .with_arguments(&Value::Object(arguments.clone()))
                .with_approver(approved_by)
        });
        if class.effect == ToolEffect::Read {
            self.audit.record(vec![entry]).await;
            return Ok(());
        }
        self.audit.record_durably(entry).await.map_err(|error| {
            let error = ErrorChain(&error);
            format!("not run: {error}, and no change is made without an audit record; tell the operator")
        })?;
        // The write may have taken longer than the lease.
        if !self.lease_validity.is_held() {
            return Err("not run: another process may have taken over the session".to_owned());
        }
        Ok(())
    }
}

#[async_trait]
impl ToolExecutor for InstrumentedTools {
    async fn wait_until_ready(&self) {
        self.inner.wait_until_ready().await;
    }

    async fn introduce_servers(&self, known: &[ServerIntroduction]) -> Vec<ServerIntroduction> {
        self.inner.introduce_servers(known).await
    }

    fn operator_note(&self, server: &str) -> OperatorNote {
        self.inner.operator_note(server)
    }

    fn tool_specs(&self, messages: &[Arc<ChatMessage>]) -> Arc<[ToolSpec]> {
        self.inner.tool_specs(messages)
    }

    fn found_tools(&self, messages: &[Arc<ChatMessage>]) -> FoundTools {
        self.inner.found_tools(messages)
    }

    fn classify_call(
        &self,
        name: &str,
        arguments: &Map<String, Value>,
        untrusted_word: Option<&UntrustedWord>,
    ) -> Option<ClassifiedCall> {
        self.inner.classify_call(name, arguments, untrusted_word)
    }

    fn contains_secret(&self, text: &str) -> bool {
        self.inner.contains_secret(text)
    }

    async fn store_attachments(&self, attachments: &[SentAttachment]) {
        self.inner.store_attachments(attachments).await;
    }

    async fn preview_call(&self, name: &str, arguments: &Map<String, Value>, approval: ApprovalId) -> CallPreview {
        self.inner.preview_call(name, arguments, approval).await
    }

    async fn check_preview(&self, approved: &ApprovalRequested) -> PreviewFreshness {
        self.inner.check_preview(approved).await
    }

    async fn execute_call(
        &self,
        class: &ClassifiedCall,
        arguments: &Map<String, Value>,
        context: ToolCallContext,
    ) -> ToolOutcome {
        let at = self.projection.read(span_context);
        let (server, tool, effect) = (class.tool.server(), class.tool.tool(), class.effect.as_str());
        let span = spans::tool_call_span(&at, &context.id.to_string(), server, tool, effect);
        // Secrets are placeholders here, in arguments and results.
        spans::record_content(&span, "gen_ai.tool.call.arguments", || Value::Object(arguments.clone()).to_string());
        let call = async {
            if let Err(why) = self.audit_call(class, arguments, &context.id).await {
                tracing::error!(server, tool, why, "tool call not sent");
                let bytes = why.len() as u64;
                return ToolOutcome {
                    status: ToolStatus::Error,
                    content: why,
                    structured: None,
                    truncated: false,
                    bytes,
                };
            }
            self.inner.execute_call(class, arguments, context).await
        };
        let outcome = call.instrument(span.clone()).await;
        if outcome.status != ToolStatus::Ok {
            spans::record_failure(&span, outcome.status.as_str());
        }
        spans::record_content(&span, "gen_ai.tool.call.result", || outcome.content.clone());
        outcome
    }
}
