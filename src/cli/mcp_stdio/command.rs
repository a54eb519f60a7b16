//! The `mcp` subcommand.

use super::{http_exchange::ServiceEndpoint, stdio_bridge::serve_host, stdio_lines::StdioLines};
use crate::cli::service::{ApiClient, ServiceOptions};

/// The name of the door in `GET /v1/info`.
const DOOR: &str = "mcp";

/// Options of `k8sops mcp`.
#[derive(Debug, Clone, clap::Args)]
pub struct McpOptions {
    #[command(flatten)]
    service: ServiceOptions,
}

/// Serves the program that started this one until it closes standard input.
///
/// # Errors
/// There is no service with the door, and none can be started.
pub async fn run(options: McpOptions) -> anyhow::Result<()> {
    // Standard output belongs to the protocol.
    let access = options.service.connect_or_start(|note| eprintln!("k8sops: {note}")).await?;
    let served = async {
        require_door(&access.client).await?;
        let StdioLines { input, output } = StdioLines::of_process();
        serve_host(ServiceEndpoint::new(&access.client)?, input, output).await;
        anyhow::Ok(())
    };
    let served = served.await;
    access.close().await;
    served
}

async fn require_door(client: &ApiClient) -> anyhow::Result<()> {
    let info = client.get_info().await?;
    let is_open = info["doors"].as_array().is_some_and(|doors| doors.iter().any(|door| door == DOOR));
    anyhow::ensure!(is_open, "the service at {} has no open door `{DOOR}` (K8SOPS_DOORS)", client.address());
    Ok(())
}
