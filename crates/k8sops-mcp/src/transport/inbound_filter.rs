//! What comes from a server passes here before the SDK sees it.
//!
//! The SDK handles every notification and every request in a task of its own, however many there are and in no order, and
//! has no way to tell that a connection is ending without being consumed. So here progress is taken in order and at once,
//! what nobody needs is dropped, requests are bounded, and the end is told to the handler.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use rmcp::{
    RoleClient,
    model::{GetMeta, RequestId, ServerNotification},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};

use crate::{ConnectionHandler, tool_discovery};

/// Requests of a server that may wait for our answer. What comes on top gets none.
const MAX_REQUESTS: usize = 1024;

/// See the module.
pub(crate) struct Watched<T> {
    transport: T,
    handler: ConnectionHandler,
    /// The server's requests that have no answer yet. A `std` lock: held for a look only.
    open: Arc<Mutex<HashSet<RequestId>>>,
    warned: bool,
}

impl<T> Watched<T> {
    pub(crate) fn new(transport: T, handler: ConnectionHandler) -> Self {
        Self { transport, handler, open: Arc::default(), warned: false }
    }

    /// What of a message the SDK gets.
    fn admit(&mut self, mut message: RxJsonRpcMessage<RoleClient>) -> Option<RxJsonRpcMessage<RoleClient>> {
        match &mut message {
            RxJsonRpcMessage::<RoleClient>::Notification(notification) => {
                if !self.admits(&mut notification.notification) {
                    return None;
                }
            }
            RxJsonRpcMessage::<RoleClient>::Request(request) => {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                if open.len() >= MAX_REQUESTS {
                    if !std::mem::replace(&mut self.warned, true) {
                        tracing::warn!(server = self.handler.server(), "an MCP server asks more than can be answered");
                    }
                    return None;
                }
                open.insert(request.id.clone());
            }
            RxJsonRpcMessage::<RoleClient>::Response(response) => {
                tool_discovery::mend(&mut response.result);
            }
            RxJsonRpcMessage::<RoleClient>::Error(_) => {}
        }
        Some(message)
    }

    fn admits(&self, notification: &mut ServerNotification) -> bool {
        // Those of a subscription are waited for there.
        if notification.get_meta().subscription_id().is_some() {
            return true;
        }
        match notification {
            ServerNotification::ProgressNotification(progress) => {
                self.handler.note_progress(progress.params.clone());
                false
            }
            ServerNotification::ToolListChangedNotification(_) => {
                self.handler.note_tools_changed();
                false
            }
            ServerNotification::CancelledNotification(cancelled) => {
                if let Some(request) = &cancelled.params.request_id {
                    self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(request);
                }
                true
            }
            ServerNotification::SubscriptionsAcknowledgedNotification(_) => true,
            _ => false,
        }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Watched<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered = match &item {
            TxJsonRpcMessage::<RoleClient>::Response(response) => Some(response.id.clone()),
            TxJsonRpcMessage::<RoleClient>::Error(error) => error.id.clone(),
            _ => None,
        };
        let sent = self.transport.send(item);
        let open = self.open.clone();
        async move {
            let sent = sent.await;
            // Only now: a server that does not take its answers gets no more of them.
            if let Some(request) = answered {
                open.lock().unwrap_or_else(PoisonError::into_inner).remove(&request);
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
            if let Some(message) = self.admit(message) {
                return Some(message);
            }
            // A flood must not hold this thread.
            tokio::task::consume_budget().await;
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.handler.mark_closed();
        self.transport.close().await
    }
}
