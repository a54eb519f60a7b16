//! Subscription to changes of a server's tools.

use std::{convert::Infallible, time::Duration};

use k8sops_core::ErrorChain;
use rmcp::model::SubscriptionFilter;

use crate::{active_connection::ActiveConnection, request_error::RequestError};

/// Delay before a subscription that ended or was rejected is tried again.
const RESUBSCRIBE_DELAY: Duration = Duration::from_secs(30);

/// Subscribes to changes of the tools, on servers whose protocol version requires a subscription. It never returns.
pub(crate) async fn subscribe_to_tool_changes(connection: &ActiveConnection) -> Infallible {
    let handler = &connection.handler;
    let needs_subscription = connection.peer.peer_info().is_some_and(|info| {
        !info.protocol_version.has_initialize()
            && info.capabilities.tools.as_ref().is_some_and(|tools| tools.list_changed == Some(true))
    });
    if !needs_subscription {
        std::future::pending::<()>().await;
    }
    loop {
        match connection.peer.listen(SubscriptionFilter::builder().tools_list_changed().build()).await {
            Ok(mut subscription) => {
                // Changes from before the subscription were not announced.
                handler.notify_tools_changed();
                while let Ok(Some(_)) = subscription.next().await {
                    handler.notify_tools_changed();
                }
            }
            Err(error) => {
                let error = RequestError::from_service_error(&error, || handler.close_reason());
                let error = ErrorChain(&error);
                tracing::debug!(server = handler.server(), %error, "mcp subscription to tool changes failed");
            }
        }
        tokio::time::sleep(RESUBSCRIBE_DELAY).await;
    }
}
