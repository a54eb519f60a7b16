//! Tools of a server that cannot be used: their published form, and what is logged of them.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::server_text::quote_server_text;

/// A tool that a server lists and that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedTool {
    /// Name on the server; empty if it has none.
    pub name: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// Warnings that are remembered per connection. Further ones are not logged.
const MAX_WARNINGS: usize = 10_000;

/// The tools of one connection that a warning was logged for. Tools are listed at every health check.
#[derive(Debug, Default)]
pub(crate) struct SkippedTools(Mutex<HashSet<String>>);

impl SkippedTools {
    /// Logs that a tool is skipped, unless this was logged before.
    pub(crate) fn warn_once(&self, server: &str, tool: &str, reason: &str) {
        let mut warned = self.0.lock();
        if warned.len() < MAX_WARNINGS && warned.insert(format!("{tool}: {reason}")) {
            tracing::warn!(server, tool = quote_server_text(tool), reason, "mcp tool skipped");
        }
    }
}
