//! The client for Ollama's own API.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, header};
use k8sops_core::{RequestForm, TokenUsage};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    reply_assembler::OllamaAssembler,
    request_body::{OllamaBody, OllamaPlan, affects_request},
};
use crate::{
    ChatModel, ChatRequest, DialectProtocol, FoundTools, ModelError, ModelErrorKind, ModelFeature, ModelOptions,
    ModelReply, ProviderOptions, RecognizedDialect, ReplyDelta, ReplyStream,
    error_mapping::ProviderCall,
    event_framing::EventFraming,
    http_client::ProviderHttpClient,
    quirks::{LearnedQuirks, ModelQuirk, quirk_notices},
    reply_assembly::start_reply_stream,
    tool_rejections::{RejectedTools, left_out_notice},
};

/// A provider that speaks Ollama's own API.
pub(crate) struct OllamaModel(Arc<OllamaInner>);

/// The shared state of the client. Reply streams hold it, because they may send a second request.
struct OllamaInner {
    client: ProviderHttpClient,
    models: HashMap<String, ModelOptions>,
    /// See [`ProviderOptions::max_context`].
    max_context: u32,
    keep_alive: Option<Value>,
    /// The context lengths that the server reports for its models.
    windows: Mutex<HashMap<String, u32>>,
    quirks: LearnedQuirks,
    rejected_tools: RejectedTools,
}

impl OllamaModel {
    /// Creates a client for a provider. Nothing is sent or checked before the first call.
    pub(crate) fn new(config: &ProviderOptions) -> Self {
        let models = config.models.iter().map(|model| (model.id.clone(), model.clone())).collect();
        // Ollama accepts a number of seconds only as a number.
        let keep_alive =
            config.keep_alive.as_ref().map(|text| text.parse::<i64>().map_or(json!(text), |secs| json!(secs)));
        let mut client = ProviderHttpClient::new(config);
        client.choose_dialect(config, DialectProtocol::Ollama);
        Self(Arc::new(OllamaInner {
            client,
            models,
            max_context: config.max_context,
            keep_alive,
            windows: Mutex::default(),
            quirks: LearnedQuirks::default(),
            rejected_tools: RejectedTools::default(),
        }))
    }
}

impl OllamaInner {
    fn protocol_headers(&self) -> Result<HeaderMap, ModelError> {
        self.client.request_headers(|_, key| vec![(header::AUTHORIZATION, format!("Bearer {key}"))])
    }

    /// Returns the context length for calls of a model: the catalog's, or else the server's up to the configured
    /// maximum, because the server allocates memory for all of it. Ollama's own default is a few thousand tokens, and
    /// it silently truncates what does not fit.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached. A server that does not report a length is not an error.
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
                // The next call asks the server again.
                None => self.max_context,
            },
        };
        Ok(limit.min(self.max_context))
    }

    async fn query_context_length(&self, model: &str) -> Result<Option<u32>, ModelError> {
        let call = self.client.provider_call(model);
        let body = json!({"model": model});
        match self.client.post_for_json(&call, &["api", "show"], self.protocol_headers()?, &body).await {
            Ok(description) => Ok(parse_context_length(&description)),
            // The call itself would fail as well.
            Err(error) if matches!(error.kind, ModelErrorKind::Network | ModelErrorKind::Timeout) => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn plan_request(&self, request: &ChatRequest, window: u32) -> OllamaPlan {
        let quirks = self.quirks.for_model(&request.model);
        let lacks = |feature| self.models.get(&request.model).is_some_and(|model| model.lacks(feature));
        let is_bare = request.form == RequestForm::Bare;
        OllamaPlan {
            dialect: self.client.dialect().adapted(&quirks, request.form),
            window,
            keep_alive: self.keep_alive.clone(),
            tools: !is_bare && !quirks.contains(&ModelQuirk::NoTools) && !lacks(ModelFeature::Tools),
            think: !is_bare && !quirks.contains(&ModelQuirk::NoThinking) && !lacks(ModelFeature::Thinking),
            stream: !quirks.contains(&ModelQuirk::NoStreamedCalls),
        }
    }

    /// Calls the model as planned. Parameters and tools that it rejects are dropped, and the request is sent again.
    async fn call_model(
        &self,
        call: &ProviderCall,
        request: &ChatRequest,
        mut plan: OllamaPlan,
    ) -> Result<ReplyStream, ModelError> {
        let headers = self.protocol_headers()?;
        let offered_tools = request.tools.clone();
        let request = &mut ChatRequest { found_tools: FoundTools::default(), ..request.clone() };
        self.rejected_tools.leave_out_rejected(request, &self.client.dialect());
        loop {
            let known = self.quirks.for_model(&request.model);
            let body = OllamaBody::build(request, &plan);
            let sent = body.removable_parameters();
            let events =
                self.client.post_streaming(call, &["api", "chat"], headers.clone(), &body, EventFraming::Lines).await;
            let stream = match events {
                Ok(events) => {
                    let relevant = known.iter().filter(|quirk| affects_request(**quirk, request));
                    let mut notices = quirk_notices(relevant, &request.model);
                    notices.extend(left_out_notice(&offered_tools, request));
                    let offered = if plan.tools { request.callable_tool_names() } else { Vec::new() };
                    let assembler = OllamaAssembler::new(events.call().clone(), offered.clone(), plan.window, notices);
                    start_reply_stream(events, assembler, offered).await
                }
                Err(error) => Err(error),
            };
            match stream.map_err(|error| with_pull_hint(error, &request.model)) {
                Ok(stream) => return Ok(stream),
                // Before the quirks: a text about one tool must not cost all tools.
                Err(error) if self.rejected_tools.learn_from_rejection(request, &error) => {
                    self.rejected_tools.leave_out_rejected(request, &self.client.dialect());
                }
                Err(error) if self.quirks.learn_from_rejection(&request.model, &error, &sent, &known).is_some() => {
                    let stream = plan.stream;
                    plan = self.plan_request(request, plan.window);
                    plan.stream &= stream;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Repeats a request whose streamed reply was empty without streaming, since some models call tools only then. If
    /// that helps, later requests are not streamed either.
    async fn call_unstreamed(
        &self,
        call: &ProviderCall,
        request: &ChatRequest,
        plan: OllamaPlan,
        used: TokenUsage,
    ) -> Result<Vec<ReplyDelta>, ModelError> {
        let mut deltas = Vec::new();
        let plan = OllamaPlan { stream: false, ..plan };
        let mut stream = self.call_model(call, request, plan).await.map_err(|error| error.with_usage(used))?;
        while let Some(delta) = stream.next().await {
            deltas.push(delta.map_err(|error| error.with_usage(used))?);
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
        let context = Arc::new((inner, call, request, plan));
        let with_retry = stream.then(move |delta| {
            let context = Arc::clone(&context);
            async move {
                match delta {
                    Ok(ReplyDelta::Done(reply)) if is_empty_reply(&reply) => {
                        let (inner, call, request, plan) = &*context;
                        let retried = inner.call_unstreamed(call, request, plan.clone(), reply.usage).await;
                        match retried {
                            Ok(deltas) => deltas.into_iter().map(Ok).collect(),
                            Err(error) => vec![Err(error)],
                        }
                    }
                    delta => vec![delta],
                }
            }
        });
        Ok(with_retry.flat_map(stream::iter).boxed())
    }

    async fn context_window(&self, model: &str) -> Option<u32> {
        self.0.context_tokens(model).await.ok()
    }

    fn recognized_dialect(&self) -> Option<RecognizedDialect> {
        self.0.client.recognized_dialect()
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        let inner = &self.0;
        let call = inner.client.provider_call(model);
        let list = inner.client.get_json(&call, &["api", "tags"], inner.protocol_headers()?).await?;
        let Some(models) = list.as_ref().and_then(|list| list.get("models")?.as_array()) else {
            let message = format!(
                "{} has no list of models at /api/tags. Check that the base URL is that of Ollama, without /v1 or /api.",
                call.provider_label()
            );
            return Err(ModelError::new(ModelErrorKind::InvalidRequest, message));
        };
        let names: Vec<&str> = models.iter().filter_map(|model| model.get("name")?.as_str()).collect();
        if names.iter().any(|name| *name == model || name.strip_suffix(":latest") == Some(model)) {
            return Ok(());
        }
        let available = if names.is_empty() { "none".to_owned() } else { call.redact(&names.join(", ")) };
        Err(ModelError::new(
            ModelErrorKind::ModelNotFound,
            format!(
                "{} does not have the model `{model}`; available: {available}. Run: ollama pull {model}",
                call.provider_label()
            ),
        ))
    }
}

/// Reads the context length from the description of a model.
fn parse_context_length(description: &Value) -> Option<u32> {
    let info = description.get("model_info")?;
    let architecture = info.get("general.architecture")?.as_str()?;
    u32::try_from(info.get(format!("{architecture}.context_length"))?.as_u64()?).ok()
}

fn is_empty_reply(reply: &ModelReply) -> bool {
    reply.content.trim().is_empty() && reply.tool_calls.is_empty() && reply.reasoning.is_none()
}

/// Adds the command that downloads a missing model to the error, unless it is the path that is missing.
fn with_pull_hint(mut error: ModelError, model: &str) -> ModelError {
    if error.kind == ModelErrorKind::ModelNotFound && !error.message.contains("page not found") {
        error.message = format!("{} Run: ollama pull {model}", error.message);
    }
    error
}
