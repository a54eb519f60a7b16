//! A turn over AG-UI.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    client::{ClientSession, is_transient},
    door_client::{TurnRequest, TurnRest},
};

/// A response that takes longer to begin is given up: its replica may be paused.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream is broken after this time without data; comments arrive every 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// A turn of one session, whose id is the thread.
pub(crate) struct AgUiTurn {
    request: reqwest::RequestBuilder,
    thread: String,
    /// The text of the message, and its id.
    key: String,
    accepted_at: Option<Instant>,
    /// The texts of messages that ended, by their ids.
    texts: HashMap<String, String>,
    /// The approvals that the door has said to be answered.
    resolved: HashSet<String>,
}

impl AgUiTurn {
    pub(crate) fn new(http: &reqwest::Client, base_url: &str, session: &ClientSession, key: &str) -> Self {
        Self {
            request: http.post(format!("{base_url}/agui")),
            thread: session.id.clone(),
            key: key.to_owned(),
            accepted_at: None,
            texts: HashMap::new(),
            resolved: HashSet::new(),
        }
    }

    /// Whether the door has said that an approval is answered.
    pub(crate) fn is_resolved(&self, approval: &str) -> bool {
        self.resolved.contains(approval)
    }

    /// When the door acknowledged the message.
    pub(crate) fn accepted_at(&self) -> Instant {
        self.accepted_at.unwrap_or_else(Instant::now)
    }

    pub(crate) fn texts(self) -> HashMap<String, String> {
        self.texts
    }

    /// Sends the request. The same message and the same answers can be sent again: the door follows the run then.
    pub(crate) async fn send(&mut self, request: &TurnRequest) -> TurnRest {
        let mut body = json!({"threadId": self.thread, "runId": "run", "messages": [], "protocolVersion": "1.0"});
        match request {
            TurnRequest::Message => {
                body["messages"] = json!([{"id": self.key, "role": "user", "content": self.key}]);
            }
            TurnRequest::Approve(approvals) => {
                let answer = |id| json!({"interruptId": id, "status": "resolved", "payload": {"approved": true}});
                body["resume"] = approvals.iter().map(answer).collect();
            }
        }
        let request = self.request.try_clone().expect("the request has no body").json(&body);
        let response = match timeout(REQUEST_TIMEOUT, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return TurnRest::Broken(format!("{error:?}")),
            Err(_) => return TurnRest::Broken("no response".to_owned()),
        };
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            let error = format!("{status}: {text}");
            return if is_transient(status) { TurnRest::Broken(error) } else { TurnRest::Wrong(error) };
        }
        self.read_stream(response).await
    }

    async fn read_stream(&mut self, response: reqwest::Response) -> TurnRest {
        let mut stream = response.bytes_stream().eventsource();
        let (mut open, mut ended) = (HashMap::new(), HashMap::new());
        loop {
            let event: Value = match timeout(READ_TIMEOUT, stream.next()).await {
                Ok(Some(Ok(event))) => serde_json::from_str(&event.data).expect("events are JSON"),
                Ok(Some(Err(error))) => return TurnRest::Broken(format!("{error:?}")),
                Ok(None) => return TurnRest::Broken("the stream ended without an end of the run".to_owned()),
                Err(_) => return TurnRest::Broken("no data".to_owned()),
            };
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            match event["type"].as_str().unwrap_or_default() {
                "RUN_STARTED" => drop(self.accepted_at.get_or_insert_with(Instant::now)),
                "TEXT_MESSAGE_START" => drop(open.insert(text("messageId"), String::new())),
                "TEXT_MESSAGE_CONTENT" => match open.get_mut(&text("messageId")) {
                    Some(shown) => String::push_str(shown, &text("delta")),
                    None => return TurnRest::Wrong(format!("{event} is of no open message")),
                },
                "TEXT_MESSAGE_END" => ended.extend(open.remove_entry(&text("messageId"))),
                "CUSTOM" if event["name"] == "k8sops:approval_resolved" => {
                    let approval = event["value"]["approval_id"].as_str().unwrap_or_default();
                    self.resolved.insert(approval.to_owned());
                }
                "MESSAGES_SNAPSHOT" => {
                    let own = |message: &&Value| message["role"] == "user" && message["content"] == self.key;
                    let count = event["messages"].as_array().into_iter().flatten().filter(own).count();
                    match count {
                        // The event is lost, and the message waits for an owner again.
                        0 => return TurnRest::Lost("the message is not in the conversation".to_owned()),
                        1 => {}
                        _ => return TurnRest::Wrong(format!("the message is {count} times in the conversation")),
                    }
                }
                "RUN_FINISHED" => {
                    // A stream that ends with an error closes the message that it breaks off.
                    self.texts.extend(ended);
                    return read_outcome(&event);
                }
                "RUN_ERROR" if event["code"] == "reconnect" => return TurnRest::Broken(event.to_string()),
                "RUN_ERROR" => return TurnRest::Wrong(event.to_string()),
                _ => {}
            }
        }
    }
}

fn read_outcome(event: &Value) -> TurnRest {
    let outcome = &event["outcome"];
    match outcome["type"].as_str() {
        Some("success") => TurnRest::Ended,
        Some("interrupt") => {
            let ids = outcome["interrupts"].as_array().into_iter().flatten().filter_map(|one| one["id"].as_str());
            TurnRest::Waits(ids.map(str::to_owned).collect())
        }
        _ => TurnRest::Wrong(event.to_string()),
    }
}
