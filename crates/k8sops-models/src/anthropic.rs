//! Anthropic's Messages API, and servers that speak it.

mod body;
mod reply;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, header};

use super::{
    ChatModel, ChatRequest, ModelError, ReplyStream,
    http::Endpoint,
    quirks::{self, Quirks},
    sse::{self, Framing},
};
use crate::{ModelConfig, ModelFeature, ProviderConfig};
use body::{Plan, Thinking};

pub(super) use body::MAX_TEMPERATURE;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
/// The API wants a limit on every reply; this one where neither the request nor the catalog has one.
const DEFAULT_MAX_TOKENS: u32 = 4096;
/// The name of the protocol in what the provider wants back.
const API: &str = "anthropic_messages";

/// A provider that speaks Anthropic's Messages API.
pub struct AnthropicModel {
    endpoint: Endpoint,
    models: HashMap<String, ModelConfig>,
    quirks: Quirks,
}

impl AnthropicModel {
    /// The provider that `config` describes. Nothing is sent, and nothing checked, before the first call.
    #[must_use]
    pub fn new(config: &ProviderConfig) -> Self {
        let models = config.models.iter().map(|model| (model.id.clone(), model.clone())).collect();
        Self { endpoint: Endpoint::new(config), models, quirks: Quirks::default() }
    }

    fn headers(&self) -> Result<http::HeaderMap, ModelError> {
        let mut headers = self.endpoint.authorise(|endpoint, key| {
            let mut headers = vec![(API_KEY, key.to_owned())];
            // Anthropic takes a bearer token for OAuth and refuses a key there; proxies and other servers often look
            // there only.
            if !endpoint.is_at("api.anthropic.com") {
                headers.push((header::AUTHORIZATION, format!("Bearer {key}")));
            }
            headers
        })?;
        // Unless the configuration names another.
        headers.entry(VERSION.0).or_insert(VERSION.1);
        Ok(headers)
    }

    /// How the body is to be, beyond the request.
    fn plan(&self, request: &ChatRequest) -> Plan {
        let model = self.models.get(&request.model);
        let has = |feature| model.is_some_and(|model| model.features.contains(&feature));
        let thinking = match model {
            _ if has(ModelFeature::Thinking) => Thinking::Adaptive,
            _ if has(ModelFeature::ThinkingBudget) => Thinking::Budget,
            Some(model) if model.lacks(ModelFeature::Thinking) => Thinking::No,
            _ => Thinking::Unknown,
        };
        let max_tokens = request.max_tokens.or_else(|| model?.max_output_tokens).unwrap_or(DEFAULT_MAX_TOKENS);
        let takes_temperature = !model.is_some_and(|model| model.lacks(ModelFeature::Temperature));
        Plan { max_tokens, thinking, takes_temperature, quirks: self.quirks.of(&request.model), own_blocks: true }
    }
}

#[async_trait]
impl ChatModel for AnthropicModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let call = self.endpoint.call(&request.model);
        let headers = self.headers()?;
        let mut plan = self.plan(&request);
        loop {
            let body = body::of(&request, &plan);
            let sent = body.optional();
            let error = match self.endpoint.post(&call, &["v1", "messages"], headers.clone(), &body, Framing::Sse).await
            {
                Ok(events) => {
                    let asked = plan.quirks.iter().filter(|quirk| body::asked(**quirk, &request));
                    let notices = quirks::notices(asked, &request.model);
                    return Ok(sse::reply_stream(events, reply::Assembler::new(call, notices)));
                }
                Err(error) => error,
            };
            if plan.own_blocks && body.has_own_blocks() && quirks::refuses_own_blocks(&error, &request.model) {
                plan.own_blocks = false;
            } else if self.quirks.learn_from(&request.model, &error, &sent, &plan.quirks) {
                plan.quirks = self.quirks.of(&request.model);
            } else {
                return Err(error);
            }
        }
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        self.endpoint.check(model, &["v1", "models"], &["v1", "messages"], self.headers()?).await
    }
}
