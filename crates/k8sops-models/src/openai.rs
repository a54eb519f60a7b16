//! OpenAI's two protocols, and the servers that speak them: the Responses API, which is OpenAI's own, and chat completions,
//! which nearly everybody else speaks (vLLM, llama.cpp, LM Studio, Gemini, OpenRouter, Azure, …).

mod chat;
mod responses;

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use http::header;

use super::{
    ChatModel, ChatRequest, ModelError, ReplyStream,
    http::{AZURE_KEY, Endpoint},
    quirks::{self, Quirk, Quirks},
    sse::{self, Framing},
};
use crate::{ModelConfig, ModelFeature, ProviderConfig, ProviderProtocol};
use k8sops_core::ReasoningEffort;

/// OpenAI itself.
const OPENAI: &str = "api.openai.com";

/// A provider that speaks one of OpenAI's protocols.
pub struct OpenAiModel {
    endpoint: Endpoint,
    api: Api,
    models: HashMap<String, ModelConfig>,
    quirks: Quirks,
}

/// Which of the protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Chat,
    Responses,
}

impl Api {
    /// The path that takes calls.
    fn path(self) -> &'static [&'static str] {
        match self {
            Self::Chat => &["chat", "completions"],
            Self::Responses => &["responses"],
        }
    }
}

/// How a body is to be, beyond the request.
#[derive(Debug, Default)]
struct Plan {
    /// The limit on the reply goes by its newer name, `max_completion_tokens`.
    completion_limit: bool,
    /// What the model is known to lack.
    lacks: BTreeSet<ModelFeature>,
    /// Whether it gets back what it thought itself.
    own_blocks: bool,
    /// What is to be left out.
    quirks: BTreeSet<Quirk>,
}

impl Plan {
    /// Whether a part of the request may be sent.
    fn takes(&self, without: Quirk) -> bool {
        let lacking = match without {
            Quirk::NoThinking | Quirk::NoEncryptedReasoning => self.lacks.contains(&ModelFeature::Thinking),
            Quirk::NoTemperature => self.lacks.contains(&ModelFeature::Temperature),
            _ => false,
        };
        !lacking && !self.quirks.contains(&without)
    }
}

impl OpenAiModel {
    /// The provider that `config` describes. Nothing is sent, and nothing checked, before the first call.
    #[must_use]
    pub fn new(config: &ProviderConfig) -> Self {
        let endpoint = Endpoint::new(config);
        let api = match config.protocol {
            ProviderProtocol::OpenaiResponses => Api::Responses,
            ProviderProtocol::OpenaiChat => Api::Chat,
            _ if endpoint.is_at(OPENAI) => Api::Responses,
            _ => Api::Chat,
        };
        let models = config.models.iter().map(|model| (model.id.clone(), model.clone())).collect();
        Self { endpoint, api, models, quirks: Quirks::default() }
    }

    fn headers(&self) -> Result<http::HeaderMap, ModelError> {
        self.endpoint.authorise(|endpoint, key| {
            if endpoint.is_azure() {
                vec![(AZURE_KEY, key.to_owned())]
            } else {
                vec![(header::AUTHORIZATION, format!("Bearer {key}"))]
            }
        })
    }

    /// How the body of a request is to be, by what is known of the server and the model.
    fn plan(&self, request: &ChatRequest) -> Plan {
        let quirks = self.quirks.of(&request.model);
        let model = self.models.get(&request.model);
        let lacks = [ModelFeature::Thinking, ModelFeature::Temperature].into_iter();
        Plan {
            // OpenAI's newer models refuse `max_tokens`; many other servers know nothing else.
            completion_limit: self.endpoint.is_at(OPENAI) != quirks.contains(&Quirk::OtherLimit),
            lacks: lacks.filter(|feature| model.is_some_and(|model| model.lacks(*feature))).collect(),
            own_blocks: true,
            quirks,
        }
    }
}

#[async_trait]
impl ChatModel for OpenAiModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let call = self.endpoint.call(&request.model);
        let headers = self.headers()?;
        let mut plan = self.plan(&request);
        loop {
            let path = self.api.path();
            let (posted, sent, own) = match self.api {
                Api::Chat => {
                    let body = chat::body::of(&request, &plan);
                    let posted = self.endpoint.post(&call, path, headers.clone(), &body, Framing::Sse).await;
                    (posted, body.optional(), false)
                }
                Api::Responses => {
                    let body = responses::body::of(&request, &plan);
                    let posted = self.endpoint.post(&call, path, headers.clone(), &body, Framing::Sse).await;
                    (posted, body.optional(), body.has_own_blocks())
                }
            };
            let error = match posted {
                Ok(events) => {
                    let asked = plan.quirks.iter().filter(|quirk| asked(**quirk, &request));
                    let notices = quirks::notices(asked, &request.model);
                    return Ok(match self.api {
                        Api::Chat => {
                            let offered = chat::body::offered(&request, &plan);
                            sse::reply_stream(events, chat::reply::Assembler::new(call, offered, notices))
                        }
                        Api::Responses => sse::reply_stream(events, responses::reply::Assembler::new(call, notices)),
                    });
                }
                Err(error) => error,
            };
            if plan.own_blocks && own && quirks::refuses_own_blocks(&error, &request.model) {
                plan.own_blocks = false;
            } else if self.quirks.learn_from(&request.model, &error, &sent, &plan.quirks) {
                plan = Plan { own_blocks: plan.own_blocks, ..self.plan(&request) };
            } else {
                return Err(error);
            }
        }
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        self.endpoint.check(model, &["models"], self.api.path(), self.headers()?).await
    }
}

/// Whether a request asks for what a quirk leaves out.
fn asked(quirk: Quirk, request: &ChatRequest) -> bool {
    match quirk {
        Quirk::NoTemperature => request.temperature.is_some(),
        Quirk::AlwaysThinks => request.reasoning == Some(ReasoningEffort::Off),
        Quirk::NoThinking => request.reasoning.is_some(),
        Quirk::NoTools => !request.tools.is_empty(),
        _ => true,
    }
}

/// Not at all.
const NO_EFFORT: &str = "none";

/// The word for how much the model is to think, if something is to be said about that.
fn effort(request: &ChatRequest, plan: &Plan) -> Option<&'static str> {
    Some(match request.reasoning? {
        ReasoningEffort::Off if plan.takes(Quirk::AlwaysThinks) => NO_EFFORT,
        ReasoningEffort::Off => ReasoningEffort::Low.as_str(),
        effort => effort.as_str(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn azure_takes_the_key_in_a_header_of_its_own() {
        let headers = |base_url: &str| {
            let names = OpenAiModel::new(&testing::provider(ProviderProtocol::Openai, base_url)).headers().unwrap();
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
    fn the_responses_api_is_spoken_at_openai_itself() {
        let api = |protocol, base_url: &str| OpenAiModel::new(&testing::provider(protocol, base_url)).api;
        assert_eq!(api(ProviderProtocol::Openai, "https://api.openai.com/v1"), Api::Responses);
        assert_eq!(api(ProviderProtocol::OpenaiChat, "https://api.openai.com/v1"), Api::Chat);
        assert_eq!(api(ProviderProtocol::Openai, "http://127.0.0.1:8081/v1"), Api::Chat);
        assert_eq!(api(ProviderProtocol::OpenaiResponses, "http://127.0.0.1:8081/v1"), Api::Responses);
    }
}
