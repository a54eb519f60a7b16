//! Properties of the parsers of model APIs that hold for any input. The targets in `fuzz/` search for a counterexample, and
//! the tests try the seeds.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use k8sops_core::{
    AssistantMessage, ChatMessage, MessageId, RequestForm, Timestamp, TokenUsage, ToolCall, ToolCallId, UserMessage,
};

use crate::{
    ChatRequest, Dialect, FoundTools, ModelReply, ReplyDelta, ToolChoice,
    anthropic::{MessagesAssembler, MessagesBody, MessagesPlan, ThinkingMode},
    error_mapping::{ProviderCall, ProviderEndpoint},
    event_framing::EventFraming,
    event_stream::ProviderEventStream,
    ollama::{OllamaAssembler, OllamaBody, OllamaPlan},
    openai::{ChatCompletionsAssembler, ChatCompletionsBody, OpenAiPlan, ResponsesAssembler, ResponsesBody},
    reply_assembly::reply_stream,
    tool_placement::FoundToolPlace,
};

/// The tools of the request that a reply answers.
const TOOLS: [&str; 2] = ["look", "scale"];

/// Checks that a stream gives the same events however its bytes are divided, as server-sent events and as lines.
///
/// # Panics
/// Panics if the events depend on how the bytes arrive.
pub fn check_stream(bytes: &[u8]) {
    let runtime = build_runtime();
    for framing in [EventFraming::Sse, EventFraming::Lines] {
        let whole = runtime.block_on(events(vec![bytes], framing));
        let halves = bytes.split_at(bytes.len() / 2);
        assert_eq!(whole, runtime.block_on(events(vec![halves.0, halves.1], framing)));
        assert_eq!(whole, runtime.block_on(events(bytes.chunks(3).collect(), framing)));
    }
}

/// Checks that a stream gives the same reply in each protocol however its bytes are divided, that the reply equals what was
/// streamed of it, and that it can be sent back.
///
/// # Panics
/// Panics if one of these does not hold.
pub fn check_reply(bytes: &[u8]) {
    let runtime = build_runtime();
    for protocol in [ReplyProtocol::Chat, ReplyProtocol::Responses, ReplyProtocol::Messages, ReplyProtocol::Ollama] {
        let whole = runtime.block_on(protocol.assemble(vec![bytes]));
        let halves = bytes.split_at(bytes.len() / 2);
        assert_eq!(whole, runtime.block_on(protocol.assemble(vec![halves.0, halves.1])), "{protocol:?}");
        assert_eq!(whole, runtime.block_on(protocol.assemble(bytes.chunks(3).collect())), "{protocol:?}");
        let StreamedReply { text, reasoning, end } = whole;
        if let Ok(reply) = end {
            assert_eq!(reply.content, text, "{protocol:?}");
            assert_eq!(reply.reasoning.clone().unwrap_or_default(), reasoning, "{protocol:?}");
            for call in &reply.tool_calls {
                assert!(call.arguments.is_object() || call.arguments.is_string(), "{protocol:?}: {call:?}");
            }
            protocol.check_returned(reply);
        }
    }
}

fn build_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime needs no I/O")
}

/// The protocol of a reply.
#[derive(Debug, Clone, Copy)]
enum ReplyProtocol {
    Chat,
    Responses,
    Messages,
    Ollama,
}

/// What a consumer of a reply has seen.
#[derive(Debug, PartialEq)]
struct StreamedReply {
    text: String,
    reasoning: String,
    /// The reply, or the code of the error.
    end: Result<ModelReply, &'static str>,
}

impl ReplyProtocol {
    async fn assemble(self, pieces: Vec<&[u8]>) -> StreamedReply {
        let framing = if matches!(self, Self::Ollama) { EventFraming::Lines } else { EventFraming::Sse };
        let events = event_stream(pieces, framing);
        let tools: Vec<String> = TOOLS.map(str::to_owned).into();
        let call = test_call();
        let mut stream = match self {
            Self::Chat => reply_stream(events, ChatCompletionsAssembler::new(call, tools.clone(), Vec::new()), tools),
            Self::Responses => reply_stream(events, ResponsesAssembler::new(call, Vec::new()), tools),
            Self::Messages => reply_stream(events, MessagesAssembler::new(call, Vec::new()), tools),
            Self::Ollama => reply_stream(events, OllamaAssembler::new(call, tools.clone(), 4096, Vec::new()), tools),
        };
        let mut seen = StreamedReply { text: String::new(), reasoning: String::new(), end: Err("none") };
        while let Some(delta) = stream.next().await {
            assert!(seen.end == Err("none"), "{self:?}: an item follows the end");
            match delta {
                Ok(ReplyDelta::Text(text)) => seen.text.push_str(&text),
                Ok(ReplyDelta::Reasoning(text)) => seen.reasoning.push_str(&text),
                Ok(ReplyDelta::Done(reply)) => seen.end = Ok(*reply),
                Err(error) => seen.end = Err(error.code()),
            }
        }
        assert!(seen.end != Err("none"), "{self:?}: the stream has no end");
        seen
    }

    /// Checks that a request with this reply in its history can be built.
    fn check_returned(self, reply: ModelReply) {
        let request = request_after(reply);
        let body = match self {
            Self::Chat => serde_json::to_value(ChatCompletionsBody::build(&request, &OpenAiPlan::default())),
            Self::Responses => {
                let plan = OpenAiPlan { return_blocks: true, ..OpenAiPlan::default() };
                serde_json::to_value(ResponsesBody::build(&request, &plan))
            }
            Self::Messages => {
                let plan = MessagesPlan {
                    dialect: Dialect::default(),
                    form: RequestForm::Native,
                    max_tokens: 4096,
                    thinking: ThinkingMode::Unknown,
                    takes_temperature: true,
                    return_blocks: true,
                    quirks: BTreeSet::new(),
                    found_tool_place: FoundToolPlace::List,
                };
                serde_json::to_value(MessagesBody::build(&request, &plan))
            }
            Self::Ollama => {
                let plan = OllamaPlan {
                    dialect: Dialect::default(),
                    window: 4096,
                    keep_alive: None,
                    tools: true,
                    think: true,
                    stream: true,
                };
                serde_json::to_value(OllamaBody::build(&request, &plan))
            }
        };
        assert!(body.is_ok_and(|body| body.is_object()), "{self:?}");
    }
}

/// Returns a request with this reply and a user message after it.
fn request_after(reply: ModelReply) -> ChatRequest {
    let calls = reply.tool_calls.into_iter().map(|call| ToolCall {
        id: ToolCallId::generate(),
        name: call.name,
        arguments: call.arguments,
    });
    let answer = AssistantMessage {
        message_id: MessageId::new(),
        seq: 2,
        ts: Timestamp::now(),
        run_id: None,
        content: reply.content,
        reasoning: reply.reasoning,
        tool_calls: calls.collect(),
        citations: Vec::new(),
        stop_reason: reply.stop_reason,
        provider: Some("p".to_owned()),
        model: Some("model".to_owned()),
        provider_data: reply.provider_data,
        usage: TokenUsage::default(),
        feedback: None,
    };
    let user = |text: &str| Arc::new(ChatMessage::User(UserMessage::unlogged(text.to_owned())));
    ChatRequest {
        provider: "p".to_owned(),
        model: "model".to_owned(),
        system: "s".into(),
        messages: vec![user("go"), Arc::new(ChatMessage::Assistant(answer)), user("and?")],
        tools: [].into(),
        found_tools: FoundTools::default(),
        tool_choice: ToolChoice::Auto,
        temperature: None,
        max_tokens: None,
        reasoning: None,
        form: RequestForm::Native,
    }
}

fn test_call() -> ProviderCall {
    let endpoint = ProviderEndpoint {
        name: "Provider".to_owned(),
        host: "127.0.0.1".to_owned(),
        key: None,
        secrets: Vec::new(),
        key_variable: "API_KEY".to_owned(),
    };
    ProviderCall { endpoint: Arc::new(endpoint), model: "model".to_owned(), request_id: None, wait_fields: Vec::new() }
}

fn event_stream(pieces: Vec<&[u8]>, framing: EventFraming) -> ProviderEventStream {
    let pieces: Vec<_> = pieces.into_iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    ProviderEventStream::new(stream::iter(pieces), framing, Duration::from_secs(5), test_call())
}

/// Returns the events until the end or the first error, and whether there was an error.
async fn events(pieces: Vec<&[u8]>, framing: EventFraming) -> (Vec<(String, String)>, bool) {
    let mut stream = event_stream(pieces, framing);
    let mut found = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(event)) => found.push((event.name, event.data)),
            Ok(None) => return (found, false),
            Err(_) => return (found, true),
        }
    }
}

#[cfg(test)]
mod tests {
    fn check_seeds(target: &str, check: fn(&[u8])) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
        for seed in std::fs::read_dir(&folder).unwrap() {
            check(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn properties_hold_for_the_seeds() {
        check_seeds("provider_stream", super::check_stream);
        check_seeds("model_reply", super::check_reply);
    }
}
