//! What requests need of the messages of a session, computed once for each message and kept with the session: a conversation of
//! hundreds of messages has one or two new ones in the next request.

use std::{cell::OnceCell, collections::HashMap, sync::Arc};

use k8sops_core::{ChatMessage, UserMessage};
use k8sops_models::{ToolSpec, tokens};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    history::stub_message,
    user_text::{describe_attachments, describe_circumstances, render_user_message},
};

/// Estimated tokens of a message besides its text: role, ids, the fence around a result.
const MESSAGE_OVERHEAD_TOKENS: usize = 8;

/// The messages of one session as requests need them. It holds nothing that cannot be computed again from the messages.
#[derive(Debug, Default)]
pub struct PreparedMessages {
    // A synchronous mutex: one run at a time uses it. Held while messages are counted, never across an await.
    parts: Mutex<PreparedParts>,
}

impl PreparedMessages {
    /// Returns the parts, for requests that tell times in this time zone.
    pub(crate) fn lock(&self, time_zone: Option<&str>) -> MutexGuard<'_, PreparedParts> {
        let mut parts = self.parts.lock();
        if parts.time_zone.as_deref() != time_zone {
            *parts = PreparedParts { time_zone: time_zone.map(str::to_owned), ..PreparedParts::default() };
        }
        parts
    }
}

#[derive(Debug, Default)]
pub(crate) struct PreparedParts {
    time_zone: Option<String>,
    /// By the address of the message, which [`PreparedMessage::source`] keeps from becoming that of another one.
    messages: HashMap<usize, PreparedMessage>,
    fixed: Option<FixedParts>,
    /// The number of requests that were built.
    requests: u64,
    /// How many texts were tokenized.
    #[cfg(test)]
    pub(crate) tokenized: usize,
}

#[derive(Debug)]
struct PreparedMessage {
    source: Arc<ChatMessage>,
    /// The value of [`PreparedParts::requests`] when it was used last.
    used_in: u64,
    /// The messages that stand for it in a request.
    rendered: Vec<Arc<ChatMessage>>,
    max_tokens: usize,
    tokens: Option<usize>,
    /// The message without its output; `None` if that saves nothing.
    stub: OnceCell<Option<Arc<ChatMessage>>>,
}

/// What requests have besides messages.
#[derive(Debug)]
struct FixedParts {
    system: Arc<str>,
    tools: Arc<[ToolSpec]>,
    max_tokens: usize,
    tokens: Option<usize>,
}

impl PreparedParts {
    /// Starts another request, and forgets what the one before it did not use.
    pub(crate) fn start_request(&mut self) {
        let last = self.requests;
        self.messages.retain(|_, known| known.used_in == last);
        self.requests += 1;
    }

    /// Returns the messages of which nothing is known yet.
    pub(crate) fn find_unknown(&self, messages: &[Arc<ChatMessage>]) -> Vec<Arc<ChatMessage>> {
        let is_unknown = |message: &&Arc<ChatMessage>| !self.messages.contains_key(&Arc::as_ptr(message).addr());
        messages.iter().filter(is_unknown).cloned().collect()
    }

    /// Returns the messages that stand for a message in a request.
    pub(crate) fn render(&mut self, message: &Arc<ChatMessage>) -> &[Arc<ChatMessage>] {
        &self.prepare(message).rendered
    }

    /// Returns a message with its output or its attachments replaced by stubs; `None` if that saves nothing.
    pub(crate) fn stub(&mut self, message: &Arc<ChatMessage>) -> Option<Arc<ChatMessage>> {
        self.prepare(message).stub.get_or_init(|| stub_message(message)).clone()
    }

    /// Returns an upper bound of [`Self::count_tokens`], without tokenizing anything.
    pub(crate) fn max_tokens(&mut self, message: &Arc<ChatMessage>) -> usize {
        self.prepare(message).max_tokens
    }

    /// Estimates the tokens of a message.
    pub(crate) fn count_tokens(&mut self, message: &Arc<ChatMessage>) -> usize {
        let prepared = self.prepare(message);
        if let Some(tokens) = prepared.tokens {
            return tokens;
        }
        let tokens = measure_messages(&prepared.rendered, tokens::count);
        prepared.tokens = Some(tokens);
        #[cfg(test)]
        {
            self.tokenized += 1;
        }
        tokens
    }

    /// Returns an upper bound of [`Self::count_fixed_tokens`], without tokenizing anything.
    pub(crate) fn max_fixed_tokens(&mut self, system: &Arc<str>, tools: &Arc<[ToolSpec]>) -> usize {
        self.prepare_fixed(system, tools).max_tokens
    }

    /// Estimates the tokens of the system prompt and the tools.
    pub(crate) fn count_fixed_tokens(&mut self, system: &Arc<str>, tools: &Arc<[ToolSpec]>) -> usize {
        let fixed = self.prepare_fixed(system, tools);
        *fixed.tokens.get_or_insert_with(|| measure_fixed(system, tools, tokens::count))
    }

    /// Returns about how many bytes have to be tokenized for a count of these parts.
    pub(crate) fn uncounted_bytes(
        &mut self,
        fixed: Option<&(Arc<str>, Arc<[ToolSpec]>)>,
        messages: &[Arc<ChatMessage>],
    ) -> usize {
        let fixed = fixed.map_or(0, |(system, tools)| {
            let fixed = self.prepare_fixed(system, tools);
            if fixed.tokens.is_some() { 0 } else { fixed.max_tokens }
        });
        let uncounted = messages.iter().map(|message| {
            let prepared = self.prepare(message);
            if prepared.tokens.is_some() { 0 } else { prepared.max_tokens }
        });
        fixed + uncounted.sum::<usize>()
    }

    fn prepare(&mut self, message: &Arc<ChatMessage>) -> &mut PreparedMessage {
        let Self { time_zone, messages, requests, .. } = self;
        let prepared = messages.entry(Arc::as_ptr(message).addr()).or_insert_with(|| {
            let rendered = render_message(message, time_zone.as_deref());
            let max_tokens = measure_messages(&rendered, str::len);
            PreparedMessage {
                source: message.clone(),
                used_in: 0,
                rendered,
                max_tokens,
                tokens: None,
                stub: OnceCell::new(),
            }
        });
        debug_assert!(Arc::ptr_eq(&prepared.source, message));
        prepared.used_in = *requests;
        prepared
    }

    fn prepare_fixed(&mut self, system: &Arc<str>, tools: &Arc<[ToolSpec]>) -> &mut FixedParts {
        let is_same = |fixed: &FixedParts| {
            *fixed.system == **system && (Arc::ptr_eq(&fixed.tools, tools) || fixed.tools == *tools)
        };
        let known = self.fixed.take().filter(is_same);
        self.fixed.insert(known.unwrap_or_else(|| FixedParts {
            system: system.clone(),
            tools: tools.clone(),
            max_tokens: measure_fixed(system, tools, str::len),
            tokens: None,
        }))
    }
}

/// Returns the messages that stand for a message in a request: what the model reads in front of a user's words are messages of
/// their own.
fn render_message(message: &Arc<ChatMessage>, time_zone: Option<&str>) -> Vec<Arc<ChatMessage>> {
    let ChatMessage::User(user) = message.as_ref() else { return vec![message.clone()] };
    let in_front = [describe_circumstances(user, time_zone), describe_attachments(&user.attachments)];
    let is_plain = user.recalled.is_empty() && user.attachments.is_empty();
    let words = (!is_plain).then(|| render_user_message(user));
    let with_content = |content| {
        Arc::new(ChatMessage::User(UserMessage {
            message_id: user.message_id,
            seq: user.seq,
            ts: user.ts,
            ..UserMessage::unlogged(content)
        }))
    };
    let words = words.map_or_else(|| message.clone(), with_content);
    in_front.into_iter().flatten().map(with_content).chain([words]).collect()
}

/// Estimates the tokens of messages as they are sent, with `measure` for their texts: a tokenizer, or the length, which is an upper
/// bound because a token has at least one byte.
pub(crate) fn measure_messages(messages: &[Arc<ChatMessage>], measure: fn(&str) -> usize) -> usize {
    let texts = messages.iter().map(|message| match message.as_ref() {
        ChatMessage::User(m) => measure(&m.content),
        ChatMessage::Assistant(m) => {
            let calls = m.tool_calls.iter();
            let calls = calls.map(|c| measure(&c.name) + measure(&c.arguments.to_string()) + MESSAGE_OVERHEAD_TOKENS);
            measure(&m.content) + calls.sum::<usize>()
        }
        ChatMessage::Tool(m) => measure(&m.content) + 2 * MESSAGE_OVERHEAD_TOKENS,
    });
    texts.sum::<usize>() + messages.len() * MESSAGE_OVERHEAD_TOKENS
}

fn measure_fixed(system: &str, tools: &[ToolSpec], measure: fn(&str) -> usize) -> usize {
    let tools = tools.iter().map(|tool| {
        let schema = serde_json::to_string(&tool.input_schema).unwrap_or_default();
        measure(&tool.name) + measure(&tool.description) + measure(&schema) + MESSAGE_OVERHEAD_TOKENS
    });
    measure(system) + tools.sum::<usize>()
}
