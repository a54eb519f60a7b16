//! A turn over A2A, as an agent has it that works through another one: it streams the task, subscribes to it when a stream
//! breaks, and approves by messages in the form of the extension `hitl/v1`.

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
/// The extension by which programs approve.
const HITL_EXTENSION: &str = "https://kagent.dev/extensions/hitl/v1";
/// What the door says of a message that the store has lost.
const MESSAGE_LOST: &str = "lost the message";

/// A turn of one session, which is the context.
pub(crate) struct A2aTurn {
    http: reqwest::Client,
    url: String,
    context: String,
    /// The text of the message, and its id.
    key: String,
    accepted_at: Option<Instant>,
    /// The task that is read on before anything is sent.
    following: Option<String>,
    /// The task that waits for approvals.
    waiting_task: Option<String>,
    /// The approvals whose answers the door has accepted, and when.
    answered: HashMap<String, Instant>,
    /// The texts of complete artifacts, by the ids of their messages.
    texts: HashMap<String, String>,
}

/// A text of the agent, put together from its chunks.
#[derive(Debug, Default)]
struct StreamedArtifact {
    text: String,
    is_complete: bool,
}

impl A2aTurn {
    pub(crate) fn new(http: &reqwest::Client, base_url: &str, session: &ClientSession, key: &str) -> Self {
        Self {
            http: http.clone(),
            url: format!("{base_url}/a2a/v1"),
            context: session.id.clone(),
            key: key.to_owned(),
            accepted_at: None,
            following: None,
            waiting_task: None,
            answered: HashMap::new(),
            texts: HashMap::new(),
        }
    }

    /// When the door accepted the answer to an approval.
    pub(crate) fn answered_at(&self, approval: &str) -> Option<Instant> {
        self.answered.get(approval).copied()
    }

    /// When the door acknowledged the message.
    pub(crate) fn accepted_at(&self) -> Instant {
        self.accepted_at.unwrap_or_else(Instant::now)
    }

    pub(crate) fn texts(self) -> HashMap<String, String> {
        self.texts
    }

    /// Sends the request, or reads on what became of the one before.
    pub(crate) async fn send(&mut self, request: &TurnRequest) -> TurnRest {
        if let Some(task) = self.following.clone() {
            return self.subscribe(&task).await;
        }
        if let (TurnRequest::Approve(approvals), Some(task)) = (request, self.waiting_task.clone()) {
            return self.approve(&task, approvals).await;
        }
        let message = json!({"messageId": self.key, "role": "ROLE_USER", "contextId": self.context,
            "parts": [{"text": self.key}]});
        match self.post_message(&message).await {
            Ok(response) => self.read_stream(response, &[]).await,
            Err((_, rest)) => rest,
        }
    }

    async fn approve(&mut self, task: &str, approvals: &[String]) -> TurnRest {
        let decisions: Vec<Value> = approvals.iter().map(|id| json!({"id": id, "approved": true})).collect();
        let message = json!({"messageId": format!("approve-{}", approvals.join("-")), "role": "ROLE_USER",
            "taskId": task, "parts": [{"text": "approved"}], "extensions": [HITL_EXTENSION],
            "metadata": {HITL_EXTENSION: {"type": "tool_approval_response", "approvals": decisions}}});
        let (status, rest) = match self.post_message(&message).await {
            Ok(response) => return self.read_stream(response, approvals).await,
            Err(failed) => failed,
        };
        match status {
            Some(StatusCode::NOT_FOUND) => self.start_over(format!("{rest:?}")),
            // The answer may have arrived, or another replica knows more: the task says what it still waits for.
            None | Some(StatusCode::BAD_REQUEST) => {
                self.following = Some(task.to_owned());
                TurnRest::Broken(format!("{rest:?}"))
            }
            Some(_) => rest,
        }
    }

    async fn subscribe(&mut self, task: &str) -> TurnRest {
        let request = self.http.post(format!("{}/tasks/{task}:subscribe", self.url));
        let (status, rest) = match self.request(request).await {
            Ok(response) => return self.read_stream(response, &[]).await,
            Err(failed) => failed,
        };
        match status {
            Some(StatusCode::NOT_FOUND) => self.start_over(format!("{rest:?}")),
            // It has ended.
            Some(StatusCode::BAD_REQUEST) => self.read_task(task).await,
            _ => rest,
        }
    }

    async fn read_task(&mut self, task: &str) -> TurnRest {
        let request = self.http.get(format!("{}/tasks/{task}", self.url));
        let response = match self.request(request).await {
            Ok(response) => response,
            Err((Some(StatusCode::NOT_FOUND), rest)) => return self.start_over(format!("{rest:?}")),
            Err((_, rest)) => return rest,
        };
        let task: Value = match response.json().await {
            Ok(task) => task,
            Err(error) => return TurnRest::Broken(format!("{error:?}")),
        };
        let mut artifacts = HashMap::new();
        if let Err(wrong) = self.meet_task(&task, &mut artifacts) {
            return TurnRest::Wrong(wrong);
        }
        let rest = self.read_status(&task["status"], &artifacts);
        rest.unwrap_or_else(|| TurnRest::Broken("the task is in progress again".to_owned()))
    }

    /// Sends a request. A failure has its status, if there is a response that repeating the request does not change.
    async fn request(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, (Option<StatusCode>, TurnRest)> {
        let request = request.header("a2a-version", "1.0").header("a2a-extensions", HITL_EXTENSION);
        let response = match timeout(REQUEST_TIMEOUT, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err((None, TurnRest::Broken(format!("{error:?}")))),
            Err(_) => return Err((None, TurnRest::Broken("no response".to_owned()))),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let error = format!("{status}: {}", response.text().await.unwrap_or_default());
        Err(if is_transient(status) { (None, TurnRest::Broken(error)) } else { (Some(status), TurnRest::Wrong(error)) })
    }

    async fn post_message(&self, message: &Value) -> Result<reqwest::Response, (Option<StatusCode>, TurnRest)> {
        let request = self.http.post(format!("{}/message:stream", self.url));
        self.request(request.json(&json!({"message": message}))).await
    }

    fn start_over(&mut self, why: String) -> TurnRest {
        self.following = None;
        self.waiting_task = None;
        TurnRest::Lost(why)
    }

    /// Reads the stream of a task. `answered` are the approvals that the request answered.
    async fn read_stream(&mut self, response: reqwest::Response, answered: &[String]) -> TurnRest {
        let mut stream = response.bytes_stream().eventsource();
        let mut artifacts = HashMap::new();
        let mut is_met = false;
        loop {
            let event = match timeout(READ_TIMEOUT, stream.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return TurnRest::Broken(format!("{error:?}")),
                Ok(None) => return TurnRest::Broken("the stream ended before the task rests".to_owned()),
                Err(_) => return TurnRest::Broken("no data".to_owned()),
            };
            let item: Value = serde_json::from_str(&event.data).expect("items are JSON");
            if event.event == "error" {
                return TurnRest::Broken(item.to_string());
            }
            if !is_met && item["task"].is_null() {
                return TurnRest::Wrong(format!("the stream begins with {item}"));
            }
            let (task, status, chunk) = (&item["task"], &item["statusUpdate"], &item["artifactUpdate"]);
            if !task.is_null() {
                is_met = true;
                self.answered.extend(answered.iter().map(|approval| (approval.clone(), Instant::now())));
                if let Err(wrong) = self.meet_task(task, &mut artifacts) {
                    return TurnRest::Wrong(wrong);
                }
            }
            if !chunk.is_null()
                && let Err(wrong) = add_chunk(chunk, &mut artifacts)
            {
                return TurnRest::Wrong(wrong);
            }
            let status = if task.is_null() { &status["status"] } else { &task["status"] };
            if let Some(rest) = self.read_status(status, &artifacts) {
                return rest;
            }
        }
    }

    /// Takes a task as it is, with the whole of its texts.
    fn meet_task(&mut self, task: &Value, artifacts: &mut HashMap<String, StreamedArtifact>) -> Result<(), String> {
        self.following = task["id"].as_str().map(str::to_owned);
        let is_own = |message: &&Value| message["role"] == "ROLE_USER" && message["parts"][0]["text"] == self.key;
        match task["history"].as_array().into_iter().flatten().filter(is_own).count() {
            // The task before it was open again, because its end was lost, and waits.
            0 => {}
            1 => drop(self.accepted_at.get_or_insert_with(Instant::now)),
            count => return Err(format!("the message is {count} times in the history of its task")),
        }
        artifacts.clear();
        for artifact in task["artifacts"].as_array().into_iter().flatten() {
            let (id, text) = read_artifact(artifact);
            let whole = StreamedArtifact { text, is_complete: artifact["name"].is_string() };
            if artifacts.insert(id, whole).is_some() {
                return Err(format!("an artifact is twice in {task}"));
            }
        }
        Ok(())
    }

    /// Returns where the task rests, if it does.
    fn read_status(&mut self, status: &Value, artifacts: &HashMap<String, StreamedArtifact>) -> Option<TurnRest> {
        let request = &status["message"]["metadata"][HITL_EXTENSION];
        let rest = match status["state"].as_str()? {
            "TASK_STATE_COMPLETED" => TurnRest::Ended,
            "TASK_STATE_INPUT_REQUIRED" => {
                let tools = request["tools"].as_array().into_iter().flatten();
                TurnRest::Waits(tools.filter_map(|tool| tool["id"].as_str()).map(str::to_owned).collect())
            }
            "TASK_STATE_FAILED" if status.to_string().contains(MESSAGE_LOST) => {
                return Some(self.start_over(status.to_string()));
            }
            "TASK_STATE_SUBMITTED" | "TASK_STATE_WORKING" => return None,
            _ => TurnRest::Wrong(status.to_string()),
        };
        self.waiting_task = self.following.take();
        let complete = artifacts.iter().filter(|(_, artifact)| artifact.is_complete);
        let texts = complete.filter_map(|(id, artifact)| Some((uuid_from_digits(id)?, artifact.text.clone())));
        self.texts.extend(texts);
        Some(rest)
    }
}

fn add_chunk(update: &Value, artifacts: &mut HashMap<String, StreamedArtifact>) -> Result<(), String> {
    let (id, text) = read_artifact(&update["artifact"]);
    let is_known = artifacts.contains_key(&id);
    let artifact = artifacts.entry(id).or_default();
    match update["append"].as_bool() {
        Some(true) if !is_known && !text.is_empty() => return Err(format!("{update} is appended to nothing")),
        Some(true) => artifact.text.push_str(&text),
        _ => artifact.text = text,
    }
    artifact.is_complete = update["lastChunk"] == true;
    Ok(())
}

fn read_artifact(artifact: &Value) -> (String, String) {
    let parts = artifact["parts"].as_array().into_iter().flatten();
    let id = artifact["artifactId"].as_str().unwrap_or_default().to_owned();
    (id, parts.filter_map(|part| part["text"].as_str()).collect())
}
