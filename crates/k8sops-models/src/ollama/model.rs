//! Ollama, by its own API: the one in which a request can say how much context there is to be.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, header};
use k8sops_core::TokenUsage;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    reply_assembler::OllamaAssembler,
    request_body::{OllamaBody, OllamaPlan, affects_request, offered_tool_names},
};
use crate::{
    ChatModel, ChatRequest, ModelConfig, ModelError, ModelFeature, ModelReply, ProviderConfig, ReplyDelta, ReplyStream,
    error_mapping::ProviderCall,
    event_stream::EventFraming,
    http_client::ProviderHttpClient,
    quirks::{LearnedQuirks, ModelQuirk, quirk_notices},
    reply_assembly::reply_stream,
};

/// A provider that speaks Ollama's own API.
pub struct OllamaModel(Arc<OllamaInner>);

/// What a stream needs as well: it may have to ask a second time.
struct OllamaInner {
    client: ProviderHttpClient,
    models: HashMap<String, ModelConfig>,
    /// See [`ProviderConfig::max_context`].
    max_context: u32,
    keep_alive: Option<Value>,
    /// What the server says that its models take in. A plain lock: held for a look.
    windows: Mutex<HashMap<String, u32>>,
    quirks: LearnedQuirks,
}

impl OllamaModel {
    /// The provider that `config` describes. Nothing is sent, and nothing checked, before the first call.
    #[must_use]
    pub fn new(config: &ProviderConfig) -> Self {
        let models = config.models.iter().map(|model| (model.id.clone(), model.clone())).collect();
        // It takes a number of seconds as a number only.
        let keep_alive =
            config.keep_alive.as_ref().map(|text| text.parse::<i64>().map_or(json!(text), |secs| json!(secs)));
        Self(Arc::new(OllamaInner {
            client: ProviderHttpClient::new(config),
            models,
            max_context: config.max_context,
            keep_alive,
            windows: Mutex::default(),
            quirks: LearnedQuirks::default(),
        }))
    }
}

impl OllamaInner {
    fn protocol_headers(&self) -> Result<HeaderMap, ModelError> {
        self.client.request_headers(|_, key| vec![(header::AUTHORIZATION, format!("Bearer {key}"))])
    }

    /// The context that calls of a model are given: what the catalog says of it, else what the server says that it can, and
    /// no more of that than is configured, for memory is taken for all of it. Ollama's own default is a few thousand tokens,
    /// and what does not fit is cut off without a word.
    ///
    /// # Errors
    /// The server cannot be reached. One that does not know is no error.
    async fn context_tokens(&self, model: &str) -> Result<u32, ModelError> {
        if let Some(known) = self.models.get(model).and_then(|model| model.context_window) {
            return Ok(known);
        }
        let found = self.windows.lock().get(model).copied();
        let limit = match found {
            Some(limit) => limit,
            None => match self.query_context_length(model).await? {
                Some(limit) => {
                    self.windows.lock().insert(model.to_owned(), limit);
                    limit
                }
                // Asked again with the next call.
                None => self.max_context,
            },
        };
        Ok(limit.min(self.max_context))
    }

    async fn query_context_length(&self, model: &str) -> Result<Option<u32>, ModelError> {
        let call = self.client.provider_call(model);
        let body = json!({"model": model});
        match self.client.post_for_json(&call, &["api", "show"], self.protocol_headers()?, &body).await {
            Ok(shown) => Ok(parse_context_length(&shown)),
            // The call itself would fare no better.
            Err(error @ (ModelError::Network(_) | ModelError::Timeout(_))) => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn plan_request(&self, request: &ChatRequest, window: u32) -> OllamaPlan {
        let quirks = self.quirks.for_model(&request.model);
        let lacks = |feature| self.models.get(&request.model).is_some_and(|model| model.lacks(feature));
        OllamaPlan {
            window,
            keep_alive: self.keep_alive.clone(),
            tools: !quirks.contains(&ModelQuirk::NoTools) && !lacks(ModelFeature::Tools),
            think: !quirks.contains(&ModelQuirk::NoThinking) && !lacks(ModelFeature::Thinking),
            stream: !quirks.contains(&ModelQuirk::NoStreamedCalls),
        }
    }

    /// Calls the model as `plan` says; what the model refuses is left out, and the call made again.
    async fn call_model(
        &self,
        call: &ProviderCall,
        request: &ChatRequest,
        mut plan: OllamaPlan,
    ) -> Result<ReplyStream, ModelError> {
        let headers = self.protocol_headers()?;
        loop {
            let known = self.quirks.for_model(&request.model);
            let body = OllamaBody::build(request, &plan);
            let sent = body.removable_parameters();
            let events =
                self.client.post_streaming(call, &["api", "chat"], headers.clone(), &body, EventFraming::Lines).await;
            match events.map_err(|error| with_pull_hint(error, &request.model)) {
                Ok(events) => {
                    let asked = known.iter().filter(|quirk| affects_request(**quirk, request));
                    let notices = quirk_notices(asked, &request.model);
                    let offered = if plan.tools { offered_tool_names(request) } else { Vec::new() };
                    let assembler = OllamaAssembler::new(call.clone(), offered, plan.window, notices);
                    return Ok(reply_stream(events, assembler));
                }
                Err(error) if self.quirks.learn_from_rejection(&request.model, &error, &sent, &known) => {
                    let stream = plan.stream;
                    plan = self.plan_request(request, plan.window);
                    plan.stream &= stream;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A streamed reply with nothing in it: models are about that call tools only when they do not stream. Asks once more so,
    /// and keeps to it if that helps.
    async fn call_unstreamed(
        &self,
        call: &ProviderCall,
        request: &ChatRequest,
        plan: OllamaPlan,
        used: TokenUsage,
    ) -> Result<Vec<ReplyDelta>, ModelError> {
        let mut deltas = Vec::new();
        let mut stream = self.call_model(call, request, OllamaPlan { stream: false, ..plan }).await?;
        while let Some(delta) = stream.next().await {
            deltas.push(delta?);
        }
        if let Some(ReplyDelta::Done(reply)) = deltas.last_mut() {
            reply.usage += used;
            if !reply.tool_calls.is_empty() && self.quirks.insert(&request.model, ModelQuirk::NoStreamedCalls) {
                reply.notices.extend(quirk_notices([&ModelQuirk::NoStreamedCalls], &request.model));
            }
        }
        Ok(deltas)
    }
}

#[async_trait]
impl ChatModel for OllamaModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let inner = Arc::clone(&self.0);
        let call = inner.client.provider_call(&request.model);
        let plan = inner.plan_request(&request, inner.context_tokens(&request.model).await?);
        let stream = inner.call_model(&call, &request, plan.clone()).await?;
        if !plan.stream || !plan.tools || request.tools.is_empty() {
            return Ok(stream);
        }
        let asked = Arc::new((inner, call, request, plan));
        let with_second_try = stream.then(move |delta| {
            let asked = Arc::clone(&asked);
            async move {
                match delta {
                    Ok(ReplyDelta::Done(reply)) if is_empty_reply(&reply) => {
                        let (inner, call, request, plan) = &*asked;
                        let second = inner.call_unstreamed(call, request, plan.clone(), reply.usage).await;
                        match second {
                            Ok(deltas) => deltas.into_iter().map(Ok).collect(),
                            Err(error) => vec![Err(error)],
                        }
                    }
                    delta => vec![delta],
                }
            }
        });
        Ok(with_second_try.flat_map(stream::iter).boxed())
    }

    async fn context_window(&self, model: &str) -> Option<u32> {
        self.0.context_tokens(model).await.ok()
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        let inner = &self.0;
        let call = inner.client.provider_call(model);
        let list = inner.client.get_json(&call, &["api", "tags"], inner.protocol_headers()?).await?;
        let Some(models) = list.as_ref().and_then(|list| list.get("models")?.as_array()) else {
            return Err(ModelError::InvalidRequest(format!(
                "{} has no list of models at /api/tags. Check that the base URL is one of Ollama, without /v1 or /api.",
                call.provider_label()
            )));
        };
        let names: Vec<&str> = models.iter().filter_map(|model| model.get("name")?.as_str()).collect();
        if names.iter().any(|name| *name == model || name.strip_suffix(":latest") == Some(model)) {
            return Ok(());
        }
        let there = if names.is_empty() { "none".to_owned() } else { call.redact(&names.join(", ")) };
        Err(ModelError::ModelNotFound(format!(
            "{} does not have the model `{model}`; it has: {there}. Run: ollama pull {model}",
            call.provider_label()
        )))
    }
}

/// What a model takes in, as its description says.
fn parse_context_length(shown: &Value) -> Option<u32> {
    let info = shown.get("model_info")?;
    let architecture = info.get("general.architecture")?.as_str()?;
    u32::try_from(info.get(format!("{architecture}.context_length"))?.as_u64()?).ok()
}

fn is_empty_reply(reply: &ModelReply) -> bool {
    reply.content.trim().is_empty() && reply.tool_calls.is_empty() && reply.reasoning.is_none()
}

/// An error for a model that is not there says how it is fetched; unless it is the path that is not there.
fn with_pull_hint(error: ModelError, model: &str) -> ModelError {
    match error {
        ModelError::ModelNotFound(words) if !words.contains("page not found") => {
            ModelError::ModelNotFound(format!("{words} Run: ollama pull {model}"))
        }
        error => error,
    }
}
