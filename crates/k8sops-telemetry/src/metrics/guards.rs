//! Guards that take their contribution out of a gauge when they are dropped.

use prometheus::IntGauge;

/// The kind of an event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// A WebSocket.
    WebSocket,
    /// Server-sent events.
    Sse,
    /// JSON lines.
    Ndjson,
}

impl StreamKind {
    pub(super) const ALL: [Self; 3] = [Self::WebSocket, Self::Sse, Self::Ndjson];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "ws",
            Self::Sse => "sse",
            Self::Ndjson => "ndjson",
        }
    }
}

/// Counts a stream as open until it is dropped.
#[derive(Debug)]
pub struct OpenStreamGuard(pub(super) IntGauge);

impl Drop for OpenStreamGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One session's contribution to the gauges of open runs and pending approvals, until it is dropped.
#[derive(Debug)]
pub struct GaugeGuard {
    pub(super) open_runs_gauge: IntGauge,
    pub(super) pending_approvals_gauge: IntGauge,
    pub(super) open_runs: i64,
    pub(super) pending_approvals: i64,
}

impl GaugeGuard {
    /// Sets what the session contributes now.
    pub fn set_contribution(&mut self, open_runs: usize, pending_approvals: usize) {
        let open_runs = i64::try_from(open_runs).unwrap_or(i64::MAX);
        let pending_approvals = i64::try_from(pending_approvals).unwrap_or(i64::MAX);
        self.open_runs_gauge.add(open_runs - self.open_runs);
        self.pending_approvals_gauge.add(pending_approvals - self.pending_approvals);
        self.open_runs = open_runs;
        self.pending_approvals = pending_approvals;
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.set_contribution(0, 0);
    }
}
