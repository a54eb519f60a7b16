//! Tools whose calls are traced, and are in the audit trail before they are sent.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tracing::Instrument as _;

use super::place;
use crate::{
    audit::{Action, Audit, Entry},
    runtime::{lease::Term, run_log::Projection},
};
use k8sops_core::{ToolCallId, ToolEffect, ToolStatus};
use k8sops_models::ToolSpec;
use k8sops_telemetry::traces;
use k8sops_tools::{CallClass, CallSite, ToolExecutor, ToolOutcome};

pub(in crate::runtime) struct WatchedTools {
    pub(in crate::runtime) inner: Arc<dyn ToolExecutor>,
    pub(in crate::runtime) projection: Arc<Projection>,
    pub(in crate::runtime) audit: Audit,
    pub(in crate::runtime) term: Arc<Term>,
}

impl WatchedTools {
    /// Puts a call into the audit trail. One that only looks is sent meanwhile, any other once its record is on the disk.
    ///
    /// # Errors
    /// Why the call must not be sent.
    async fn admit(&self, class: &CallClass, arguments: &Map<String, Value>, id: &ToolCallId) -> Result<(), String> {
        if !self.audit.is_on() {
            return Ok(());
        }
        let target = &class.target;
        let entry = self.projection.read(|state| {
            let calls = state.run.iter().flat_map(|run| &run.calls);
            let approval = calls.filter(|open| &open.call.id == id).find_map(|open| open.approval.as_ref());
            let approved_by = approval.and_then(|a| a.resolved.as_ref()).map(|resolved| resolved.by.to_string());
            Entry::new(Action::ToolCallStarted)
                .by(format!("user:{}", state.summary.user_id))
                .in_session(state.summary.session_id)
                .in_run(state.summary.open_run)
                .call(id, target.server(), target.tool(), class.effect)
                .with(&Value::Object(arguments.clone()))
                .approved(approved_by)
        });
        if class.effect == ToolEffect::Read {
            self.audit.record(vec![entry]).await;
            return Ok(());
        }
        self.audit.record_durably(entry).await.map_err(|error| {
            format!("not run: {error}, and nothing is changed without a record of it; tell the operator")
        })?;
        // The disk may have taken its time.
        if !self.term.holds() {
            return Err("not run: the session may have gone to another process meanwhile".to_owned());
        }
        Ok(())
    }
}

#[async_trait]
impl ToolExecutor for WatchedTools {
    async fn ready(&self) {
        self.inner.ready().await;
    }

    fn specs(&self) -> Arc<[ToolSpec]> {
        self.inner.specs()
    }

    fn classify(&self, name: &str, arguments: &Map<String, Value>) -> Option<CallClass> {
        self.inner.classify(name, arguments)
    }

    fn is_secret(&self, text: &str) -> bool {
        self.inner.is_secret(text)
    }

    async fn preview(&self, name: &str, arguments: &Map<String, Value>) -> Option<String> {
        self.inner.preview(name, arguments).await
    }

    async fn call(&self, class: &CallClass, arguments: &Map<String, Value>, site: CallSite) -> ToolOutcome {
        let at = self.projection.read(place);
        let (server, tool, effect) = (class.target.server(), class.target.tool(), class.effect.as_str());
        let span = traces::tool(&at, &site.id.to_string(), server, tool, effect);
        // Secrets are placeholders here, before the call and after it.
        traces::content(&span, "gen_ai.tool.call.arguments", || Value::Object(arguments.clone()).to_string());
        let call = async {
            if let Err(why) = self.admit(class, arguments, &site.id).await {
                tracing::error!(server, tool, why, "a tool call was not sent");
                let bytes = why.len() as u64;
                return ToolOutcome {
                    status: ToolStatus::Error,
                    content: why,
                    structured: None,
                    truncated: false,
                    bytes,
                };
            }
            self.inner.call(class, arguments, site).await
        };
        let outcome = call.instrument(span.clone()).await;
        if outcome.status != ToolStatus::Ok {
            traces::failed(&span, outcome.status.as_str());
        }
        traces::content(&span, "gen_ai.tool.call.result", || outcome.content.clone());
        outcome
    }
}
