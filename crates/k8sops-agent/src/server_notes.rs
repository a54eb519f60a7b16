//! MCP servers in the system prompt. What a server says of itself is fixed for a session when it is seen first: it is in the
//! log, so that the prompt is the same in every run, on every replica and after a restart, and providers can cache it.

use std::sync::Arc;

use k8sops_core::{EventBody, OpenRun, ServersIntroduced};

use crate::{
    prompt::describe_servers,
    run::Run,
    run_log::{LogClosed, RunView},
};

impl Run {
    /// Commits what new servers say of themselves; returns whether there were any. It does so before the first step only,
    /// because a prompt that changes within a run costs the provider's cache.
    pub(crate) async fn introduce_servers(&self, view: &RunView, run: &OpenRun) -> Result<bool, LogClosed> {
        if run.steps > 0 {
            return Ok(false);
        }
        let mut servers = self.tools.introduce_servers(&view.servers).await;
        servers.retain(|new| !view.servers.iter().any(|known| known.server == new.server));
        if servers.is_empty() {
            return Ok(false);
        }
        self.log.append_events(vec![EventBody::ServersIntroduced(ServersIntroduced { servers })]).await?;
        Ok(true)
    }

    /// Returns the system prompt with the servers that the session knows.
    pub(crate) fn system_prompt(&self, view: &RunView) -> Arc<str> {
        describe_servers(&self.system, &view.servers, |server| self.tools.operator_note(server))
    }
}
