//! Traces over OTLP: one per turn, from the request over the run to each model call, tool call and commit.
//!
//! Spans are `tracing` spans of one target. Their fields are the ids that log lines carry; what only a trace has is set as an
//! attribute of OpenTelemetry, which costs nothing while nothing is exported, and never comes into a log. There is no span,
//! and no attribute, per token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _},
};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler as SdkSampler, SdkTracerProvider, Tracer},
};
use secrecy::ExposeSecret as _;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::{Layer, filter::FilterFn, registry::LookupSpan};

use super::requests;
use crate::{RootSampler, TelemetryOptions, TraceSampler};
use k8sops_core::{RequestContext, RunId, SessionId, TokenUsage};

/// The header, and the field of MCP's `_meta`, that carries the context of a trace.
pub const TRACEPARENT: &str = "traceparent";
/// The methods that spans name.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
/// How long one export may take; a dead collector costs spans, and nothing else.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// How long the last export may hold up the end of the process.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Whether prompts, arguments and outputs go into traces. One flag per process, as there is one subscriber.
static CONTENT: AtomicBool = AtomicBool::new(false);

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The exporter cannot be made.
    #[error("traces cannot be sent to OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Exporter(String),
}

/// What sends spans, as long as this lives; does nothing where no collector is named.
#[derive(Debug, Default)]
pub struct Exporter(Option<SdkTracerProvider>);

impl Exporter {
    /// Sends what is left, within a bounded time.
    pub async fn flush(self) {
        let Some(provider) = self.0 else { return };
        // It blocks.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_LIMIT)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

type Spans<S> = tracing_subscriber::filter::Filtered<OpenTelemetryLayer<S, Tracer>, FilterFn, S>;

/// The layer that hands spans to a collector; none without an endpoint.
pub(super) fn layer<S>(config: Option<&TelemetryOptions>) -> Result<(Option<Spans<S>>, Exporter), TraceError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let Some((config, endpoint)) = config.and_then(|config| Some((config, config.otlp_endpoint.clone()?))) else {
        return Ok((None, Exporter::default()));
    };
    let headers =
        config.otlp_headers.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect();
    let build = move || {
        opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_LIMIT)
            .with_headers(headers)
            .build()
    };
    // A blocking client may not be made on a thread of the runtime.
    let exporter = std::thread::spawn(build)
        .join()
        .map_err(|_| TraceError::Exporter("the exporter broke off".into()))?
        .map_err(|error| TraceError::Exporter(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name(config.service_name.clone())
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler(config.sampler, config.sampler_arg))
        .with_resource(resource)
        .build();
    CONTENT.store(config.capture_content, Ordering::Relaxed);
    let layer = OpenTelemetryLayer::new(provider.tracer("k8sops"))
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false);
    Ok((Some(layer.with_filter(FilterFn::new(is_ours))), Exporter(Some(provider))))
}

fn is_ours(meta: &tracing::Metadata<'_>) -> bool {
    meta.is_span() && meta.target() == "k8sops::turn"
}

fn sampler(TraceSampler { parent_based, root }: TraceSampler, share: f64) -> SdkSampler {
    let root = match root {
        RootSampler::AlwaysOn => SdkSampler::AlwaysOn,
        RootSampler::AlwaysOff => SdkSampler::AlwaysOff,
        RootSampler::Ratio => SdkSampler::TraceIdRatioBased(share),
    };
    if parent_based { SdkSampler::ParentBased(Box::new(root)) } else { root }
}

/// The context of the span that is entered now, as W3C writes it; `None` when nothing is exported.
#[must_use]
pub fn outgoing() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
}

/// The request that is worked on now, for what it causes.
#[must_use]
pub fn cause() -> RequestContext {
    RequestContext { traceparent: outgoing(), request_id: requests::current().map(|id| id.to_string()) }
}

/// A W3C context; `None` for what is none, which is to be ignored.
fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let known = lower_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    if !known || !lower_hex(trace, 32) || !lower_hex(span, 16) || !lower_hex(flags, 2) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & TraceFlags::SAMPLED.to_u8());
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

/// Has a new span belong to the trace that `traceparent` names.
fn adopt(span: &Span, traceparent: Option<&str>) {
    if let Some(parent) = traceparent.and_then(parse) {
        // Refused only where nothing is exported.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

fn text(span: &Span, key: &'static str, value: impl Into<String>) {
    span.set_attribute(key, value.into());
}

fn number(span: &Span, key: &'static str, value: u64) {
    span.set_attribute(key, i64::try_from(value).unwrap_or(i64::MAX));
}

/// Notes that what a span stands for failed, in a stable word.
pub fn failed(span: &Span, kind: &str) {
    text(span, "error.type", kind);
    span.set_status(Status::error(kind.to_owned()));
}

/// Notes what was said, if that is wanted at all.
pub fn content(span: &Span, key: &'static str, value: impl FnOnce() -> String) {
    if CONTENT.load(Ordering::Relaxed) && !span.is_disabled() {
        text(span, key, value());
    }
}

/// The span of a request; a client's `traceparent` is its parent. `route` is the pattern, not the path.
#[must_use]
pub fn request(id: &str, method: &str, route: &str, traceparent: Option<&str>) -> Span {
    // As the conventions have it, where anything could stand.
    let method = if METHODS.contains(&method) { method } else { "_OTHER" };
    let span = tracing::error_span!(
        target: "k8sops::turn", parent: None, "request", otel.name = format!("{method} {route}"), otel.kind = "server",
        request_id = id
    );
    adopt(&span, traceparent);
    text(&span, "http.request.method", method);
    text(&span, "http.route", route);
    span
}

/// Notes the status of an answer.
pub fn answered(span: &Span, status: u16) {
    number(span, "http.response.status_code", status.into());
    if status >= 500 {
        failed(span, &status.to_string());
    }
}

/// The span of a command that came over a WebSocket, in the trace of the request that opened it.
#[must_use]
pub fn command(cause: &RequestContext, session: SessionId) -> Span {
    let request_id = cause.request_id.as_deref().unwrap_or_default();
    let span = tracing::error_span!(
        target: "k8sops::turn", parent: None, "command", otel.name = "WebSocket command", otel.kind = "server",
        request_id, session_id = %session
    );
    adopt(&span, cause.traceparent.as_deref());
    span
}

/// The span of a run, in the trace of the request that it came from, also on another replica.
#[must_use]
pub fn run(cause: &RequestContext, session: SessionId, run: RunId, provider: &str, model: &str, attempt: u32) -> Span {
    let request_id = cause.request_id.as_deref().unwrap_or_default();
    let span = tracing::error_span!(
        target: "k8sops::turn", parent: None, "run", otel.name = "invoke_agent k8sops", otel.kind = "internal",
        session_id = %session, run_id = %run, request_id
    );
    adopt(&span, cause.traceparent.as_deref());
    text(&span, "gen_ai.operation.name", "invoke_agent");
    text(&span, "gen_ai.agent.name", "k8sops");
    text(&span, "gen_ai.conversation.id", session.to_string());
    text(&span, "gen_ai.provider.name", provider);
    text(&span, "gen_ai.request.model", model);
    number(&span, "k8sops.run.attempt", attempt.into());
    span
}

/// Notes what model calls used.
pub fn usage(span: &Span, usage: &TokenUsage) {
    number(span, "gen_ai.usage.input_tokens", usage.input_tokens);
    number(span, "gen_ai.usage.output_tokens", usage.output_tokens);
    number(span, "gen_ai.usage.cache_read.input_tokens", usage.cached_tokens);
}

/// Notes how a run ended.
pub fn outcome(span: &Span, outcome: &str) {
    text(span, "k8sops.run.outcome", outcome);
}

/// The span of a look at a session for what is worth remembering, which is nobody's request and a trace of its own.
#[must_use]
pub fn learning(session: SessionId, provider: &str, model: &str) -> Span {
    let span = tracing::error_span!(
        target: "k8sops::turn", parent: None, "learning", otel.name = "learn memories", otel.kind = "internal",
        session_id = %session
    );
    text(&span, "gen_ai.conversation.id", session.to_string());
    text(&span, "gen_ai.provider.name", provider);
    text(&span, "gen_ai.request.model", model);
    span
}

/// Where in a session a call is made: the ids that its span has in common with others.
#[derive(Debug, Clone)]
pub struct At {
    /// The session.
    pub session: SessionId,
    /// The run; none outside runs.
    pub run: Option<RunId>,
    /// The request that the run came from; empty when it is not known.
    pub request: Arc<str>,
}

/// The span of one call of a model, within the span that is entered now.
#[must_use]
pub fn chat(at: &At, provider: &str, model: &str) -> Span {
    let span = tracing::error_span!(
        target: "k8sops::turn", "chat", otel.name = format!("chat {model}"), otel.kind = "client",
        session_id = %at.session, run_id = at.run.map(display), request_id = &*at.request
    );
    text(&span, "gen_ai.operation.name", "chat");
    text(&span, "gen_ai.provider.name", provider);
    text(&span, "gen_ai.request.model", model);
    text(&span, "gen_ai.conversation.id", at.session.to_string());
    span
}

/// Notes why a reply ended.
pub fn finish_reason(span: &Span, reason: &str) {
    let reasons = opentelemetry::Array::String(vec![reason.to_owned().into()]);
    span.set_attribute("gen_ai.response.finish_reasons", opentelemetry::Value::Array(reasons));
}

/// The span of one call of a tool, within the span that is entered now.
#[must_use]
pub fn tool(at: &At, call: &str, server: &str, tool: &str, effect: &str) -> Span {
    let span = tracing::error_span!(
        target: "k8sops::turn", "tool", otel.name = format!("execute_tool {tool}"), otel.kind = "client",
        session_id = %at.session, run_id = at.run.map(display), request_id = &*at.request, tool_call_id = call
    );
    text(&span, "gen_ai.operation.name", "execute_tool");
    text(&span, "gen_ai.tool.name", tool);
    text(&span, "gen_ai.tool.type", "function");
    text(&span, "gen_ai.tool.call.id", call);
    text(&span, "k8sops.tool.server", server);
    text(&span, "k8sops.tool.effect", effect);
    span
}

/// The span of one commit, within that of its run.
#[must_use]
pub fn commit(run: &Span, session: SessionId, events: usize) -> Span {
    if run.is_disabled() {
        return Span::none();
    }
    let span = tracing::error_span!(
        target: "k8sops::turn", parent: run, "commit", otel.name = "commit", otel.kind = "client", session_id = %session
    );
    number(&span, "k8sops.commit.events", events as u64);
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_taken_as_w3c_says_and_anything_else_is_ignored() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = parse(good).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        // A later version may say more.
        assert!(parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more").is_some());
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn without_a_collector_nothing_goes_out() {
        assert_eq!(outgoing(), None);
        assert!(cause().is_empty());
    }
}
