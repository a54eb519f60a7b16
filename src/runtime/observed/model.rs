//! A model whose calls are timed, counted and traced.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use serde_json::json;
use tracing::{Instrument as _, Span};

use k8sops_models::{ChatModel, ChatRequest, ModelError, ModelReply, ReplyDelta, ReplyStream};
use k8sops_telemetry::{Metrics, spans, spans::SpanContext};

/// `inner`, as it is asked for a session.
pub(in crate::runtime) fn watched(
    inner: Arc<dyn ChatModel>,
    metrics: &Arc<Metrics>,
    at: SpanContext,
) -> Arc<dyn ChatModel> {
    Arc::new(Watched { inner, metrics: metrics.clone(), at })
}

struct Watched {
    inner: Arc<dyn ChatModel>,
    metrics: Arc<Metrics>,
    at: SpanContext,
}

#[async_trait]
impl ChatModel for Watched {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let mut call = Call::begin(self, &request);
        // The request goes out within the span; the pieces come without it, as there may be very many.
        match self.inner.stream(request).instrument(call.span.clone()).await {
            Ok(stream) => Ok(stream
                .map(move |piece| {
                    call.see(&piece);
                    piece
                })
                .boxed()),
            Err(error) => {
                call.failed(&error);
                Err(error)
            }
        }
    }

    async fn context_window(&self, model: &str) -> Option<u32> {
        self.inner.context_window(model).await
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        self.inner.check(model).await
    }
}

/// A call in progress. Dropped before its end it was given up.
struct Call {
    span: Span,
    metrics: Arc<Metrics>,
    provider: String,
    model: String,
    began: Instant,
    has_begun: bool,
    ended: bool,
}

impl Call {
    fn begin(watched: &Watched, request: &ChatRequest) -> Self {
        let span = spans::model_call_span(&watched.at, &request.provider, &request.model);
        spans::record_content(&span, "gen_ai.system_instructions", || {
            json!([{"type": "text", "content": &*request.system}]).to_string()
        });
        spans::record_content(&span, "gen_ai.input.messages", || {
            json!(request.messages.iter().map(|message| json!(message.as_ref())).collect::<Vec<_>>()).to_string()
        });
        Self {
            span,
            metrics: watched.metrics.clone(),
            provider: request.provider.clone(),
            model: request.model.clone(),
            began: Instant::now(),
            has_begun: false,
            ended: false,
        }
    }

    fn see(&mut self, piece: &Result<ReplyDelta, ModelError>) {
        if !self.has_begun {
            self.has_begun = true;
            self.metrics.record_first_token(&self.provider, &self.model, self.began.elapsed());
        }
        match piece {
            Ok(ReplyDelta::Text(_) | ReplyDelta::Reasoning(_)) => {}
            Ok(ReplyDelta::Done(reply)) => self.done(reply),
            Err(error) => self.failed(error),
        }
    }

    fn done(&mut self, reply: &ModelReply) {
        spans::record_usage(&self.span, &reply.usage);
        let reason = json!(reply.stop_reason);
        spans::record_finish_reason(&self.span, reason.as_str().unwrap_or_default());
        spans::record_content(&self.span, "gen_ai.output.messages", || {
            let calls =
                reply.tool_calls.iter().map(|c| json!({"type": "tool_call", "name": c.name, "arguments": c.arguments}));
            let parts = std::iter::once(json!({"type": "text", "content": reply.content})).chain(calls);
            json!([{"role": "assistant", "parts": parts.collect::<Vec<_>>()}]).to_string()
        });
        self.end("ok");
    }

    fn failed(&mut self, error: &ModelError) {
        spans::record_failure(&self.span, error.code());
        self.end(error.code());
    }

    fn end(&mut self, outcome: &str) {
        self.ended = true;
        self.metrics.record_model_call(&self.provider, &self.model, outcome, self.began.elapsed());
        // The stream may be held for longer than it has something to say.
        self.span = Span::none();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            spans::record_failure(&self.span, "cancelled");
            self.end("cancelled");
        }
    }
}
