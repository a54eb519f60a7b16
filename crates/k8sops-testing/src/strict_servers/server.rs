//! The strict servers, and how each of them writes a rejection.

use serde_json::{Value, json};

use super::violation::Violation;
use crate::provider::{ProviderApi, ScriptedResponse};

/// A server with strict rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StrictServer {
    /// OpenAI's chat completions.
    OpenaiChat,
    /// OpenAI's Responses API.
    OpenaiResponses,
    /// Azure OpenAI with its content filter.
    AzureOpenai,
    /// Anthropic's Messages API.
    Anthropic,
    /// Gemini's compatible endpoint.
    Gemini,
    /// Mistral's API.
    Mistral,
    /// Mistral's API behind a gateway that wraps errors.
    MistralByGateway,
    /// DeepSeek's API in thinking mode.
    Deepseek,
    /// Groq's API.
    Groq,
    /// Bedrock behind a gateway.
    BedrockGateway,
    /// vLLM with the chat template of a Mistral model.
    Vllm,
    /// llama.cpp with the chat template of a Llama 3 model.
    LlamaCpp,
    /// LM Studio with the chat template of a Gemma model, which knows no tools.
    LmStudio,
    /// Ollama's own API.
    Ollama,
    /// A server with the rules of a Gemma template that gives no reason for its rejections.
    Silent,
}

/// A rejected request.
#[derive(Debug, Clone, PartialEq)]
pub struct StrictRejection {
    status: u16,
    body: Value,
    /// Whether the response is a stream whose first event is the error.
    is_streamed: bool,
}

impl StrictRejection {
    fn new(status: u16, body: Value) -> Self {
        Self { status, body, is_streamed: false }
    }

    /// Returns the response.
    #[must_use]
    pub fn response(&self) -> ScriptedResponse {
        if self.is_streamed {
            let event = format!("event: error\ndata: {}\n\n", self.body);
            return ScriptedResponse::plain(200, "text/event-stream", event.into_bytes());
        }
        ScriptedResponse::plain(self.status, "application/json", self.body.to_string().into_bytes())
    }
}

impl StrictServer {
    /// Every server.
    pub const ALL: [Self; 15] = [
        Self::OpenaiChat,
        Self::OpenaiResponses,
        Self::AzureOpenai,
        Self::Anthropic,
        Self::Gemini,
        Self::Mistral,
        Self::MistralByGateway,
        Self::Deepseek,
        Self::Groq,
        Self::BedrockGateway,
        Self::Vllm,
        Self::LlamaCpp,
        Self::LmStudio,
        Self::Ollama,
        Self::Silent,
    ];

    /// Returns the API of the server.
    #[must_use]
    pub fn api(self) -> ProviderApi {
        match self {
            Self::OpenaiResponses => ProviderApi::Responses,
            Self::Anthropic => ProviderApi::Anthropic,
            Self::Ollama => ProviderApi::Ollama,
            _ => ProviderApi::Chat,
        }
    }

    /// Returns the name of the built-in dialect of the server.
    #[must_use]
    pub fn dialect(self) -> Option<&'static str> {
        Some(match self {
            Self::OpenaiChat => "openai-chat",
            Self::OpenaiResponses => "openai-responses",
            Self::AzureOpenai => "azure-openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Mistral | Self::MistralByGateway => "mistral",
            Self::Deepseek => "deepseek",
            Self::Groq => "groq",
            Self::BedrockGateway => "bedrock-gateway",
            Self::Vllm => "vllm",
            Self::LlamaCpp => "llama-cpp",
            Self::LmStudio => "lm-studio",
            Self::Ollama => "ollama",
            Self::Silent => return None,
        })
    }

    /// Writes a rejection as the server does.
    pub(super) fn reject(self, violation: &Violation) -> StrictRejection {
        let text = violation.text.as_str();
        let openai =
            |kind: &str, code: Value| json!({"error": {"message": text, "type": kind, "param": null, "code": code}});
        match self {
            Self::Anthropic => {
                let error = json!({"type": "invalid_request_error", "message": text});
                StrictRejection::new(400, json!({"type": "error", "error": error, "request_id": "req_test"}))
            }
            Self::Ollama => StrictRejection::new(400, json!({"error": text})),
            Self::Gemini => {
                let error = json!({"code": 400, "message": text, "status": "INVALID_ARGUMENT"});
                StrictRejection::new(400, json!([{ "error": error }]))
            }
            Self::Mistral if violation.code == "extra_forbidden" => StrictRejection::new(
                422,
                json!({"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", text],
                    "msg": "Extra inputs are not permitted"}]}, "type": "invalid_request_error", "param": null, "code": null}),
            ),
            Self::Mistral => StrictRejection::new(
                400,
                json!({"object": "error", "message": text, "type": "invalid_request_message_order", "param": null, "code": "3230"}),
            ),
            Self::MistralByGateway => {
                let raw = json!({"object": "error", "message": text, "type": "invalid_request_message_order", "code": "3230"});
                let metadata = json!({"raw": raw.to_string(), "provider_name": "Mistral"});
                let error = json!({"message": "Provider returned error", "code": 400, "metadata": metadata});
                StrictRejection::new(400, json!({ "error": error }))
            }
            Self::AzureOpenai if violation.code == "content_filter" => StrictRejection::new(
                400,
                json!({"error": {"message": text, "type": null, "param": "prompt", "code": "content_filter", "status": 400,
                    "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
            ),
            Self::BedrockGateway => {
                let text = format!("litellm.BadRequestError: BedrockException - {text}");
                StrictRejection::new(
                    400,
                    json!({"error": {"message": text, "type": null, "param": null, "code": "400"}}),
                )
            }
            Self::Vllm => StrictRejection::new(
                400,
                json!({"object": "error", "message": text, "type": "BadRequestError", "param": null, "code": 400}),
            ),
            Self::LlamaCpp => {
                let text = format!(
                    "\n------------\nWhile executing CallExpression at line 47\nError: Jinja Exception: {text}"
                );
                StrictRejection::new(500, json!({"error": {"code": 500, "message": text, "type": "server_error"}}))
            }
            Self::LmStudio => {
                let text = format!("Error rendering prompt with jinja template: \"{text}\".");
                let body = json!({"error": {"message": text}});
                StrictRejection { is_streamed: true, ..StrictRejection::new(200, body) }
            }
            Self::Silent => StrictRejection::new(400, json!({"error": {"message": "Bad Request"}})),
            Self::OpenaiChat | Self::OpenaiResponses | Self::AzureOpenai | Self::Deepseek | Self::Groq => {
                StrictRejection::new(400, openai("invalid_request_error", json!(violation.code)))
            }
        }
    }
}
