//! Carries the messages between the host and the service.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    host_message::{HostMessage, HostMessageKind},
    http_exchange::ServiceEndpoint,
};

/// How long answers are waited for when the host has closed standard input.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the host until it closes its end.
pub(super) async fn serve_host(
    endpoint: ServiceEndpoint,
    mut input: mpsc::Receiver<String>,
    output: mpsc::Sender<Value>,
) {
    let mut exchanges = JoinSet::new();
    let mut cancellable: HashMap<String, AbortHandle> = HashMap::new();
    loop {
        let line = tokio::select! {
            line = input.recv() => line,
            () = output.closed() => None,
        };
        let Some(line) = line else { break };
        while exchanges.try_join_next().is_some() {}
        cancellable.retain(|_, exchange| !exchange.is_finished());
        if line.trim().is_empty() {
            continue;
        }
        let Some(message) = HostMessage::parse(&line) else {
            let error = json!({"code": -32700, "message": "a line must be one JSON object"});
            let _ = output.send(json!({"jsonrpc": "2.0", "id": null, "error": error})).await;
            continue;
        };
        if let HostMessageKind::Cancel(id) = &message.kind
            && let Some(exchange) = cancellable.remove(&id.to_string())
        {
            // Over HTTP, the disconnect is the cancel.
            exchange.abort();
            continue;
        }
        if message.is_initialize() {
            // What follows needs the session that it returns.
            answer_message(endpoint.clone(), message, output.clone()).await;
            continue;
        }
        let id = match &message.kind {
            HostMessageKind::Request(id) if message.stateless_version().is_some() => Some(id.to_string()),
            _ => None,
        };
        let exchange = exchanges.spawn(answer_message(endpoint.clone(), message, output.clone()));
        if let Some(id) = id {
            cancellable.insert(id, exchange);
        }
    }
    let _ = timeout(DRAIN_TIMEOUT, async { while exchanges.join_next().await.is_some() {} }).await;
    exchanges.shutdown().await;
}

async fn answer_message(endpoint: ServiceEndpoint, message: HostMessage, output: mpsc::Sender<Value>) {
    let Err(error) = endpoint.exchange(&message, &output).await else { return };
    match &message.kind {
        HostMessageKind::Request(id) => {
            let _ = output.send(error.to_answer(id)).await;
        }
        // The protocol has no answer to these.
        HostMessageKind::Cancel(_) | HostMessageKind::Other => eprintln!("k8sops: {error}"),
    }
}
