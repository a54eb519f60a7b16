//! The client for OpenAI's protocols.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use http::header;
use k8sops_core::RequestForm;

use super::{
    chat::{ChatCompletionsAssembler, ChatCompletionsBody, offered_tool_names},
    request_plan::{OpenAiPlan, affects_request},
    responses::{ResponsesAssembler, ResponsesBody},
};
use crate::{
    ChatModel, ChatRequest, DialectProtocol, ModelError, ModelFeature, ModelOptions, ProviderOptions, ProviderProtocol,
    RecognizedDialect, ReplyStream,
    event_framing::EventFraming,
    http_client::{AZURE_API_KEY, ProviderHttpClient},
    quirks::{LearnedQuirks, ModelQuirk, StopReasonHabit, quirk_notices, rejects_returned_blocks},
    reply_assembly::start_reply_stream,
    token_limits::LearnedTokenLimits,
    tool_placement::FoundToolPlace,
    tool_rejections::{RejectedTools, left_out_notice},
};

/// The host of OpenAI itself.
const OPENAI_HOST: &str = "api.openai.com";

/// A provider that speaks one of OpenAI's protocols.
pub(crate) struct OpenAiModel {
    client: ProviderHttpClient,
    api: OpenAiApi,
    models: HashMap<String, ModelOptions>,
    quirks: Arc<LearnedQuirks>,
    token_limits: LearnedTokenLimits,
    rejected_tools: RejectedTools,
}

/// The two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenAiApi {
    Chat,
    Responses,
}

impl OpenAiApi {
    /// Returns the path for requests.
    fn request_path(self) -> &'static [&'static str] {
        match self {
            Self::Chat => &["chat", "completions"],
            Self::Responses => &["responses"],
        }
    }
}

impl OpenAiModel {
    /// Creates a client for a provider. Nothing is sent or checked before the first call.
    pub(crate) fn new(config: &ProviderOptions) -> Self {
        let mut client = ProviderHttpClient::new(config);
        let api = match config.protocol {
            ProviderProtocol::OpenaiResponses => OpenAiApi::Responses,
            ProviderProtocol::OpenaiChat => OpenAiApi::Chat,
            _ if client.is_host(OPENAI_HOST) => OpenAiApi::Responses,
            _ => OpenAiApi::Chat,
        };
        client.choose_dialect(
            config,
            match api {
                OpenAiApi::Chat => DialectProtocol::Chat,
                OpenAiApi::Responses => DialectProtocol::Responses,
            },
        );
        let models = config.models.iter().map(|model| (model.id.clone(), model.clone())).collect();
        Self {
            client,
            api,
            models,
            quirks: Arc::default(),
            token_limits: LearnedTokenLimits::default(),
            rejected_tools: RejectedTools::default(),
        }
    }

    fn protocol_headers(&self) -> Result<http::HeaderMap, ModelError> {
        self.client.request_headers(|client, key| {
            if client.is_azure() {
                vec![(AZURE_API_KEY, key.to_owned())]
            } else {
                vec![(header::AUTHORIZATION, format!("Bearer {key}"))]
            }
        })
    }

    /// Plans the body of a request from what is known of the server and the model.
    fn plan_request(&self, request: &ChatRequest) -> OpenAiPlan {
        let quirks = self.quirks.for_model(&request.model);
        let model = self.models.get(&request.model);
        let lacks = [ModelFeature::Thinking, ModelFeature::Temperature].into_iter();
        let dialect = self.client.dialect().adapted(&quirks, request.form);
        OpenAiPlan {
            found_tool_place: match self.api {
                OpenAiApi::Chat => FoundToolPlace::List,
                OpenAiApi::Responses => FoundToolPlace::for_model(&dialect, model),
            },
            dialect,
            form: request.form,
            lacks: lacks.filter(|feature| model.is_some_and(|model| model.lacks(*feature))).collect(),
            return_blocks: request.form < RequestForm::Strict,
            quirks,
        }
    }
}

#[async_trait]
impl ChatModel for OpenAiModel {
    async fn stream(&self, mut request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let offered_tools = request.tools.clone();
        let call = self.client.provider_call(&request.model);
        let headers = self.protocol_headers()?;
        request.max_tokens =
            request.max_tokens.map(|limit| self.token_limits.fit_reply_limit(&request, limit, &self.client.dialect()));
        let mut plan = self.plan_request(&request);
        request.place_found_tools(plan.found_tool_place);
        self.rejected_tools.leave_out_rejected(&mut request, &plan.dialect);
        let mut blames_loading = false;
        loop {
            let path = self.api.request_path();
            let (posted, sent, has_returned_blocks) = match self.api {
                OpenAiApi::Chat => {
                    let body = ChatCompletionsBody::build(&request, &plan);
                    let posted =
                        self.client.post_streaming(&call, path, headers.clone(), &body, EventFraming::Sse).await;
                    (posted, body.removable_parameters(), false)
                }
                OpenAiApi::Responses => {
                    let body = ResponsesBody::build(&request, &plan);
                    let posted =
                        self.client.post_streaming(&call, path, headers.clone(), &body, EventFraming::Sse).await;
                    (posted, body.removable_parameters(), body.has_returned_blocks())
                }
            };
            let error = match posted {
                Ok(events) => {
                    let relevant = plan.quirks.iter().filter(|quirk| affects_request(**quirk, &request));
                    let mut notices = quirk_notices(relevant, &request.model);
                    notices.extend(left_out_notice(&offered_tools, &request));
                    let tools = request.callable_tool_names();
                    let stream = match self.api {
                        OpenAiApi::Chat => {
                            let offered = offered_tool_names(&request, &plan);
                            let habit = StopReasonHabit::new(Arc::clone(&self.quirks), request.model.clone());
                            let assembler = ChatCompletionsAssembler::new(events.call().clone(), offered, notices)
                                .with_stop_reason_habit(habit);
                            start_reply_stream(events, assembler, tools).await
                        }
                        OpenAiApi::Responses => {
                            let assembler = ResponsesAssembler::new(events.call().clone(), notices);
                            start_reply_stream(events, assembler, tools).await
                        }
                    };
                    match stream {
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
            self.client.recognize_server(&call, &error, &["models"], &headers).await;
            let replanned = OpenAiPlan { return_blocks: plan.return_blocks, ..self.plan_request(&request) };
            if error.is_rejected_request() && replanned.dialect != plan.dialect {
                // The rejection identified the server.
                plan = replanned;
            } else if plan.return_blocks && has_returned_blocks && rejects_returned_blocks(&error, &request.model) {
                plan.return_blocks = false;
            } else if let Some(limit) =
                self.token_limits.learn_from_rejection(&request.model, &error, request.max_tokens)
            {
                request.max_tokens = Some(limit);
            } else if self.quirks.learn_from_rejection(&request.model, &error, &sent, &plan.quirks).is_some() {
                plan = OpenAiPlan { return_blocks: plan.return_blocks, ..self.plan_request(&request) };
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
        self.client.check_model(model, &["models"], self.api.request_path(), self.protocol_headers()?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support;

    #[test]
    fn azure_hosts_get_api_key_header() {
        let headers = |base_url: &str| {
            let names = OpenAiModel::new(&test_support::provider_config(ProviderProtocol::Openai, base_url))
                .protocol_headers()
                .unwrap();
            names.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        for azure in ["https://x.openai.azure.com/openai/v1", "https://x.services.ai.azure.com/openai/v1"] {
            assert_eq!(headers(azure), ["api-key"], "{azure}");
        }
        for other in ["https://api.openai.com/v1", "https://azure.com.example.org/v1", "http://127.0.0.1:1/v1"] {
            assert_eq!(headers(other), ["authorization"], "{other}");
        }
    }

    #[test]
    fn protocol_is_chosen_by_host() {
        let api = |protocol, base_url: &str| OpenAiModel::new(&test_support::provider_config(protocol, base_url)).api;
        assert_eq!(api(ProviderProtocol::Openai, "https://api.openai.com/v1"), OpenAiApi::Responses);
        assert_eq!(api(ProviderProtocol::OpenaiChat, "https://api.openai.com/v1"), OpenAiApi::Chat);
        assert_eq!(api(ProviderProtocol::Openai, "http://127.0.0.1:8081/v1"), OpenAiApi::Chat);
        assert_eq!(api(ProviderProtocol::OpenaiResponses, "http://127.0.0.1:8081/v1"), OpenAiApi::Responses);
    }
}
