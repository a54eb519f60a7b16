//! Replies and errors in the format of each API.

use serde_json::json;

use super::{
    api::{GOOD_REPLY, ProviderApi},
    reply_chunks::{chat_reasoning, reasoning_events},
    response::ScriptedResponse,
};

impl ProviderApi {
    /// Returns a whole reply of text, in two pieces and an end.
    pub fn text(self, text: &str) -> ScriptedResponse {
        let (first, second) = text.split_at(text.floor_char_boundary(text.len() / 2));
        ScriptedResponse::stream(self, self.reply_chunks(&[first, second], &[]))
    }

    /// Returns a whole reply that calls a tool. The arguments need not be valid JSON.
    pub fn call(self, tool: &str, arguments: &str) -> ScriptedResponse {
        ScriptedResponse::stream(self, self.reply_chunks(&[], &[(tool, arguments)]))
    }

    /// Returns a whole reply with reasoning, text and a tool call, and with the signature that the provider wants back.
    pub fn reasoning_call(self, reasoning: &str, text: &str, tool: &str, arguments: &str) -> ScriptedResponse {
        let mut chunks = self.reply_chunks(&[text], &[(tool, arguments)]);
        let events = reasoning_events(self, reasoning);
        chunks.insert(0, events.iter().flat_map(|event| self.frame(event)).collect());
        ScriptedResponse::stream(self, chunks)
    }

    /// Returns a whole reply of [`Self::Chat`] that streams a piece of reasoning `times` times before its text.
    pub fn long_reasoning(piece: &str, times: usize, text: &str) -> ScriptedResponse {
        let mut response = Self::Chat.text(text);
        response.chunks.insert(0, Self::Chat.frame(&chat_reasoning(piece)).repeat(times));
        response
    }

    /// Returns a whole reply without content.
    pub fn empty(self) -> ScriptedResponse {
        ScriptedResponse::stream(self, self.reply_chunks(&[], &[]))
    }

    /// Returns a reply that ends after `chunks` pieces.
    pub fn truncated(self, chunks: usize) -> ScriptedResponse {
        let mut response = self.text("This half is lost for good.");
        response.chunks.truncate(chunks);
        response
    }

    /// Returns the start of a reply, followed by these bytes.
    pub fn then_bytes(self, bytes: &[u8]) -> ScriptedResponse {
        let mut response = self.truncated(1);
        response.chunks.push(bytes.to_vec());
        response
    }

    /// Returns a good reply that contains an unknown event.
    pub fn with_unknown_event(self) -> ScriptedResponse {
        let mut response = self.text(GOOD_REPLY);
        let event = json!({"type": "brand_new", "object": "brand.new", "index": "seven", "model": "m", "done": false});
        response.chunks.insert(1, self.frame(&event));
        response
    }

    /// Returns the start of a reply, followed by an error event.
    pub fn error_in_stream(self) -> ScriptedResponse {
        let error = json!({"type": "overloaded_error", "code": "server_error", "message": "Overloaded"});
        let event = match self {
            Self::Anthropic => json!({"type": "error", "error": error}),
            Self::Chat => json!({"error": error}),
            Self::Responses => json!({"type": "error", "code": "server_error", "message": "Overloaded"}),
            Self::Ollama => json!({"error": "an error was encountered while running the model: overloaded"}),
        };
        self.then_bytes(&self.frame(&event))
    }

    /// Returns an error with status 200 in place of a stream.
    pub fn error_with_ok_status(self) -> ScriptedResponse {
        let mut response = self.error_response(200, "overloaded_error", "Overloaded");
        response.content_type = if self == Self::Ollama { "application/x-ndjson" } else { "application/json" };
        response
    }

    /// Returns an error response with the body of this provider.
    pub fn error_response(self, status: u16, kind: &str, message: &str) -> ScriptedResponse {
        let body = match self {
            Self::Anthropic => json!({"type": "error", "error": {"type": kind, "message": message}}),
            Self::Chat | Self::Responses => {
                json!({"error": {"type": kind, "code": kind, "message": message, "param": null}})
            }
            Self::Ollama => json!({"error": message}),
        };
        ScriptedResponse::plain(status, "application/json", body.to_string().into_bytes())
    }
}
