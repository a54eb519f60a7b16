//! A turn over the Responses API. A stream that breaks is read on from the last event that was seen, and is never read twice.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    client::{ClientSession, is_transient},
    door_client::{TurnRequest, TurnRest, uuid_from_digits},
};

/// A response that takes longer to begin is given up: its replica may be paused.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream is broken after this time without data; comments arrive every 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// A turn of one session, which is the conversation.
pub(crate) struct ResponsesTurn {
    http: reqwest::Client,
    url: String,
    conversation: String,
    /// The text of the message, and its key.
    key: String,
    accepted_at: Option<Instant>,
    /// The texts of messages that ended, by their ids.
    texts: HashMap<String, String>,
    /// The response that is being read, and the number of the last event.
    reading: Option<(String, u64)>,
    /// The texts of items that have not ended.
    open: HashMap<String, String>,
    /// The items that ask for approvals, by the ids of the approvals.
    asked: HashMap<String, String>,
}

impl ResponsesTurn {
    pub(crate) fn new(http: &reqwest::Client, base_url: &str, session: &ClientSession, key: &str) -> Self {
        Self {
            http: http.clone(),
            url: format!("{base_url}/v1/responses"),
            conversation: session.id.clone(),
            key: key.to_owned(),
            accepted_at: None,
            texts: HashMap::new(),
            reading: None,
            open: HashMap::new(),
            asked: HashMap::new(),
        }
    }

    /// When the door acknowledged the message.
    pub(crate) fn accepted_at(&self) -> Instant {
        self.accepted_at.unwrap_or_else(Instant::now)
    }

    pub(crate) fn texts(self) -> HashMap<String, String> {
        self.texts
    }

    /// Sends the request, or reads on what it was answered with.
    pub(crate) async fn send(&mut self, request: &TurnRequest) -> TurnRest {
        let request = match (&self.reading, request) {
            (Some((response, number)), _) => {
                self.http.get(format!("{}/{response}?stream=true&starting_after={number}", self.url))
            }
            (None, TurnRequest::Approve(approvals)) => {
                let answer = |id| {
                    let item = self.asked.get(id);
                    json!({"type": "mcp_approval_response", "approval_request_id": item, "approve": true})
                };
                self.create(&json!(approvals.iter().map(answer).collect::<Vec<_>>()))
            }
            (None, TurnRequest::Message) => self.create(&json!(self.key)).header("idempotency-key", &self.key),
        };
        let response = match timeout(REQUEST_TIMEOUT, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return TurnRest::Broken(format!("{error:?}")),
            Err(_) => return TurnRest::Broken("no response".to_owned()),
        };
        let status = response.status();
        if status.is_success() {
            return self.read_stream(response).await;
        }
        let error = format!("{status}: {}", response.text().await.unwrap_or_default());
        match status {
            status if is_transient(status) => TurnRest::Broken(error),
            // The store has lost the events, or the answer of an approval that a replica still knows. The message is sent again,
            // with the same key.
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => self.start_over(error),
            _ => TurnRest::Wrong(error),
        }
    }

    fn create(&self, input: &Value) -> reqwest::RequestBuilder {
        let body = json!({"model": "k8sops", "conversation": self.conversation, "input": input, "stream": true});
        self.http.post(&self.url).json(&body)
    }

    fn start_over(&mut self, why: String) -> TurnRest {
        self.reading = None;
        self.open.clear();
        self.asked.clear();
        TurnRest::Lost(why)
    }

    async fn read_stream(&mut self, response: reqwest::Response) -> TurnRest {
        let mut stream = response.bytes_stream().eventsource();
        loop {
            let event: Value = match timeout(READ_TIMEOUT, stream.next()).await {
                Ok(Some(Ok(event))) if event.data == "[DONE]" => {
                    return TurnRest::Wrong("the stream ended without an end of the response".to_owned());
                }
                Ok(Some(Ok(event))) => serde_json::from_str(&event.data).expect("events are JSON"),
                Ok(Some(Err(error))) => return TurnRest::Broken(format!("{error:?}")),
                Ok(None) => return TurnRest::Broken("the stream was cut".to_owned()),
                Err(_) => return TurnRest::Broken("no data".to_owned()),
            };
            let kind = event["type"].as_str().unwrap_or_default();
            if kind == "error" {
                return TurnRest::Broken(event.to_string());
            }
            let number = event["sequence_number"].as_u64().unwrap_or_default();
            match &mut self.reading {
                Some((_, last)) if number <= *last => return TurnRest::Wrong(format!("{event} comes after {last}")),
                Some((_, last)) => *last = number,
                None => {
                    // The answers were accepted. What is asked for from now on is new.
                    self.asked.clear();
                    let id = event["response"]["id"].as_str().unwrap_or_default();
                    self.reading = Some((id.to_owned(), number));
                    self.accepted_at.get_or_insert_with(Instant::now);
                }
            }
            let item_id = || event["item_id"].as_str().unwrap_or_default().to_owned();
            match kind {
                "response.output_text.delta" => {
                    let delta = event["delta"].as_str().unwrap_or_default();
                    self.open.entry(item_id()).or_default().push_str(delta);
                }
                "response.output_item.done" => self.end_item(&event["item"]),
                "response.completed" => return self.end_response(),
                "response.failed" if event["response"]["error"]["code"] == "message_lost" => {
                    return self.start_over(event.to_string());
                }
                "response.failed" | "response.incomplete" => return TurnRest::Wrong(event.to_string()),
                _ => {}
            }
        }
    }

    fn end_item(&mut self, item: &Value) {
        let id = item["id"].as_str().unwrap_or_default();
        match item["type"].as_str() {
            Some("message") => {
                let shown = self.open.remove(id).unwrap_or_default();
                if let (Some(message), "completed") = (message_id(id), item["status"].as_str().unwrap_or_default()) {
                    self.texts.insert(message, shown);
                }
            }
            Some("mcp_approval_request") => {
                let approval = item["k8sops"]["approval_id"].as_str().unwrap_or_default();
                self.asked.insert(approval.to_owned(), id.to_owned());
            }
            _ => {}
        }
    }

    fn end_response(&mut self) -> TurnRest {
        self.reading = None;
        if self.asked.is_empty() { TurnRest::Ended } else { TurnRest::Waits(self.asked.keys().cloned().collect()) }
    }
}

/// Returns the id of the message in the log; `None` for a text that the door made.
fn message_id(item: &str) -> Option<String> {
    uuid_from_digits(item.strip_prefix("msg_")?)
}
