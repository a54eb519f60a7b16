//! From the events of a provider to the pieces of one reply.

use std::{collections::VecDeque, time::Duration};

use futures_util::{StreamExt as _, stream};
use k8sops_core::{LazyDeadline, TokenUsage};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    ModelError, ModelReply, ReplyDelta, ReplyStream,
    error_mapping::{ProviderCall, find_error_object},
    event_framing::{DONE_MARK, ProviderEvent},
    event_stream::ProviderEventStream,
    requested_calls::resolve_tool_name,
};

/// The number of read timeouts that may pass without content. A server may keep the connection alive while its model
/// reasons, but not without limit.
const STALL_FACTOR: u32 = 5;
/// How long to wait for the end mark and the usage of a reply whose stop reason has arrived.
const END_MARK_TIMEOUT: Duration = Duration::from_secs(2);

/// The meaning of an event for the progress of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventProgress {
    /// The event only shows that the server is alive.
    KeepAlive,
    /// The event is part of the reply, whether or not it is shown.
    Content,
    /// The event ends the reply.
    End,
}

/// Assembles the events of a provider into a reply. Implementations neither do I/O nor read the clock.
pub(crate) trait ReplyAssembler: Send + 'static {
    /// Applies an event whose data is a JSON object, and appends the pieces that can be shown at once to `out`.
    fn apply_event(
        &mut self,
        event: &ProviderEvent,
        out: &mut VecDeque<ReplyDelta>,
    ) -> Result<EventProgress, ModelError>;

    /// Applies the end mark `[DONE]`, and appends what was held back to `out`.
    fn apply_end_mark(&mut self, _out: &mut VecDeque<ReplyDelta>) {}

    /// Returns the tokens that the provider has reported so far.
    fn reported_usage(&self) -> TokenUsage;

    /// Returns whether the reason of the reply's end has arrived, so that only its usage and its end mark may follow.
    fn has_stop_reason(&self) -> bool;

    /// Returns the complete reply, after the end mark or the end of the stream.
    fn finish_reply(&mut self) -> Result<ModelReply, ModelError>;
}

/// Parses the data of an event.
pub(crate) fn parse_event<T: DeserializeOwned>(event: &ProviderEvent, call: &ProviderCall) -> Result<T, ModelError> {
    serde_json::from_str(&event.data).map_err(|error| call.unparsable_error("an event", error, &event.data))
}

/// A reply that is being assembled.
struct ReplyAssembly<A> {
    events: ProviderEventStream,
    assembler: A,
    /// The names of the tools that the request offers.
    tools: Vec<String>,
    out: VecDeque<ReplyDelta>,
    content_deadline: LazyDeadline,
    /// When the stop reason arrived, or the last content after it.
    complete_since: Option<Instant>,
    /// Whether an event was part of a reply.
    has_content: bool,
    is_done: bool,
}

/// Returns the pieces of the reply that `assembler` makes of `events`, to a request that offers `tools`. The stream ends
/// after [`ReplyDelta::Done`] or the first error.
#[cfg(any(test, fuzzing))]
pub(crate) fn reply_stream(
    events: ProviderEventStream,
    assembler: impl ReplyAssembler,
    tools: Vec<String>,
) -> ReplyStream {
    ReplyAssembly::new(events, assembler, tools).into_stream()
}

/// Returns the pieces of a reply once the first one has arrived. An error in its place is returned like the rejection of the
/// request, which it is: some servers accept every request, and reject it in the first event.
pub(crate) async fn start_reply_stream(
    events: ProviderEventStream,
    assembler: impl ReplyAssembler,
    tools: Vec<String>,
) -> Result<ReplyStream, ModelError> {
    let mut assembly = ReplyAssembly::new(events, assembler, tools);
    if let Some(first) = assembly.next_delta().await? {
        // One event can have several pieces.
        assembly.out.push_front(first);
    }
    Ok(assembly.into_stream())
}

impl<A: ReplyAssembler> ReplyAssembly<A> {
    // Boxed, because the state is moved with every piece.
    fn new(events: ProviderEventStream, assembler: A, tools: Vec<String>) -> Box<Self> {
        Box::new(Self {
            events,
            assembler,
            tools,
            out: VecDeque::new(),
            content_deadline: LazyDeadline::new(),
            complete_since: None,
            has_content: false,
            is_done: false,
        })
    }

    fn into_stream(self: Box<Self>) -> ReplyStream {
        let pieces = stream::unfold(Some(self), |assembly| async {
            let mut assembly = assembly?;
            match assembly.next_delta().await {
                Ok(Some(delta)) => Some((Ok(delta), Some(assembly))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        pieces.boxed()
    }

    async fn next_delta(&mut self) -> Result<Option<ReplyDelta>, ModelError> {
        self.assemble_delta().await.map_err(|error| error.with_usage(self.assembler.reported_usage()))
    }

    async fn assemble_delta(&mut self) -> Result<Option<ReplyDelta>, ModelError> {
        // The time limit starts here rather than at the last piece, so that a slow consumer is not blamed on the
        // server.
        let mut last_content = Instant::now();
        loop {
            if let Some(delta) = self.out.pop_front() {
                return Ok(Some(delta));
            }
            if self.is_done {
                return Ok(None);
            }
            match self.apply_next_event(last_content).await {
                Ok(EventProgress::KeepAlive) => {}
                Ok(EventProgress::Content) => last_content = Instant::now(),
                Ok(EventProgress::End) => {
                    let reply = self.finish_reply()?;
                    self.events.drain().await;
                    self.out.push_back(ReplyDelta::Done(Box::new(reply)));
                }
                // What is wrong after the stop reason costs at most the usage.
                Err(error) if self.complete_since.is_some() => match self.finish_reply() {
                    Ok(reply) => self.out.push_back(ReplyDelta::Done(Box::new(reply))),
                    Err(_) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }

    async fn apply_next_event(&mut self, last_content: Instant) -> Result<EventProgress, ModelError> {
        let limit = self.events.read_timeout().saturating_mul(STALL_FACTOR);
        let deadline = match self.complete_since {
            Some(complete_since) => complete_since + END_MARK_TIMEOUT,
            None => last_content + limit,
        };
        let event = match self.content_deadline.wait_until(deadline, self.events.next()).await {
            Some(event) => event?,
            None if self.complete_since.is_some() => return Ok(EventProgress::End),
            None => return Err(self.events.call().stall_error(limit)),
        };
        let Some(event) = event else { return Ok(EventProgress::End) };
        let progress = self.apply_event(&event)?;
        self.has_content |= progress == EventProgress::Content;
        if self.assembler.has_stop_reason() && (progress == EventProgress::Content || self.complete_since.is_none()) {
            self.complete_since = Some(Instant::now());
        }
        Ok(progress)
    }

    fn apply_event(&mut self, event: &ProviderEvent) -> Result<EventProgress, ModelError> {
        if event.data == DONE_MARK {
            self.assembler.apply_end_mark(&mut self.out);
            return Ok(EventProgress::End);
        }
        let call = self.events.call();
        if event.data.starts_with('{') {
            let progress = self.assembler.apply_event(event, &mut self.out)?;
            if progress == EventProgress::KeepAlive
                && let Some(error) = find_stray_error(event)
            {
                return Err(call.stream_error(&error, &event.data));
            }
            return Ok(progress);
        }
        // Text (`ping`) keeps a connection alive, unless its name or its form says that it is an error.
        let listed = serde_json::from_str(&event.data).ok();
        let error = listed.as_ref().and_then(find_error_object).cloned();
        let error = error.or_else(|| (event.name == "error").then(|| Value::String(event.data.clone())));
        match error {
            Some(error) => Err(call.stream_error(&error, &event.data)),
            None => Ok(EventProgress::KeepAlive),
        }
    }

    fn finish_reply(&mut self) -> Result<ModelReply, ModelError> {
        self.is_done = true;
        let mut reply = self.assembler.finish_reply().map_err(|error| {
            if self.has_content || self.events.is_declared_stream() {
                error
            } else {
                self.events.call().no_stream_error()
            }
        })?;
        for call in &mut reply.tool_calls {
            call.name = resolve_tool_name(&call.name, &self.tools);
        }
        Ok(reply)
    }
}

/// Finds an error in an event that the protocol does not know.
fn find_stray_error(event: &ProviderEvent) -> Option<Value> {
    let value: Value = serde_json::from_str(&event.data).ok()?;
    // MiniMax reports errors in a status of its own.
    if value.pointer("/base_resp/status_code").and_then(Value::as_i64).is_some_and(|code| code != 0) {
        return value.pointer("/base_resp/status_msg").cloned();
    }
    let is_error = event.name == "error"
        || value.get("error").is_some_and(|error| !error.is_null())
        || value.get("type").is_none()
            && ["message", "detail"]
                .iter()
                .any(|name| value.get(name).is_some_and(|text| text.is_string() || text.is_array()));
    if is_error { Some(find_error_object(&value).unwrap_or(&value).clone()) } else { None }
}
