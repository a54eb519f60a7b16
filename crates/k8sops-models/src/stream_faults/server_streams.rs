//! Tests of streams as servers and gateways send them (values made up), each with what is deviant in it.

use k8sops_core::StopReason::{self, EndTurn, MaxTokens, Other, Refusal, ToolUse};
use serde_json::json;

use super::{AfterBody, collect};
use crate::ProviderProtocol::{self, Anthropic, Ollama, OpenaiChat, OpenaiResponses};

/// What a stream becomes: text, calls as `name{arguments}`, and the reason of the end; or the code of an error.
type Outcome = Result<(&'static str, &'static [&'static str], StopReason), &'static str>;

const ROWS: &[(&str, ProviderProtocol, &str, Outcome)] = &[
    (
        "vllm: finish reason with the last text",
        OpenaiChat,
        "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\",\"stop_reason\":null}]}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "vllm: usage in every chunk",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], MaxTokens)),
    ),
    (
        "vllm: error chunk after text",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"error\":{\"object\":\"error\",\"message\":\"EngineCore encountered an issue\",\"type\":\"InternalServerError\",\"code\":500}}\n\ndata: [DONE]\n\n",
        Err("overloaded"),
    ),
    (
        "vllm: abort",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"abort\"}]}\n\ndata: [DONE]\n\n",
        Err("malformed_stream"),
    ),
    (
        "llama.cpp: [DONE] without a blank line",
        OpenaiChat,
        "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"delta\":{}}],\"timings\":{\"prompt_n\":1}}\n\ndata: [DONE]",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "llama.cpp: error field",
        OpenaiChat,
        "error: {\"code\":500,\"message\":\"Invalid input batch.\",\"type\":\"server_error\"}\n\n",
        Err("overloaded"),
    ),
    (
        "llama.cpp: loading in a stream",
        OpenaiChat,
        "data: {\"error\":{\"code\":503,\"message\":\"Loading model\",\"type\":\"unavailable_error\"}}\n\n",
        Err("overloaded"),
    ),
    (
        "llama.cpp: context in a stream",
        OpenaiChat,
        "data: {\"error\":{\"code\":400,\"message\":\"the request exceeds the available context size\",\"type\":\"exceed_context_size_error\"}}\n\n",
        Err("context_too_long"),
    ),
    (
        "lm studio: event error",
        OpenaiChat,
        "event: error\ndata: {\"error\":{\"message\":\"Failed to parse tool call: unexpected end of input\"}}\n\n",
        Err("malformed_tool_call"),
    ),
    ("lm studio: error as text", OpenaiChat, "event: error\ndata: Model unloaded.\n\n", Err("overloaded")),
    (
        "lm studio: call with an empty id in later pieces",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"look\",\"arguments\":\"\"}}]}}]}\n\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"\",\"function\":{\"name\":\"\",\"arguments\":\"{\\\"a\\\":1}\"}}]}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n",
        Ok(("", &["look{\"a\":1}"], ToolUse)),
    ),
    (
        "groq: keep-alive and x_groq",
        OpenaiChat,
        ":\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"x_groq\":{\"id\":\"req_1\"}}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"x_groq\":{\"id\":\"req_1\",\"usage\":{\"prompt_tokens\":1}}}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "groq: tool_use_failed in a stream",
        OpenaiChat,
        "event: error\ndata: {\"error\":{\"message\":\"Failed to call a function. Please adjust your prompt.\",\"type\":\"invalid_request_error\",\"code\":\"tool_use_failed\",\"failed_generation\":\"<function\",\"status_code\":400}}\n\n",
        Err("malformed_tool_call"),
    ),
    (
        "mistral: whole call in one chunk",
        OpenaiChat,
        "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\",\"tool_calls\":[{\"id\":\"D681PevKs\",\"function\":{\"name\":\"look\",\"arguments\":\"{\\\"a\\\": 1}\"},\"index\":0}]},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n",
        Ok(("", &["look{\"a\":1}"], ToolUse)),
    ),
    (
        "mistral: content in parts",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"model_length\"}]}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], MaxTokens)),
    ),
    (
        "mistral: error",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"error\"}]}\n\ndata: [DONE]\n\n",
        Err("malformed_stream"),
    ),
    (
        "deepseek: keep-alive and reasoning",
        OpenaiChat,
        ": keep-alive\n\n: keep-alive\n\ndata: {\"choices\":[{\"delta\":{\"content\":null,\"reasoning_content\":\"hm\"},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"hi\",\"reasoning_content\":null},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "deepseek: interrupted",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"insufficient_system_resource\"}]}\n\ndata: [DONE]\n\n",
        Err("malformed_stream"),
    ),
    (
        "gemini: call with stop",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"tool_calls\":[{\"extra_content\":{\"google\":{\"thought_signature\":\"s\"}},\"function\":{\"arguments\":\"{\\\"a\\\":1}\",\"name\":\"look\"},\"id\":\"function-call-1\",\"type\":\"function\",\"index\":0}]},\"finish_reason\":\"stop\",\"index\":0}]}\n\ndata: [DONE]\n\n",
        Ok(("", &["look{\"a\":1}"], ToolUse)),
    ),
    (
        "gemini: name with its module",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"{}\",\"name\":\"default_api.look\"},\"id\":\"\",\"index\":0}]},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        Ok(("", &["look{}"], ToolUse)),
    ),
    (
        "gemini: malformed call",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"},\"finish_reason\":\"function_call_filter: MALFORMED_FUNCTION_CALL\",\"index\":0}]}\n\ndata: [DONE]\n\n",
        Err("malformed_stream"),
    ),
    (
        "gemini: safety",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"},\"finish_reason\":\"content_filter: SAFETY\",\"index\":0}]}\n\ndata: [DONE]\n\n",
        Ok(("", &[], Refusal)),
    ),
    (
        "gemini: error in a list",
        OpenaiChat,
        "[{\n  \"error\": {\n    \"code\": 503,\n    \"message\": \"The model is overloaded.\",\n    \"status\": \"UNAVAILABLE\"\n  }\n}\n]\n",
        Err("overloaded"),
    ),
    (
        "azure: filter results first",
        OpenaiChat,
        "data: {\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0,\"content_filter_results\":{}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"content_filter_results\":{\"hate\":{\"filtered\":false}}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\",\"content_filter_results\":{}}]}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "azure: asynchronous filter",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"id\":\"\",\"object\":\"\",\"created\":0,\"model\":\"\",\"choices\":[{\"index\":0,\"finish_reason\":null,\"content_filter_offsets\":{\"check_offset\":1}}]}\n\ndata: {\"choices\":[{\"index\":0,\"finish_reason\":\"content_filter\",\"delta\":{}}]}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], Refusal)),
    ),
    (
        "openrouter: processing comments",
        OpenaiChat,
        ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\ndata: {\"id\":\"gen-1\",\"provider\":\"X\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":null,\"native_finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\",\"native_finish_reason\":\"end_turn\"}]}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "openrouter: error in the middle",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"id\":\"gen-1\",\"error\":{\"code\":502,\"message\":\"Provider disconnected\"},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\",\"native_finish_reason\":null}]}\n\ndata: [DONE]\n\n",
        Err("overloaded"),
    ),
    (
        "openrouter: error in the choice",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"error\":{\"code\":429,\"message\":\"upstream is rate limited\"},\"delta\":{},\"finish_reason\":\"error\"}]}\n\n",
        Err("rate_limited"),
    ),
    (
        "litellm: error as data",
        OpenaiChat,
        "data: {\"error\": {\"message\": \"litellm.MidStreamFallbackError: litellm.InternalServerError: upstream\", \"type\": null, \"param\": null, \"code\": \"500\"}}\n\n",
        Err("overloaded"),
    ),
    (
        "litellm: empty object before the arguments",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"t\",\"function\":{\"arguments\":\"{}\",\"name\":\"look\"},\"type\":\"function\",\"index\":1}]}}]}\n\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":null,\"function\":{\"arguments\":\"{\\\"a\\\"\",\"name\":null},\"index\":1}]}}]}\n\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\": 1}\"},\"index\":1}]}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
        Ok(("", &["look{\"a\":1}"], ToolUse)),
    ),
    (
        "ollama compatible: whole call, stop",
        OpenaiChat,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_1\",\"index\":0,\"type\":\"function\",\"function\":{\"name\":\"look\",\"arguments\":\"{\\\"a\\\":1}\"}}]},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        Ok(("", &["look{\"a\":1}"], ToolUse)),
    ),
    (
        "kimi: name with its number",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"functions.look:0\",\"function\":{\"name\":\"functions.look:0\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n",
        Ok(("", &["look{}"], ToolUse)),
    ),
    (
        "gateway: numbers as text",
        OpenaiChat,
        "data: {\"choices\":[{\"index\":\"0\",\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":\"5\"},\"created\":\"1\"}\n\ndata: {\"choices\":[{\"index\":\"0\",\"delta\":{\"content\":\"\"},\"finish_reason\":\"STOP\"}]}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "gateway: finish reason as the text null",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"h\"},\"finish_reason\":\"null\"}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"i\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "gateway: message of its own",
        OpenaiChat,
        "data: {\"message\": \"upstream is gone\", \"status\": 502}\n\n",
        Err("overloaded"),
    ),
    (
        "gateway: chunks without data:",
        OpenaiChat,
        "{\"choices\":[{\"delta\":{\"content\":\"h\"}}]}\n{\"choices\":[{\"delta\":{\"content\":\"i\"},\"finish_reason\":\"stop\"}]}\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "gateway: reply after comments as one object",
        OpenaiChat,
        ": wait\n\n{\"object\":\"chat.completion\",\"choices\":[{\"message\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "gateway: tool calls as null and text as false",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\",\"tool_calls\":null,\"function_call\":null,\"refusal\":false}}]}\n\ndata: {\"choices\":[{\"delta\":null,\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "gateway: unknown reason",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"other\"}]}\n\ndata: [DONE]\n\n",
        Ok(("hi", &[], Other)),
    ),
    (
        "gateway: arguments as an object",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"look\",\"arguments\":{\"a\":1}}}]},\"finish_reason\":\"tool_calls\"}]}\n\n",
        Ok(("", &["look{\"a\":1}"], ToolUse)),
    ),
    (
        "gateway: object in place of the list of calls",
        OpenaiChat,
        "data: {\"choices\":[{\"delta\":{\"tool_calls\":{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"look\",\"arguments\":\"{}\"}}},\"finish_reason\":\"tool_calls\"}]}\n\n",
        Ok(("", &["look{}"], ToolUse)),
    ),
    (
        "minimax: status in a reply without choices",
        OpenaiChat,
        "data: {\"choices\":null,\"base_resp\":{\"status_code\":1002,\"status_msg\":\"rate limit\"}}\n\n",
        Err("rate_limited"),
    ),
    (
        "anthropic: ping first",
        Anthropic,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1}}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "anthropic: type only as the name",
        Anthropic,
        "event: content_block_delta\ndata: {\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\nevent: message_delta\ndata: {\"delta\":{\"stop_reason\":\"end_turn\"}}\n\nevent: message_stop\ndata: {}\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "anthropic: overloaded in the middle",
        Anthropic,
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"details\":null,\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
        Err("overloaded"),
    ),
    (
        "anthropic: window exceeded",
        Anthropic,
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"model_context_window_exceeded\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
        Ok(("hi", &[], MaxTokens)),
    ),
    (
        "bedrock gateway: metrics at the end, [DONE]",
        Anthropic,
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_bdrk_1\",\"name\":\"look\",\"input\":{}}}\n\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":1}\"}}\n\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\n\ndata: {\"type\":\"message_stop\",\"amazon-bedrock-invocationMetrics\":{\"inputTokenCount\":1}}\n\ndata: [DONE]\n\n",
        Ok(("", &["look{\"a\":1}"], ToolUse)),
    ),
    (
        "bedrock gateway: throttled in the stream",
        Anthropic,
        "data: {\"type\":\"error\",\"error\":{\"type\":\"throttlingException\",\"message\":\"Too many tokens\"}}\n\n",
        Err("rate_limited"),
    ),
    (
        "gateway before anthropic: error without a type",
        Anthropic,
        "data: {\"error\":{\"message\":\"upstream timeout\",\"type\":\"timeout_error\"}}\n\n",
        Err("timeout"),
    ),
    (
        "gateway before anthropic: index as null",
        Anthropic,
        "data: {\"type\":\"content_block_delta\",\"index\":null,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"stop\"}}\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "gateway before anthropic: refusal",
        Anthropic,
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"no\"}}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"content_filtered\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
        Ok(("no", &[], Refusal)),
    ),
    (
        "responses: keepalive events",
        OpenaiResponses,
        "event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":1}\n\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\",\"logprobs\":[],\"obfuscation\":\"x\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[]}}\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "responses: error event of azure",
        OpenaiResponses,
        "event: error\ndata: {\"type\":\"error\",\"sequence_number\":2,\"error\":{\"type\":\"too_many_requests\",\"code\":\"too_many_requests\",\"message\":\"Too Many Requests\",\"param\":null}}\n\n",
        Err("rate_limited"),
    ),
    (
        "responses: failed without an error",
        OpenaiResponses,
        "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":null}}\n\n",
        Err("malformed_stream"),
    ),
    (
        "responses: cancelled",
        OpenaiResponses,
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\ndata: {\"type\":\"response.cancelled\",\"response\":{\"status\":\"cancelled\"}}\n\n",
        Err("malformed_stream"),
    ),
    (
        "responses: cyber filter",
        OpenaiResponses,
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\ndata: {\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"content_filter\"}}}\n\n",
        Ok(("hi", &[], Refusal)),
    ),
    (
        "responses: call twice",
        OpenaiResponses,
        "data: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"id\":\"fc_1\",\"call_id\":\"call_1\",\"name\":\"look\",\"arguments\":\"{\\\"a\\\":1}\"}}\n\ndata: {\"type\":\"response.output_item.done\",\"output_index\":1,\"item\":{\"type\":\"function_call\",\"id\":\"fc_2\",\"call_id\":\"call_1\",\"name\":\"look\",\"arguments\":\"{\\\"a\\\":1}\"}}\n\ndata: {\"type\":\"response.completed\",\"response\":{}}\n\n",
        Ok(("", &["look{\"a\":1}"], ToolUse)),
    ),
    (
        "responses: only the whole response",
        OpenaiResponses,
        "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"hi\"}]}]}}\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "ollama: thinking and text",
        Ollama,
        "{\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"hm\"},\"done\":false}\n{\"message\":{\"role\":\"assistant\",\"content\":\"hi\"},\"done\":false}\n{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done_reason\":\"stop\",\"done\":true,\"eval_count\":2}\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "ollama: error in the middle",
        Ollama,
        "{\"message\":{\"content\":\"hi\"},\"done\":false}\n{\"error\":\"an error was encountered while running the model: unexpected EOF\"}\n",
        Err("overloaded"),
    ),
    (
        "ollama: bad call in the stream",
        Ollama,
        "{\"message\":{\"content\":\"hi\"},\"done\":false}\n{\"error\":\"error parsing tool call: raw='{', err=unexpected end of JSON input\"}\n",
        Err("malformed_tool_call"),
    ),
    (
        "ollama: lines as events",
        Ollama,
        "data: {\"message\":{\"content\":\"hi\"},\"done\":false}\n\ndata: {\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n\n",
        Ok(("hi", &[], EndTurn)),
    ),
    (
        "ollama: token limit",
        Ollama,
        "{\"message\":{\"content\":\"hi\"},\"done\":true,\"done_reason\":\"length\"}",
        Ok(("hi", &[], MaxTokens)),
    ),
];

#[tokio::test]
async fn streams_of_servers_have_their_meaning() {
    let mut wrong = Vec::new();
    for (name, protocol, body, expected) in ROWS {
        let seen = collect(*protocol, body.as_bytes(), 11, AfterBody::Close).await;
        let found = match &seen.end {
            Ok(reply) => {
                let calls: Vec<String> =
                    reply.tool_calls.iter().map(|call| format!("{}{}", call.name, call.arguments)).collect();
                json!([reply.content, calls, format!("{:?}", reply.stop_reason)])
            }
            Err(error) => json!(error.code()),
        };
        let expected = match expected {
            Ok((text, calls, reason)) => json!([text, calls, format!("{reason:?}")]),
            Err(code) => json!(code),
        };
        if found != expected {
            wrong.push(format!("{name}: {found}, not {expected}; {:?}", seen.end.as_ref().err()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), ROWS.len(), wrong.join("\n"));
}
