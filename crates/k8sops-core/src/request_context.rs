//! The request that caused something.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The request that caused a command or a run, so that logs and traces can tie both together on any replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Cause)]
pub struct RequestContext {
    /// W3C trace context (`traceparent`) of the request; absent if it is not traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// W3C trace state (`tracestate`), which other tracing systems added to the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// The id of the request in the service's logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl RequestContext {
    /// Whether neither a trace nor a request id is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.traceparent.is_none() && self.tracestate.is_none() && self.request_id.is_none()
    }
}
