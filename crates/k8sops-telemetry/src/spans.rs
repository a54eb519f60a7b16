//! Spans: one trace per turn, from the request over the run to each model call, tool call and commit.
//!
//! Spans are `tracing` spans of one target. Their fields are the ids that log lines carry; what only a trace has is set as an
//! attribute of OpenTelemetry, which costs nothing while nothing is exported and never gets into a log line.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use k8sops_core::{RequestContext, RunId, SessionId, TokenUsage};
use opentelemetry::trace::Status;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::trace_context::set_remote_parent;

/// The target of all spans that are exported.
pub(crate) const SPAN_TARGET: &str = "k8sops::turn";

/// Whether prompts, arguments and outputs are recorded. One flag per process, as there is one subscriber per process.
static CAPTURE_CONTENT: AtomicBool = AtomicBool::new(false);

/// Sets whether prompts, arguments and outputs are recorded on spans.
pub(crate) fn set_content_capture(enabled: bool) {
    CAPTURE_CONTENT.store(enabled, Ordering::Relaxed);
}

/// The methods that are named in spans. OpenTelemetry's conventions ask for a closed list.
const KNOWN_METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

fn set_text(span: &Span, key: &'static str, value: impl Into<String>) {
    span.set_attribute(key, value.into());
}

fn set_number(span: &Span, key: &'static str, value: u64) {
    span.set_attribute(key, i64::try_from(value).unwrap_or(i64::MAX));
}

/// Records that the operation of a span failed. `error_type` is a stable word.
pub fn record_failure(span: &Span, error_type: &str) {
    set_text(span, "error.type", error_type);
    span.set_status(Status::error(error_type.to_owned()));
}

/// Records the model provider's id of a request, by which its support finds the request.
pub fn record_provider_request_id(span: &Span, request_id: &str) {
    set_text(span, "k8sops.provider.request_id", request_id);
}

/// Records a prompt, arguments or an output, if the operator asked for content in traces.
pub fn record_content(span: &Span, key: &'static str, value: impl FnOnce() -> String) {
    if CAPTURE_CONTENT.load(Ordering::Relaxed) && !span.is_disabled() {
        set_text(span, key, value());
    }
}

/// Opens the span of an HTTP request. `route` is the pattern, not the path; the client's trace context is the parent.
#[must_use]
pub fn request_span(
    request_id: &str,
    method: &str,
    route: &str,
    traceparent: Option<&str>,
    tracestate: Option<&str>,
) -> Span {
    let method = if KNOWN_METHODS.contains(&method) { method } else { "_OTHER" };
    let span = tracing::error_span!(
        target: SPAN_TARGET, parent: None, "request", otel.name = format!("{method} {route}"), otel.kind = "server",
        request_id
    );
    set_remote_parent(&span, traceparent, tracestate);
    set_text(&span, "http.request.method", method);
    set_text(&span, "http.route", route);
    span
}

/// Records the status of an HTTP answer.
pub fn record_http_status(span: &Span, status: u16) {
    set_number(span, "http.response.status_code", status.into());
    if status >= 500 {
        record_failure(span, &status.to_string());
    }
}

/// Opens the span of a WebSocket command, in the trace of the request that opened the socket.
#[must_use]
pub fn command_span(request: &RequestContext, session: SessionId) -> Span {
    let request_id = request.request_id.as_deref().unwrap_or_default();
    let span = tracing::error_span!(
        target: SPAN_TARGET, parent: None, "command", otel.name = "WebSocket command", otel.kind = "server",
        request_id, session_id = %session
    );
    set_remote_parent(&span, request.traceparent.as_deref(), request.tracestate.as_deref());
    span
}

/// Opens the span of a run, in the trace of the request that caused it. Another replica that resumes the run continues that
/// trace.
#[must_use]
pub fn run_span(
    request: &RequestContext,
    session: SessionId,
    run: RunId,
    provider: &str,
    model: &str,
    attempt: u32,
) -> Span {
    let request_id = request.request_id.as_deref().unwrap_or_default();
    let span = tracing::error_span!(
        target: SPAN_TARGET, parent: None, "run", otel.name = "invoke_agent k8sops", otel.kind = "internal",
        session_id = %session, run_id = %run, request_id
    );
    set_remote_parent(&span, request.traceparent.as_deref(), request.tracestate.as_deref());
    set_text(&span, "gen_ai.operation.name", "invoke_agent");
    set_text(&span, "gen_ai.agent.name", "k8sops");
    set_text(&span, "gen_ai.conversation.id", session.to_string());
    set_text(&span, "gen_ai.provider.name", provider);
    set_text(&span, "gen_ai.request.model", model);
    set_number(&span, "k8sops.run.attempt", attempt.into());
    span
}

/// Records the token usage of model calls.
pub fn record_usage(span: &Span, usage: &TokenUsage) {
    set_number(span, "gen_ai.usage.input_tokens", usage.input_tokens);
    set_number(span, "gen_ai.usage.output_tokens", usage.output_tokens);
    set_number(span, "gen_ai.usage.cache_read.input_tokens", usage.cached_tokens);
}

/// Records how a run ended.
pub fn record_run_outcome(span: &Span, outcome: &str) {
    set_text(span, "k8sops.run.outcome", outcome);
}

/// Opens the span of a memory extraction. It belongs to no request and is a trace of its own.
#[must_use]
pub fn memory_extraction_span(session: SessionId, provider: &str, model: &str) -> Span {
    let span = tracing::error_span!(
        target: SPAN_TARGET, parent: None, "learning", otel.name = "learn memories", otel.kind = "internal",
        session_id = %session
    );
    set_text(&span, "gen_ai.conversation.id", session.to_string());
    set_text(&span, "gen_ai.provider.name", provider);
    set_text(&span, "gen_ai.request.model", model);
    span
}

/// The ids that the spans of model calls and tool calls share.
#[derive(Debug, Clone)]
pub struct SpanContext {
    /// The session of the call.
    pub session: SessionId,
    /// The run of the call; `None` outside runs.
    pub run: Option<RunId>,
    /// The request that caused the run; empty if unknown.
    pub request: Arc<str>,
}

/// Opens the span of a model call, as a child of the current span.
#[must_use]
pub fn model_call_span(context: &SpanContext, provider: &str, model: &str) -> Span {
    let span = tracing::error_span!(
        target: SPAN_TARGET, "chat", otel.name = format!("chat {model}"), otel.kind = "client",
        session_id = %context.session, run_id = context.run.map(display), request_id = &*context.request
    );
    set_text(&span, "gen_ai.operation.name", "chat");
    set_text(&span, "gen_ai.provider.name", provider);
    set_text(&span, "gen_ai.request.model", model);
    set_text(&span, "gen_ai.conversation.id", context.session.to_string());
    span
}

/// Records why a reply ended.
pub fn record_finish_reason(span: &Span, reason: &str) {
    let reasons = opentelemetry::Array::String(vec![reason.to_owned().into()]);
    span.set_attribute("gen_ai.response.finish_reasons", opentelemetry::Value::Array(reasons));
}

/// Opens the span of a tool call, as a child of the current span.
#[must_use]
pub fn tool_call_span(context: &SpanContext, call: &str, server: &str, tool: &str, effect: &str) -> Span {
    let span = tracing::error_span!(
        target: SPAN_TARGET, "tool", otel.name = format!("execute_tool {tool}"), otel.kind = "client",
        session_id = %context.session, run_id = context.run.map(display), request_id = &*context.request,
        tool_call_id = call
    );
    set_text(&span, "gen_ai.operation.name", "execute_tool");
    set_text(&span, "gen_ai.tool.name", tool);
    set_text(&span, "gen_ai.tool.type", "function");
    set_text(&span, "gen_ai.tool.call.id", call);
    set_text(&span, "k8sops.tool.server", server);
    set_text(&span, "k8sops.tool.effect", effect);
    span
}

/// Opens the span of a commit, as a child of the span of its run.
#[must_use]
pub fn commit_span(run: &Span, session: SessionId, events: usize) -> Span {
    if run.is_disabled() {
        return Span::none();
    }
    let span = tracing::error_span!(
        target: SPAN_TARGET, parent: run, "commit", otel.name = "commit", otel.kind = "client", session_id = %session
    );
    set_number(&span, "k8sops.commit.events", events as u64);
    span
}
