//! A connection on which calls can be made.

use rmcp::{RoleClient, service::Peer};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{ConnectionHandler, skipped_tools::SkippedTools};

/// A connection on which calls can be made.
pub(crate) struct ActiveConnection {
    pub(crate) peer: Peer<RoleClient>,
    pub(crate) handler: ConnectionHandler,
    pub(crate) skipped_tools: SkippedTools,
    /// Holds one token per call in flight.
    pub(crate) calls: TaskTracker,
}

impl ActiveConnection {
    pub(crate) fn new(peer: Peer<RoleClient>, handler: ConnectionHandler) -> Self {
        Self { peer, handler, skipped_tools: SkippedTools::default(), calls: TaskTracker::new() }
    }

    /// Counts a call in flight until the token is dropped.
    pub(crate) fn count_call(&self) -> TaskTrackerToken {
        self.calls.token()
    }
}
