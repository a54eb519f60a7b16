//! Filters what arrives from a server before the SDK sees it.
//!
//! The SDK handles every notification and every request in a separate task, without a bound and in no order, and does not
//! report that a connection is ending. So this filter routes progress at once and in order, drops notifications that are not
//! used, bounds the open requests of the server, and reports the end of the connection to the handler.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use rmcp::{
    RoleClient,
    model::{GetMeta, RequestId, ServerNotification},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};

use crate::{ConnectionHandler, tool_list_repair::repair_tool_list};

/// Requests of a server that may be unanswered. Further ones are dropped.
const MAX_OPEN_REQUESTS: usize = 1024;

/// A transport whose incoming messages are filtered.
pub(super) struct InboundFilter<T> {
    transport: T,
    handler: ConnectionHandler,
    /// The server's requests that are not answered yet. Never held across an await.
    open_requests: Arc<Mutex<HashSet<RequestId>>>,
    /// Whether a dropped request was logged.
    warned: bool,
}

/// What happens to a notification.
#[derive(PartialEq, Eq)]
enum NotificationRoute {
    /// The SDK handles it.
    PassOn,
    /// It was handled here, or it is not used.
    Consumed,
}

impl<T> InboundFilter<T> {
    pub(super) fn new(transport: T, handler: ConnectionHandler) -> Self {
        Self { transport, handler, open_requests: Arc::default(), warned: false }
    }

    /// Returns the message if the SDK is to handle it.
    fn filter_message(&mut self, mut message: RxJsonRpcMessage<RoleClient>) -> Option<RxJsonRpcMessage<RoleClient>> {
        match &mut message {
            RxJsonRpcMessage::<RoleClient>::Notification(notification) => {
                if self.route_notification(&mut notification.notification) == NotificationRoute::Consumed {
                    return None;
                }
            }
            RxJsonRpcMessage::<RoleClient>::Request(request) => {
                let mut open_requests = self.open_requests.lock();
                if open_requests.len() >= MAX_OPEN_REQUESTS {
                    if !std::mem::replace(&mut self.warned, true) {
                        let limit = MAX_OPEN_REQUESTS;
                        tracing::warn!(server = self.handler.server(), limit, "mcp request dropped: too many are open");
                    }
                    return None;
                }
                open_requests.insert(request.id.clone());
            }
            RxJsonRpcMessage::<RoleClient>::Response(response) => repair_tool_list(&mut response.result),
            RxJsonRpcMessage::<RoleClient>::Error(_) => {}
        }
        Some(message)
    }

    fn route_notification(&self, notification: &mut ServerNotification) -> NotificationRoute {
        // The SDK delivers these to the subscription.
        if notification.get_meta().subscription_id().is_some() {
            return NotificationRoute::PassOn;
        }
        match notification {
            ServerNotification::ProgressNotification(progress) => {
                self.handler.route_progress(progress.params.clone());
                NotificationRoute::Consumed
            }
            ServerNotification::ToolListChangedNotification(_) => {
                self.handler.notify_tools_changed();
                NotificationRoute::Consumed
            }
            ServerNotification::CancelledNotification(cancelled) => {
                if let Some(request) = &cancelled.params.request_id {
                    self.open_requests.lock().remove(request);
                }
                NotificationRoute::PassOn
            }
            ServerNotification::SubscriptionsAcknowledgedNotification(_) => NotificationRoute::PassOn,
            _ => NotificationRoute::Consumed,
        }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for InboundFilter<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered_request = match &item {
            TxJsonRpcMessage::<RoleClient>::Response(response) => Some(response.id.clone()),
            TxJsonRpcMessage::<RoleClient>::Error(error) => error.id.clone(),
            _ => None,
        };
        let sent = self.transport.send(item);
        let open_requests = self.open_requests.clone();
        async move {
            let sent = sent.await;
            // After sending, so that a server that does not read its answers reaches the bound.
            if let Some(request) = answered_request {
                open_requests.lock().remove(&request);
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let Some(message) = self.transport.receive().await else {
                self.handler.mark_closed();
                return None;
            };
            if let Some(message) = self.filter_message(message) {
                return Some(message);
            }
            // A flood of dropped messages must not block this thread.
            tokio::task::consume_budget().await;
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.handler.mark_closed();
        self.transport.close().await
    }
}
