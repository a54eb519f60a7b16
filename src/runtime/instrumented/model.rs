//! Model calls: measured, counted and traced.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use serde_json::json;
use tracing::{Instrument as _, Span};

use k8sops_models::{ChatModel, ChatRequest, ModelError, ModelReply, RecognizedDialect, ReplyDelta, ReplyStream};
use k8sops_telemetry::{Metrics, spans, spans::SpanContext};

/// Wraps a model, so that its calls are measured, counted and traced.
pub(in crate::runtime) fn instrument_model(
    inner: Arc<dyn ChatModel>,
    metrics: &Arc<Metrics>,
    at: SpanContext,
) -> Arc<dyn ChatModel> {
    Arc::new(InstrumentedModel { inner, metrics: metrics.clone(), at })
}

struct InstrumentedModel {
    inner: Arc<dyn ChatModel>,
    metrics: Arc<Metrics>,
    at: SpanContext,
}

#[async_trait]
impl ChatModel for InstrumentedModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let mut call = MeasuredCall::start(self, &request);
        // Only the request is sent within the span: there is no span per token.
        match self.inner.stream(request).instrument(call.span.clone()).await {
            Ok(stream) => Ok(stream
                .map(move |piece| {
                    call.observe_delta(&piece);
                    piece
                })
                .boxed()),
            Err(error) => {
                call.record_error(&error);
                Err(error)
            }
        }
    }

    async fn context_window(&self, model: &str) -> Option<u32> {
        self.inner.context_window(model).await
    }

    fn uses_tokens(&self) -> bool {
        self.inner.uses_tokens()
    }

    fn recognized_dialect(&self) -> Option<RecognizedDialect> {
        self.inner.recognized_dialect()
    }

    async fn check(&self, model: &str) -> Result<(), ModelError> {
        self.inner.check(model).await
    }
}

/// A call in progress. Dropping it records a cancelled call.
struct MeasuredCall {
    span: Span,
    metrics: Arc<Metrics>,
    provider: String,
    model: String,
    started_at: Instant,
    has_first_token: bool,
    ended: bool,
}

impl MeasuredCall {
    fn start(instrumented: &InstrumentedModel, request: &ChatRequest) -> Self {
        let span = spans::model_call_span(&instrumented.at, &request.provider, &request.model);
        spans::record_content(&span, "gen_ai.system_instructions", || {
            json!([{"type": "text", "content": &*request.system}]).to_string()
        });
        spans::record_content(&span, "gen_ai.input.messages", || {
            json!(request.messages.iter().map(|message| json!(message.as_ref())).collect::<Vec<_>>()).to_string()
        });
        Self {
            span,
            metrics: instrumented.metrics.clone(),
            provider: request.provider.clone(),
            model: request.model.clone(),
            started_at: Instant::now(),
            has_first_token: false,
            ended: false,
        }
    }

    fn observe_delta(&mut self, piece: &Result<ReplyDelta, ModelError>) {
        if !self.has_first_token {
            self.has_first_token = true;
            self.metrics.record_first_token(&self.provider, &self.model, self.started_at.elapsed());
        }
        match piece {
            Ok(ReplyDelta::Text(_) | ReplyDelta::Reasoning(_)) => {}
            Ok(ReplyDelta::Done(reply)) => self.record_reply(reply),
            Err(error) => self.record_error(error),
        }
    }

    fn record_reply(&mut self, reply: &ModelReply) {
        spans::record_usage(&self.span, &reply.usage);
        let reason = json!(reply.stop_reason);
        spans::record_finish_reason(&self.span, reason.as_str().unwrap_or_default());
        spans::record_content(&self.span, "gen_ai.output.messages", || {
            let calls =
                reply.tool_calls.iter().map(|c| json!({"type": "tool_call", "name": c.name, "arguments": c.arguments}));
            let parts = std::iter::once(json!({"type": "text", "content": reply.content})).chain(calls);
            json!([{"role": "assistant", "parts": parts.collect::<Vec<_>>()}]).to_string()
        });
        self.finish("ok");
    }

    fn record_error(&mut self, error: &ModelError) {
        spans::record_failure(&self.span, error.code());
        let request_id = error.details.request_id.as_deref();
        if let Some(request_id) = request_id {
            spans::record_provider_request_id(&self.span, request_id);
        }
        // The stream is read outside of the run's span.
        tracing::warn!(
            parent: &self.span,
            provider = self.provider,
            model = self.model,
            code = error.code(),
            status = error.details.status,
            provider_code = error.details.code,
            provider_request_id = request_id,
            %error,
            "model call failed"
        );
        self.finish(error.code());
    }

    fn finish(&mut self, outcome: &str) {
        self.ended = true;
        self.metrics.record_model_call(&self.provider, &self.model, outcome, self.started_at.elapsed());
        // The stream may be held longer than it yields.
        self.span = Span::none();
    }
}

impl Drop for MeasuredCall {
    fn drop(&mut self) {
        if !self.ended {
            spans::record_failure(&self.span, "cancelled");
            self.finish("cancelled");
        }
    }
}
