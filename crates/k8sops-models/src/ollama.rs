//! Ollama, by its own API: the one in which a request can say how much context there is to be.

mod body;
mod reply;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::{
    ChatModel, ChatRequest, ModelError, ModelReply, ReplyDelta, ReplyStream,
    fault::Call,
    http::Endpoint,
    quirks::{self, Quirk, Quirks},
    sse::{self, Framing},
};
use crate::{ModelConfig, ModelFeature, ProviderConfig};
use body::Plan;
use k8sops_core::TokenUsage;
use reply::Assembler;

/// A provider that speaks Ollama's own API.
pub struct OllamaModel(Arc<Shared>);

/// What a stream needs as well: it may have to ask a second time.
struct Shared {
    endpoint: Endpoint,
    models: HashMap<String, ModelConfig>,
    /// See [`ProviderConfig::max_context`].
    max_context: u32,
    keep_alive: Option<Value>,
    /// What the server says that its models take in. A plain lock: held for a look.
    windows: Mutex<HashMap<String, u32>>,
    quirks: Quirks,
}

impl OllamaModel {
    /// The provider that `config` describes. Nothing is sent, and nothing checked, before the first call.
    #[must_use]
    pub fn new(config: &ProviderConfig) -> Self {
        let models = config.models.iter().map(|model| (model.id.clone(), model.clone())).collect();
        // It takes a number of seconds as a number only.
        let keep_alive =
            config.keep_alive.as_ref().map(|text| text.parse::<i64>().map_or(json!(text), |secs| json!(secs)));
        Self(Arc::new(Shared {
            endpoint: Endpoint::new(config),
            models,
            max_context: config.max_context,
            keep_alive,
            windows: Mutex::default(),
            quirks: Quirks::default(),
        }))
    }
}

impl Shared {
    fn headers(&self) -> Result<HeaderMap, ModelError> {
        self.endpoint.authorise(|_, key| vec![(header::AUTHORIZATION, format!("Bearer {key}"))])
    }

    /// The context that calls of a model are given: what the catalog says of it, else what the server says that it can, and
    /// no more of that than is configured, for memory is taken for all of it. Ollama's own default is a few thousand tokens,
    /// and what does not fit is cut off without a word.
    ///
    /// # Errors
    /// The server cannot be reached. One that does not know is no error.
    async fn window(&self, model: &str) -> Result<u32, ModelError> {
        if let Some(known) = self.models.get(model).and_then(|model| model.context_window) {
            return Ok(known);
        }
        let found = self.windows.lock().unwrap_or_else(PoisonError::into_inner).get(model).copied();
        let limit = match found {
            Some(limit) => limit,
            None => match self.ask_window(model).await? {
                Some(limit) => {
                    self.windows.lock().unwrap_or_else(PoisonError::into_inner).insert(model.to_owned(), limit);
                    limit
                }
                // Asked again with the next call.
                None => self.max_context,
            },
        };
        Ok(limit.min(self.max_context))
    }

    async fn ask_window(&self, model: &str) -> Result<Option<u32>, ModelError> {
        let call = self.endpoint.call(model);
        let body = json!({"model": model});
        match self.endpoint.ask(&call, &["api", "show"], self.headers()?, &body).await {
            Ok(shown) => Ok(context_length(&shown)),
            // The call itself would fare no better.
            Err(error @ (ModelError::Network(_) | ModelError::Timeout(_))) => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn plan(&self, request: &ChatRequest, window: u32) -> Plan {
        let quirks = self.quirks.of(&request.model);
        let lacks = |feature| self.models.get(&request.model).is_some_and(|model| model.lacks(feature));
        Plan {
            window,
            keep_alive: self.keep_alive.clone(),
            tools: !quirks.contains(&Quirk::NoTools) && !lacks(ModelFeature::Tools),
            think: !quirks.contains(&Quirk::NoThinking) && !lacks(ModelFeature::Thinking),
            stream: !quirks.contains(&Quirk::NoStreamedCalls),
        }
    }

    /// Calls the model as `plan` says; what the model refuses is left out, and the call made again.
    async fn call(&self, call: &Call, request: &ChatRequest, mut plan: Plan) -> Result<ReplyStream, ModelError> {
        let headers = self.headers()?;
        loop {
            let known = self.quirks.of(&request.model);
            let body = body::of(request, &plan);
            let sent = body.optional();
            let events = self.endpoint.post(call, &["api", "chat"], headers.clone(), &body, Framing::Lines).await;
            match events.map_err(|error| missing(error, &request.model)) {
                Ok(events) => {
                    let asked = known.iter().filter(|quirk| body::asked(**quirk, request));
                    let notices = quirks::notices(asked, &request.model);
                    let offered = if plan.tools { body::names(request) } else { Vec::new() };
                    let assembler = Assembler::new(call.clone(), offered, plan.window, notices);
                    return Ok(sse::reply_stream(events, assembler));
                }
                Err(error) if self.quirks.learn_from(&request.model, &error, &sent, &known) => {
                    let stream = plan.stream;
                    plan = self.plan(request, plan.window);
                    plan.stream &= stream;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A streamed reply with nothing in it: models are about that call tools only when they do not stream. Asks once more so,
    /// and keeps to it if that helps.
    async fn call_whole(
        &self,
        call: &Call,
        request: &ChatRequest,
        plan: Plan,
        used: TokenUsage,
    ) -> Result<Vec<ReplyDelta>, ModelError> {
        let mut deltas = Vec::new();
        let mut stream = self.call(call, request, Plan { stream: false, ..plan }).await?;
        while let Some(delta) = stream.next().await {
            deltas.push(delta?);
        }
        if let Some(ReplyDelta::Done(reply)) = deltas.last_mut() {
            reply.usage += used;
            if !reply.tool_calls.is_empty() && self.quirks.learn(&request.model, Quirk::NoStreamedCalls) {
                reply.notices.extend(quirks::notices([&Quirk::NoStreamedCalls], &request.model));
            }
        }
        Ok(deltas)
    }
}

#[async_trait]
impl ChatModel for OllamaModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let shared = Arc::clone(&self.0);
        let call = shared.endpoint.call(&request.model);
        let plan = shared.plan(&request, shared.window(&request.model).await?);
        let stream = shared.call(&call, &request, plan.clone()).await?;
        if !plan.stream || !plan.tools || request.tools.is_empty() {
            return Ok(stream);
        }
        let asked = Arc::new((shared, call, request, plan));
        let with_second_try = stream.then(move |delta| {
            let asked = Arc::clone(&asked);
            async move {
                match delta {
                    Ok(ReplyDelta::Done(reply)) if is_empty(&reply) => {
                        let (shared, call, request, plan) = &*asked;
                        let second = shared.call_whole(call, request, plan.clone(), reply.usage).await;
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
        self.0.window(model).await.ok()
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        let shared = &self.0;
        let call = shared.endpoint.call(model);
        let list = shared.endpoint.get(&call, &["api", "tags"], shared.headers()?).await?;
        let Some(models) = list.as_ref().and_then(|list| list.get("models")?.as_array()) else {
            return Err(ModelError::InvalidRequest(format!(
                "{} has no list of models at /api/tags. Check that the base URL is one of Ollama, without /v1 or /api.",
                call.who()
            )));
        };
        let names: Vec<&str> = models.iter().filter_map(|model| model.get("name")?.as_str()).collect();
        if names.iter().any(|name| *name == model || name.strip_suffix(":latest") == Some(model)) {
            return Ok(());
        }
        let there = if names.is_empty() { "none".to_owned() } else { call.quote(&names.join(", ")) };
        Err(ModelError::ModelNotFound(format!(
            "{} does not have the model `{model}`; it has: {there}. Run: ollama pull {model}",
            call.who()
        )))
    }
}

/// What a model takes in, as its description says.
fn context_length(shown: &Value) -> Option<u32> {
    let info = shown.get("model_info")?;
    let architecture = info.get("general.architecture")?.as_str()?;
    u32::try_from(info.get(format!("{architecture}.context_length"))?.as_u64()?).ok()
}

fn is_empty(reply: &ModelReply) -> bool {
    reply.content.trim().is_empty() && reply.tool_calls.is_empty() && reply.reasoning.is_none()
}

/// An error for a model that is not there says how it is fetched; unless it is the path that is not there.
fn missing(error: ModelError, model: &str) -> ModelError {
    match error {
        ModelError::ModelNotFound(words) if !words.contains("page not found") => {
            ModelError::ModelNotFound(format!("{words} Run: ollama pull {model}"))
        }
        error => error,
    }
}
