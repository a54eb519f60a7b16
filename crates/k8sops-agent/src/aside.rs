//! A question to a model beside the conversation: no tools, nothing is shown, one answer that is read by k8sops.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;

use super::Candidate;
use k8sops_core::{ChatMessage, SessionSettings, StopReason, TokenUsage, UserMessage};
use k8sops_models::{ChatRequest, ModelError, ReplyDelta, RetryPolicy, ToolChoice};

/// A question to a model.
pub struct Aside<'a> {
    /// What the model is told of its task.
    pub system: &'a str,
    /// What it is asked.
    pub question: String,
    /// Tokens that its answer should have at most.
    pub most: usize,
    /// Temperature and reasoning.
    pub settings: &'a SessionSettings,
}

impl Aside<'_> {
    /// The answer, asked for as often as a reply would be, with the same waits between. What it cost is added to `usage`.
    ///
    /// # Errors
    /// The last of the provider's; an answer that is empty, or has no end.
    pub async fn ask(
        &self,
        candidate: &Candidate,
        retry: &RetryPolicy,
        usage: &mut TokenUsage,
    ) -> Result<String, ModelError> {
        let mut waited = Duration::ZERO;
        let mut attempt = 1;
        loop {
            let error = match self.ask_once(candidate, usage).await {
                Err(error) => error,
                answer => return answer,
            };
            let Some(wait) = retry.retry_delay(attempt, waited, &error) else { return Err(error) };
            waited += wait;
            attempt += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// The answer, asked for once.
    ///
    /// # Errors
    /// The provider's; an answer that is empty, refused, or has no end.
    pub async fn ask_once(&self, candidate: &Candidate, usage: &mut TokenUsage) -> Result<String, ModelError> {
        // What the model thinks before it writes counts too.
        let most = u32::try_from(4 * self.most).unwrap_or(u32::MAX);
        let request = ChatRequest {
            provider: candidate.provider.clone(),
            model: candidate.model.clone(),
            system: self.system.into(),
            messages: vec![Arc::new(ChatMessage::User(UserMessage::unlogged(self.question.clone())))],
            tools: Arc::new([]),
            tool_choice: ToolChoice::Auto,
            temperature: self.settings.temperature,
            max_tokens: candidate.max_tokens.map(|tokens| tokens.min(most)),
            reasoning: self.settings.reasoning,
        };
        let mut stream = candidate.chat.stream(request).await?;
        while let Some(delta) = stream.next().await {
            if let ReplyDelta::Done(reply) = delta? {
                *usage += reply.usage;
                let answer = reply.content.trim();
                if reply.stop_reason == StopReason::Refusal {
                    return Err(ModelError::InvalidRequest("the model refused to answer".into()));
                }
                if answer.is_empty() {
                    return Err(ModelError::MalformedStream("the answer is empty".into()));
                }
                return Ok(answer.to_owned());
            }
        }
        Err(ModelError::MalformedStream("the answer ended without its end mark".into()))
    }
}
