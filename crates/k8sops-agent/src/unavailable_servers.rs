//! Servers that are not connected when a run starts. The model is told together with the message: not at the beginning of the
//! prompt, which providers cache.

use k8sops_core::{EventBody, OpenRun, SessionWarning};

use crate::{
    memory_context::newest_user_message,
    run::Run,
    run_log::{LogClosed, RunView},
};

/// The code of the warning.
const WARNING_CODE: &str = "servers_unavailable";

impl Run {
    /// Commits a warning that names the servers which are not connected; returns whether there are any.
    pub(crate) async fn announce_unavailable_servers(&self, view: &RunView, run: &OpenRun) -> Result<bool, LogClosed> {
        let is_new = newest_user_message(&view.messages).is_some_and(|message| message.unavailable_servers.is_empty());
        if run.steps > 0 || !is_new {
            return Ok(false);
        }
        let servers = self.tools.unavailable_servers();
        if servers.is_empty() {
            return Ok(false);
        }
        let message = format!(
            "not connected: {}; the answer is given without them; GET /v1/info shows the reason",
            servers.join(", ")
        );
        let warning = SessionWarning { unavailable_servers: servers, ..SessionWarning::new(WARNING_CODE, message) };
        self.log.append_events(vec![EventBody::Warning(warning)]).await?;
        Ok(true)
    }
}
