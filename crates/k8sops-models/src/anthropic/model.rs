//! The client for Anthropic's Messages API.

use std::collections::HashMap;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, header};
use k8sops_core::RequestForm;

use super::{
    reply_assembler::MessagesAssembler,
    request_body::{MessagesBody, MessagesPlan, ThinkingMode, affects_request},
};
use crate::{
    ChatModel, ChatRequest, DialectProtocol, ModelError, ModelFeature, ModelOptions, ProviderOptions,
    RecognizedDialect, ReplyStream,
    event_framing::EventFraming,
    http_client::ProviderHttpClient,
    quirks::{LearnedQuirks, ModelQuirk, quirk_notices, rejects_returned_blocks},
    reply_assembly::start_reply_stream,
    token_limits::LearnedTokenLimits,
    tool_placement::FoundToolPlace,
    tool_rejections::{RejectedTools, left_out_notice},
};

const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");
const VERSION_HEADER: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
/// The reply limit if neither the request nor the catalog has one, since the API requires it.
pub(crate) const DEFAULT_MAX_TOKENS: u32 = 4096;

/// A provider that speaks Anthropic's Messages API.
pub(crate) struct AnthropicModel {
    client: ProviderHttpClient,
    models: HashMap<String, ModelOptions>,
    quirks: LearnedQuirks,
    token_limits: LearnedTokenLimits,
    rejected_tools: RejectedTools,
}

impl AnthropicModel {
    /// Creates a client for a provider. Nothing is sent or checked before the first call.
    pub(crate) fn new(config: &ProviderOptions) -> Self {
        let models = config.models.iter().map(|model| (model.id.clone(), model.clone())).collect();
        let mut client = ProviderHttpClient::new(config);
        client.choose_dialect(config, DialectProtocol::Messages);
        Self {
            client,
            models,
            quirks: LearnedQuirks::default(),
            token_limits: LearnedTokenLimits::default(),
            rejected_tools: RejectedTools::default(),
        }
    }

    pub(crate) fn protocol_headers(&self) -> Result<http::HeaderMap, ModelError> {
        let mut headers = self.client.request_headers(|client, key| {
            let mut headers = vec![(API_KEY_HEADER, key.to_owned())];
            // Anthropic accepts OAuth tokens as bearer tokens, but no API keys. Proxies and other servers often accept
            // bearer tokens only.
            if !client.is_host("api.anthropic.com") {
                headers.push((header::AUTHORIZATION, format!("Bearer {key}")));
            }
            headers
        })?;
        // The configuration may name another version.
        headers.entry(VERSION_HEADER.0).or_insert(VERSION_HEADER.1);
        Ok(headers)
    }

    /// Plans the body of a request from what is known of the model.
    fn plan_request(&self, request: &ChatRequest) -> MessagesPlan {
        let model = self.models.get(&request.model);
        let has = |feature| model.is_some_and(|model| model.features.contains(&feature));
        let thinking = match model {
            _ if has(ModelFeature::Thinking) => ThinkingMode::Adaptive,
            _ if has(ModelFeature::ThinkingBudget) => ThinkingMode::Budget,
            Some(model) if model.lacks(ModelFeature::Thinking) => ThinkingMode::No,
            _ => ThinkingMode::Unknown,
        };
        let max_tokens = request.max_tokens.or_else(|| model?.max_output_tokens).unwrap_or(DEFAULT_MAX_TOKENS);
        let takes_temperature = !model.is_some_and(|model| model.lacks(ModelFeature::Temperature));
        let quirks = self.quirks.for_model(&request.model);
        let dialect = self.client.dialect();
        let max_tokens = self.token_limits.fit_reply_limit(request, max_tokens, &dialect);
        let dialect = dialect.adapted(&quirks, request.form);
        MessagesPlan {
            max_tokens,
            found_tool_place: FoundToolPlace::for_model(&dialect, model),
            dialect,
            form: request.form,
            thinking,
            takes_temperature,
            quirks,
            return_blocks: request.form < RequestForm::Strict,
        }
    }
}

#[async_trait]
impl ChatModel for AnthropicModel {
    async fn stream(&self, mut request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let offered_tools = request.tools.clone();
        let call = self.client.provider_call(&request.model);
        let headers = self.protocol_headers()?;
        let mut plan = self.plan_request(&request);
        request.place_found_tools(plan.found_tool_place);
        self.rejected_tools.leave_out_rejected(&mut request, &plan.dialect);
        let mut blames_loading = false;
        loop {
            let body = MessagesBody::build(&request, &plan);
            let sent = body.removable_parameters();
            let events =
                self.client.post_streaming(&call, &["v1", "messages"], headers.clone(), &body, EventFraming::Sse).await;
            let error = match events {
                Ok(events) => {
                    let relevant = plan.quirks.iter().filter(|quirk| affects_request(**quirk, &request));
                    let mut notices = quirk_notices(relevant, &request.model);
                    notices.extend(left_out_notice(&offered_tools, &request));
                    let assembler = MessagesAssembler::new(events.call().clone(), notices);
                    match start_reply_stream(events, assembler, request.callable_tool_names()).await {
                        Ok(stream) => {
                            if blames_loading {
                                self.quirks.insert(&request.model, ModelQuirk::NoDeferredTools);
                            }
                            return Ok(stream);
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if plan.return_blocks && body.has_returned_blocks() && rejects_returned_blocks(&error, &request.model) {
                plan.return_blocks = false;
            } else if let Some(limit) =
                self.token_limits.learn_from_rejection(&request.model, &error, Some(plan.max_tokens))
            {
                plan.max_tokens = limit;
            } else if self.quirks.learn_from_rejection(&request.model, &error, &sent, &plan.quirks).is_some() {
                let MessagesPlan { max_tokens, return_blocks, .. } = plan;
                plan = MessagesPlan { max_tokens, return_blocks, ..self.plan_request(&request) };
                if plan.found_tool_place == FoundToolPlace::List {
                    request.list_found_tools(&offered_tools);
                    self.rejected_tools.leave_out_rejected(&mut request, &plan.dialect);
                }
            } else if self.rejected_tools.learn_from_rejection(&request, &error) {
                self.rejected_tools.leave_out_rejected(&mut request, &plan.dialect);
            } else if error.is_rejected_request() && !request.found_tools.is_empty() {
                // The rejection names nothing that is known, and servers differ most in what they load.
                request.list_found_tools(&offered_tools);
                self.rejected_tools.leave_out_rejected(&mut request, &plan.dialect);
                blames_loading = true;
            } else {
                return Err(error);
            }
        }
    }

    async fn context_window(&self, model: &str) -> Option<u32> {
        self.token_limits.context_window(model)
    }

    fn recognized_dialect(&self) -> Option<RecognizedDialect> {
        self.client.recognized_dialect()
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        self.client.check_model(model, &["v1", "models"], &["v1", "messages"], self.protocol_headers()?).await
    }
}
