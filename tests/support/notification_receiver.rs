//! A receiver of push notifications that a test controls.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A notification as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedNotification {
    /// The head of the request, in lower case but for values.
    pub head: String,
    pub body: Value,
}

/// An HTTP server that answers all requests with one status.
pub(crate) struct NotificationReceiver {
    pub url: String,
    status: Arc<AtomicU16>,
    attempts: Arc<Mutex<Vec<ReceivedNotification>>>,
    accepted: Arc<Mutex<Vec<ReceivedNotification>>>,
}

impl NotificationReceiver {
    /// Starts a receiver that answers with this status.
    pub(crate) async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://127.0.0.1:{}/hook", listener.local_addr().unwrap().port());
        let receiver =
            Self { url, status: Arc::new(AtomicU16::new(status)), attempts: Arc::default(), accepted: Arc::default() };
        let (status, attempts, accepted) =
            (receiver.status.clone(), receiver.attempts.clone(), receiver.accepted.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, status.clone(), attempts.clone(), accepted.clone()));
            }
        });
        receiver
    }

    /// Answers with another status from now on.
    pub(crate) fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// All requests.
    pub(crate) fn attempts(&self) -> Vec<ReceivedNotification> {
        self.attempts.lock().clone()
    }

    /// The requests that were answered with a success.
    pub(crate) fn accepted(&self) -> Vec<ReceivedNotification> {
        self.accepted.lock().clone()
    }

    /// What the accepted notifications say of the task: states and texts, without repetitions.
    pub(crate) fn described_updates(&self) -> Vec<String> {
        let mut updates: Vec<String> = self.accepted().iter().map(|received| describe(&received.body)).collect();
        updates.dedup();
        updates
    }
}

fn describe(body: &Value) -> String {
    let text = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    match body.pointer("/statusUpdate") {
        Some(_) => text("/statusUpdate/status/state"),
        None => text("/artifactUpdate/artifact/parts/0/text"),
    }
}

async fn serve(
    mut stream: TcpStream,
    status: Arc<AtomicU16>,
    attempts: Arc<Mutex<Vec<ReceivedNotification>>>,
    accepted: Arc<Mutex<Vec<ReceivedNotification>>>,
) {
    let mut received = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => received.extend(&buffer[..read]),
            _ => return,
        }
        let Some((notification, rest)) = parse_request(&received) else { continue };
        received = rest;
        let status = status.load(Ordering::SeqCst);
        attempts.lock().push(notification.clone());
        if (200..300).contains(&status) {
            accepted.lock().push(notification);
        }
        let answer = format!("HTTP/1.1 {status} Answer\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Splits the first request off, if it is whole.
fn parse_request(received: &[u8]) -> Option<(ReceivedNotification, Vec<u8>)> {
    let text = std::str::from_utf8(received).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let (body, rest) = body.split_at_checked(length)?;
    let body = serde_json::from_str(body).unwrap();
    Some((ReceivedNotification { head: head.to_owned(), body }, rest.as_bytes().to_vec()))
}
