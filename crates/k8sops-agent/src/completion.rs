//! One-shot completions: a request outside the conversation, without tools, whose answer k8sops itself reads.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::StreamExt;

use crate::{model_selection::ModelCandidate, retry_wait::RetrySchedule};
use k8sops_core::{ChatMessage, ConversationForm, RequestForm, SessionSettings, StopReason, TokenUsage, UserMessage};
use k8sops_models::{ChatRequest, FoundTools, ModelError, ModelErrorKind, ReplyDelta, RetryPolicy, ToolChoice};

/// A request to a model outside the conversation.
pub struct OneShotCompletion<'a> {
    /// The system prompt.
    pub system: &'a str,
    /// The user message.
    pub question: String,
    /// Upper bound of the answer, in tokens.
    pub most: usize,
    /// Temperature and reasoning effort.
    pub settings: &'a SessionSettings,
    /// What the log knows of models that rejected the conversation, see
    /// [`SessionState::simplified`](k8sops_core::SessionState::simplified).
    pub simplified: &'a BTreeMap<String, ConversationForm>,
}

impl OneShotCompletion<'_> {
    /// Requests the answer, with the retries of a reply. Adds the token usage to `usage`.
    ///
    /// # Errors
    /// The provider's last error, or an answer that is empty or incomplete.
    pub async fn ask(
        &self,
        candidate: &ModelCandidate,
        retry: &RetryPolicy,
        usage: &mut TokenUsage,
    ) -> Result<String, ModelError> {
        let mut retries = RetrySchedule::new(*retry);
        loop {
            let error = match self.ask_once(candidate, usage).await {
                Err(error) => error,
                answer => return answer,
            };
            let Some(retry) = retries.schedule_retry(&error) else { return Err(error) };
            retry.wait().await;
        }
    }

    /// Requests the answer once, in the form that the model is known to accept. Adds the token usage to `usage`.
    ///
    /// # Errors
    /// The provider's error, or an answer that is empty, refused or incomplete.
    pub async fn ask_once(&self, candidate: &ModelCandidate, usage: &mut TokenUsage) -> Result<String, ModelError> {
        let form = candidate.known_form(self.simplified).form;
        match self.ask_in_form(candidate, form, usage).await {
            // There is no history, so nothing else can be simplified.
            Err(error) if error.is_rejected_request() && form < RequestForm::Bare => {
                self.ask_in_form(candidate, RequestForm::Bare, usage).await
            }
            answer => answer,
        }
    }

    async fn ask_in_form(
        &self,
        candidate: &ModelCandidate,
        form: RequestForm,
        usage: &mut TokenUsage,
    ) -> Result<String, ModelError> {
        // Reasoning tokens count against the limit as well.
        let most = u32::try_from(4 * self.most).unwrap_or(u32::MAX);
        let request = ChatRequest {
            provider: candidate.provider.clone(),
            model: candidate.model.clone(),
            system: self.system.into(),
            messages: vec![Arc::new(ChatMessage::User(UserMessage::unlogged(self.question.clone())))],
            tools: Arc::new([]),
            found_tools: FoundTools::default(),
            tool_choice: ToolChoice::Auto,
            temperature: self.settings.temperature,
            max_tokens: candidate.max_tokens.map(|tokens| tokens.min(most)),
            reasoning: self.settings.reasoning,
            form,
        };
        let mut count_failed = |error: &ModelError| *usage += error.details.usage;
        let mut stream = candidate.chat.stream(request).await.inspect_err(&mut count_failed)?;
        while let Some(delta) = stream.next().await {
            if let ReplyDelta::Done(reply) = delta.inspect_err(&mut count_failed)? {
                *usage += reply.usage;
                let answer = reply.content.trim();
                if reply.stop_reason == StopReason::Refusal {
                    return Err(ModelError::new(ModelErrorKind::InvalidRequest, "the model refused to answer"));
                }
                if answer.is_empty() {
                    return Err(ModelError::new(ModelErrorKind::MalformedStream, "the answer is empty"));
                }
                return Ok(answer.to_owned());
            }
        }
        Err(ModelError::new(ModelErrorKind::MalformedStream, "the answer ended without its end mark"))
    }
}
