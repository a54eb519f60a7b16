//! Questions of a server to the user, without the secrets in them.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use k8sops_mcp::{ElicitationAnswer, ElicitationForm, ElicitationHandler, ElicitationRequest};

use crate::redaction::{ContentHint, RedactionVault};

/// Redacts each question before the user sees it.
pub(crate) struct RedactingElicitationHandler {
    vault: Arc<RedactionVault>,
    inner: Arc<dyn ElicitationHandler>,
}

impl RedactingElicitationHandler {
    pub(crate) fn new(vault: Arc<RedactionVault>, inner: Arc<dyn ElicitationHandler>) -> Self {
        Self { vault, inner }
    }
}

#[async_trait]
impl ElicitationHandler for RedactingElicitationHandler {
    async fn handle_elicitation(&self, request: ElicitationRequest) -> ElicitationAnswer {
        let message = self.vault.redact_text(&request.message, ContentHint::Any).into_owned();
        let form = match request.form {
            ElicitationForm::Fields(schema) => {
                let mut schema = Value::Object(schema);
                self.vault.redact_json(&mut schema, ContentHint::Any);
                ElicitationForm::Fields(schema.as_object().cloned().unwrap_or_default())
            }
            page @ ElicitationForm::Page { .. } => page,
        };
        self.inner.handle_elicitation(ElicitationRequest { message, form }).await
    }
}
