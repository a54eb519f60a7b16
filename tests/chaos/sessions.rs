//! The sessions of all clients.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{client::ClientSession, cluster::ChaosCluster};

/// A session must be created within this time, whatever is disturbed.
const CREATE_TIMEOUT: Duration = Duration::from_secs(120);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// All sessions of a run of the test, by their ids.
pub(crate) struct SessionRegistry {
    cluster: Arc<ChaosCluster>,
    sessions: RwLock<HashMap<String, Arc<ClientSession>>>,
    /// Whether the store may lose what it has acknowledged.
    pub may_lose_writes: bool,
}

impl SessionRegistry {
    pub(crate) fn new(cluster: Arc<ChaosCluster>, may_lose_writes: bool) -> Arc<Self> {
        Arc::new(Self { cluster, sessions: RwLock::default(), may_lose_writes })
    }

    /// Creates a session through nginx, with retries.
    ///
    /// # Panics
    /// No session was created within [`CREATE_TIMEOUT`].
    pub(crate) async fn create_session(&self, http: &reqwest::Client, base_url: &str) -> Arc<ClientSession> {
        let deadline = Instant::now() + CREATE_TIMEOUT;
        let id = loop {
            let request = http.post(format!("{base_url}/v1/sessions")).json(&json!({})).timeout(REQUEST_TIMEOUT);
            let created: Result<Value, _> = async { request.send().await?.error_for_status()?.json().await }.await;
            match created {
                Ok(session) => break session["session_id"].as_str().expect("the response has an id").to_owned(),
                Err(error) => assert!(Instant::now() < deadline, "no session within {CREATE_TIMEOUT:?}: {error:?}"),
            }
            sleep(Duration::from_millis(200)).await;
        };
        let shard = self.cluster.redis.shard_of(&id).await;
        let mut sessions = self.sessions.write();
        let session = ClientSession::new(sessions.len(), id.clone(), shard);
        sessions.insert(id, session.clone());
        session
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<ClientSession>> {
        self.sessions.read().get(id).cloned()
    }

    /// Returns all sessions in the order of their creation.
    pub(crate) fn all(&self) -> Vec<Arc<ClientSession>> {
        let mut sessions: Vec<_> = self.sessions.read().values().cloned().collect();
        sessions.sort_by_key(|session| session.index);
        sessions
    }
}
