//! W3C trace context: `traceparent` and `tracestate`, read from requests and sent along to models and tools.

use std::collections::HashMap;

use k8sops_core::RequestContext;
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::request_id;

/// The header, and the field of MCP's `_meta`, that names the trace and the parent span.
pub const TRACEPARENT: &str = "traceparent";
/// The header, and the field of MCP's `_meta`, that carries what other tracing systems added to the trace.
pub const TRACESTATE: &str = "tracestate";

/// The trace context of one span, in the form of its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceHeaders {
    /// The value of [`TRACEPARENT`].
    pub traceparent: String,
    /// The value of [`TRACESTATE`], if the trace has one.
    pub tracestate: Option<String>,
}

impl TraceHeaders {
    /// Returns the headers as pairs of name and value.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let tracestate = self.tracestate.as_deref().map(|value| (TRACESTATE, value));
        std::iter::once((TRACEPARENT, self.traceparent.as_str())).chain(tracestate)
    }
}

/// Returns the headers for a request that is sent within the current span; `None` while nothing is exported.
#[must_use]
pub fn outgoing_headers() -> Option<TraceHeaders> {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut headers);
    let traceparent = headers.remove(TRACEPARENT)?;
    let tracestate = headers.remove(TRACESTATE).filter(|state| !state.is_empty());
    Some(TraceHeaders { traceparent, tracestate })
}

/// Returns the trace context and the request id of the current task, for a command that it submits.
#[must_use]
pub fn current_request() -> RequestContext {
    let headers = outgoing_headers();
    RequestContext {
        traceparent: headers.as_ref().map(|headers| headers.traceparent.clone()),
        tracestate: headers.and_then(|headers| headers.tracestate),
        request_id: request_id::current().map(|id| id.to_string()),
    }
}

/// Makes a span the child of the span that `traceparent` names. A value that is not valid is ignored, as W3C asks.
pub(crate) fn set_remote_parent(span: &Span, traceparent: Option<&str>, tracestate: Option<&str>) {
    let Some(traceparent) = traceparent else { return };
    let headers = ReceivedHeaders { traceparent, tracestate };
    // Fails only while nothing is exported.
    let _ = span.set_parent(TraceContextPropagator::new().extract_with_context(&Context::new(), &headers));
}

struct ReceivedHeaders<'a> {
    traceparent: &'a str,
    tracestate: Option<&'a str>,
}

impl Extractor for ReceivedHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(self.traceparent),
            TRACESTATE => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, TraceContextExt as _};

    use super::*;

    fn extract(traceparent: &str, tracestate: Option<&str>) -> SpanContext {
        let headers = ReceivedHeaders { traceparent, tracestate };
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        context.span().span_context().clone()
    }

    #[test]
    fn valid_trace_context_is_adopted_and_invalid_ignored() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = extract(good, Some("vendor=a,other=b"));
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.trace_state().header(), "vendor=a,other=b");
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        ] {
            assert!(!extract(bad, None).is_valid(), "{bad}");
        }
    }

    #[test]
    fn tracestate_that_cannot_be_parsed_keeps_the_trace() {
        let context = extract("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some("no list at all"));
        assert!(context.is_valid());
    }

    #[test]
    fn nothing_is_sent_without_an_exporter() {
        assert_eq!(outgoing_headers(), None);
        assert!(current_request().is_empty());
    }
}
