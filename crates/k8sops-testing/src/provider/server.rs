//! The server of the providers.

use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::strict_servers::StrictServer;

use super::{
    api::{GOOD_REPLY, ProviderApi},
    response::ScriptedResponse,
};

/// A request that the providers received.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// Path without the query.
    pub path: String,
    /// The API that the path belongs to, if any.
    pub api: Option<ProviderApi>,
    /// Body; `null` if it is not JSON.
    pub body: Value,
    /// Values by lower-case name.
    pub headers: HashMap<String, String>,
}

impl ReceivedRequest {
    /// Returns the requested model.
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }
}

#[derive(Default)]
struct SharedState {
    scripts: Mutex<HashMap<(ProviderApi, String), VecDeque<ScriptedResponse>>>,
    strict: Mutex<HashMap<String, StrictServer>>,
    received: Mutex<Vec<ReceivedRequest>>,
}

/// One provider for each API, all at one address. They end when this is dropped.
pub struct FakeProviders {
    /// Scheme, host and port.
    pub url: String,
    shared: Arc<SharedState>,
    _tasks: JoinSet<()>,
}

impl FakeProviders {
    /// Starts the providers without a script.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(SharedState::default());
        let mut tasks = JoinSet::new();
        let state = shared.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve_request(socket, state.clone()));
            }
        });
        Self { url, shared, _tasks: tasks }
    }

    /// Appends responses of a model, one for each request.
    pub fn script(&self, api: ProviderApi, model: &str, responses: impl IntoIterator<Item = ScriptedResponse>) {
        let mut scripts = self.shared.scripts.lock();
        scripts.entry((api, model.to_owned())).or_default().extend(responses);
    }

    /// Lets a model reject what a strict server would reject.
    pub fn make_strict(&self, model: &str, server: StrictServer) {
        self.shared.strict.lock().insert(model.to_owned(), server);
    }

    /// Returns the requests for replies of a model so far.
    pub fn received(&self, api: ProviderApi, model: &str) -> Vec<ReceivedRequest> {
        let received = self.shared.received.lock();
        received.iter().filter(|r| r.api == Some(api) && r.model() == model).cloned().collect()
    }

    /// Returns the settings of these providers as YAML: one for each API by its name, with any model.
    pub fn settings_yaml(&self) -> String {
        "providers:\n".to_owned() + &ProviderApi::ALL.map(|d| self.provider_yaml(&d.provider_name(), d, "60s")).concat()
    }

    /// Returns the settings of one more provider as YAML, to be appended to [`Self::settings_yaml`].
    pub fn provider_yaml(&self, name: &str, api: ProviderApi, read_timeout: &str) -> String {
        let protocol = api.protocol();
        let url = &self.url;
        format!(
            "  {name}:\n    protocol: {protocol}\n    base_url: {url}\n    api_key: test-key-of-no-use\n    read_timeout: {read_timeout}\n"
        )
    }
}

async fn serve_request(mut socket: TcpStream, shared: Arc<SharedState>) {
    let Some(received) = read_request(&mut socket).await else { return };
    let api = received.api;
    let model = received.model().to_owned();
    let show = received.path == "/api/show";
    let strict = shared.strict.lock().get(&model).copied().filter(|_| api.is_some());
    let rejection = strict.and_then(|server| server.check(&received.body).err());
    shared.received.lock().push(received);
    let response = match (rejection, api) {
        (Some(rejection), _) => rejection.response(),
        (None, Some(api)) => {
            let mut scripts = shared.scripts.lock();
            let next = scripts.get_mut(&(api, model)).and_then(VecDeque::pop_front);
            next.unwrap_or_else(|| api.text(GOOD_REPLY))
        }
        (None, None) if show => {
            let info = json!({"general.architecture": "test", "test.context_length": 40_960});
            ScriptedResponse::plain(200, "application/json", json!({"model_info": info}).to_string().into_bytes())
        }
        (None, None) => ScriptedResponse::plain(404, "text/plain", b"404 page not found".to_vec()),
    };
    // Sending fails if the client has closed the connection, as some tests do.
    let _ = response.send(&mut socket).await;
}

async fn read_request(socket: &mut TcpStream) -> Option<ReceivedRequest> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.split('?').next()?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = serde_json::from_slice(&bytes[end..]).unwrap_or_default();
    Some(ReceivedRequest { api: ProviderApi::from_path(&path), path, body, headers })
}
