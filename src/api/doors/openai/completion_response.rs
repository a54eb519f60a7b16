//! What clients of chat completions get.

use k8sops_core::{StreamFrame, Timestamp, TokenUsage};
use serde::Serialize;
use utoipa::ToSchema;

use super::chat_text::{ChatDelta, ChatText, FinishReason};
use crate::api::doors::{run_cursor::RunRest, turn_stream::TurnEncoder};

/// The name of the only model: the agent with the settings of a new session.
pub(in crate::api::doors) const MODEL: &str = "k8sops";
/// When the model was created, as its clients want to know: the first release, in seconds since 1970.
const MODEL_CREATED: i64 = 1_764_547_200;

/// The models.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelList {
    /// `list`.
    object: &'static str,
    data: Vec<ModelEntry>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelEntry {
    /// The name of the model.
    id: &'static str,
    /// `model`.
    object: &'static str,
    /// When it was created, in seconds since 1970.
    created: i64,
    /// `k8sops`.
    owned_by: &'static str,
}

impl ModelEntry {
    pub(super) fn new() -> Self {
        Self { id: MODEL, object: "model", created: MODEL_CREATED, owned_by: MODEL }
    }
}

impl ModelList {
    pub(super) fn new() -> Self {
        Self { object: "list", data: vec![ModelEntry::new()] }
    }
}

/// A whole completion.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChatCompletion {
    /// The id of the completion, which holds that of its run.
    id: String,
    /// `chat.completion`.
    object: &'static str,
    /// When it was made, in seconds since 1970.
    created: i64,
    /// `k8sops`.
    model: &'static str,
    /// The one answer.
    choices: Vec<CompletionChoice>,
    usage: CompletionUsage,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
struct CompletionChoice {
    index: u32,
    message: CompletionMessage,
    /// `null`.
    logprobs: Option<String>,
    /// `stop`, or `length` if a limit of the run was reached.
    finish_reason: &'static str,
}

/// The answer as a message.
#[derive(Debug, Serialize, ToSchema)]
struct CompletionMessage {
    /// `assistant`.
    role: &'static str,
    content: String,
    /// What the agent did and thought.
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    /// `null`.
    refusal: Option<String>,
}

/// The tokens of the model calls.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct CompletionUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokenDetails,
    completion_tokens_details: CompletionTokenDetails,
}

/// What the prompt tokens are.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct PromptTokenDetails {
    cached_tokens: u64,
}

/// What the completion tokens are.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct CompletionTokenDetails {
    reasoning_tokens: u64,
}

impl From<TokenUsage> for CompletionUsage {
    fn from(usage: TokenUsage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.total_tokens(),
            prompt_tokens_details: PromptTokenDetails { cached_tokens: usage.cached_tokens },
            completion_tokens_details: CompletionTokenDetails { reasoning_tokens: usage.reasoning_tokens },
        }
    }
}

/// The text of a whole completion.
#[derive(Debug, Default)]
pub(super) struct CompletionText {
    pub(super) content: String,
    pub(super) reasoning: String,
}

impl Extend<ChatDelta> for CompletionText {
    fn extend<T: IntoIterator<Item = ChatDelta>>(&mut self, deltas: T) {
        for delta in deltas {
            match delta {
                ChatDelta::Content(text) => self.content.push_str(&text),
                ChatDelta::Reasoning(text) => self.reasoning.push_str(&text),
            }
        }
    }
}

impl ChatCompletion {
    pub(super) fn new(id: String, text: CompletionText, finish: FinishReason, usage: TokenUsage) -> Self {
        let message = CompletionMessage {
            role: "assistant",
            content: text.content,
            reasoning_content: text.reasoning,
            refusal: None,
        };
        let choice = CompletionChoice { index: 0, message, logprobs: None, finish_reason: finish.as_str() };
        Self {
            id,
            object: "chat.completion",
            created: seconds_now(),
            model: MODEL,
            choices: vec![choice],
            usage: usage.into(),
        }
    }
}

#[derive(Serialize)]
struct CompletionChunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'static str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<CompletionUsage>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: ChunkDelta<'a>,
    logprobs: Option<&'a str>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct ChunkDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
}

/// Whether a stream ends with a chunk that has the usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UsageChunk {
    Included,
    Omitted,
}

/// Writes a run as chunks.
pub(super) struct ChunkEncoder {
    id: String,
    created: i64,
    usage: UsageChunk,
    text: ChatText,
    /// Said before the run says anything.
    preface: Vec<ChatDelta>,
}

impl ChunkEncoder {
    pub(super) fn new(id: String, usage: UsageChunk, preface: Vec<ChatDelta>) -> Self {
        Self { id, created: seconds_now(), usage, text: ChatText::default(), preface }
    }

    /// Writes a text that is the whole answer.
    pub(super) fn encode_whole(&mut self, text: &str) -> String {
        let mut out = String::new();
        self.encode_start(&mut out);
        if !text.is_empty() {
            self.write_delta(&ChatDelta::Content(text.to_owned()), &mut out);
        }
        self.write_end(FinishReason::Stop, &mut out);
        out
    }

    fn write_delta(&self, delta: &ChatDelta, out: &mut String) {
        let delta = match delta {
            ChatDelta::Content(text) => ChunkDelta { content: Some(text), ..ChunkDelta::default() },
            ChatDelta::Reasoning(text) => ChunkDelta { reasoning_content: Some(text), ..ChunkDelta::default() },
        };
        self.write_choice(delta, None, out);
    }

    fn write_choice(&self, delta: ChunkDelta<'_>, finish: Option<FinishReason>, out: &mut String) {
        let finish_reason = finish.map(FinishReason::as_str);
        let choices = [ChunkChoice { index: 0, delta, logprobs: None, finish_reason }];
        self.write_chunk(&choices, None, out);
    }

    fn write_chunk(&self, choices: &[ChunkChoice<'_>], usage: Option<CompletionUsage>, out: &mut String) {
        let object = "chat.completion.chunk";
        let chunk = CompletionChunk { id: &self.id, object, created: self.created, model: MODEL, choices, usage };
        write_data(&serde_json::to_string(&chunk).unwrap_or_default(), out);
    }

    fn write_end(&self, finish: FinishReason, out: &mut String) {
        self.write_choice(ChunkDelta::default(), Some(finish), out);
        if self.usage == UsageChunk::Included {
            self.write_chunk(&[], Some(self.text.usage.into()), out);
        }
        write_data("[DONE]", out);
    }
}

impl TurnEncoder for ChunkEncoder {
    fn encode_start(&mut self, out: &mut String) {
        let delta = ChunkDelta { role: Some("assistant"), content: Some(""), reasoning_content: None };
        self.write_choice(delta, None, out);
        for delta in std::mem::take(&mut self.preface) {
            self.write_delta(&delta, out);
        }
    }

    fn encode_frame(&mut self, frame: &StreamFrame, out: &mut String) {
        if let Some(delta) = self.text.add_frame(frame) {
            self.write_delta(&delta, out);
        }
    }

    fn encode_rest(&mut self, rest: &RunRest, out: &mut String) {
        match self.text.end(rest) {
            Ok((last, finish)) => {
                if let Some(delta) = last {
                    self.write_delta(&delta, out);
                }
                self.write_end(finish, out);
            }
            // The status is sent already. Clients raise an error that they find in the stream.
            Err(error) => {
                write_data(&error.to_json(), out);
                write_data("[DONE]", out);
            }
        }
    }
}

fn write_data(data: &str, out: &mut String) {
    out.push_str("data: ");
    out.push_str(data);
    out.push_str("\n\n");
}

fn seconds_now() -> i64 {
    Timestamp::now().as_millis() / 1000
}
