//! A server whose headers hold the calling user's own token: every user has a connection of their own to it.
//!
//! A session of a server belongs to the identity that it was opened with, so none is ever shared, and there is no
//! connection that a call without a token could fall back to. A connection is opened by the first call (or by
//! [`McpHub::connect_user`](crate::McpHub::connect_user)) and closed when its user has not used it for a while. Which tools the server
//! has is what it tells the user who has been connected for longest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    CallError, McpConnector,
    supervisor::{Crew, Server},
};

/// What the status of such a server says while no user is connected.
pub const WAITS_FOR_TOKEN: &str = "waits for a user's token";

/// Users connected to one server at a time.
const MAX_LINKS: usize = 256;
/// A connection that its user has not used for so long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// What a token is known by, so that there are no copies of it in a map.
type Key = [u8; 32];

/// See the module.
pub(crate) struct PerUser {
    /// What is shown of the server.
    pub(crate) front: Arc<Server>,
    connector: Arc<dyn McpConnector>,
    crew: Crew,
    /// A `std` lock: held for a look-up only, never across an await.
    links: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    next: u64,
    by_user: HashMap<Key, Link>,
}

/// One user's connection.
struct Link {
    /// Counts up: the least is connected for longest.
    number: u64,
    server: Arc<Server>,
    cancel: CancellationToken,
    calls: usize,
    used: Instant,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl PerUser {
    pub(crate) fn new(front: Arc<Server>, connector: Arc<dyn McpConnector>, crew: Crew) -> Arc<Self> {
        front.show(false, Some(WAITS_FOR_TOKEN.to_owned()), None);
        Arc::new(Self { front, connector, crew, links: Mutex::default() })
    }

    /// The connection of the user with this token, opened if need be. It stays for as long as the guard lives.
    ///
    /// # Errors
    /// [`CallError::NotSent`] without a token, or when there is no connection with it.
    pub(crate) async fn link(self: &Arc<Self>, token: Option<&SecretString>) -> Result<InUse, CallError> {
        let name = &self.front.name;
        let Some(token) = token.filter(|token| !token.expose_secret().trim().is_empty()) else {
            return Err(CallError::NotSent(format!(
                "the MCP server {name} needs the calling user's own token, and the call came without one"
            )));
        };
        let held = self.hold(token)?;
        let limit = self.crew.timings.connect;
        let _ = tokio::time::timeout(limit, held.server.tried.cancelled()).await;
        if held.server.live().is_some() {
            return Ok(held);
        }
        // The next call tries anew, with whatever token its user has then.
        let why = held.server.status().error.clone().unwrap_or_default();
        self.remove(&held.key, held.number);
        Err(CallError::NotSent(format!("the MCP server {name} cannot be reached with the user's own token: {why}")))
    }

    fn hold(self: &Arc<Self>, token: &SecretString) -> Result<InUse, CallError> {
        let key: Key = Sha256::digest(token.expose_secret().as_bytes()).into();
        let mut links = self.links();
        if !links.by_user.contains_key(&key) {
            if links.by_user.len() >= MAX_LINKS {
                let unused = links.by_user.iter().filter(|(_, link)| link.calls == 0);
                let Some(oldest) = unused.min_by_key(|(_, link)| link.used).map(|(key, _)| *key) else {
                    return Err(CallError::NotSent(format!(
                        "{MAX_LINKS} users have calls running on the MCP server {}",
                        self.front.name
                    )));
                };
                links.by_user.remove(&oldest);
            }
            let connector = self.connector.for_user(token).map_err(|e| CallError::NotSent(e.to_string()))?;
            let link = self.open(key, links.next, connector);
            links.next += 1;
            links.by_user.insert(key, link);
        }
        let link = links.by_user.get_mut(&key).expect("it was there, or has just been put there");
        link.calls += 1;
        Ok(InUse { users: self.clone(), key, number: link.number, server: link.server.clone() })
    }

    fn open(self: &Arc<Self>, key: Key, number: u64, connector: Arc<dyn McpConnector>) -> Link {
        let changes = watch::Sender::new(0);
        let news = changes.subscribe();
        let cancel = self.crew.cancel.child_token();
        let crew = Crew { cancel: cancel.clone(), ..self.crew.clone() };
        let server = crew.supervise(self.front.name.to_string(), connector, changes);
        crew.spawn(self.clone().attend(key, number, news, cancel.clone()));
        Link { number, server, cancel, calls: 0, used: Instant::now() }
    }

    /// Shows what changes on a connection, and ends it when it is not used any more.
    async fn attend(self: Arc<Self>, key: Key, number: u64, mut news: watch::Receiver<u64>, cancel: CancellationToken) {
        while let Some(idle_at) = self.idle_at(&key, number) {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                seen = news.changed() => if seen.is_err() { break },
                () = sleep_until(idle_at) => {
                    // One that is in use by now has another end.
                    if self.idle_at(&key, number).is_some_and(|at| at <= Instant::now()) {
                        self.remove(&key, number);
                        break;
                    }
                }
            }
            self.show();
        }
        self.show();
    }

    /// When a connection will have been unused for long enough; `None` when it is gone.
    fn idle_at(&self, key: &Key, number: u64) -> Option<Instant> {
        let links = self.links();
        let link = links.by_user.get(key).filter(|link| link.number == number)?;
        Some(if link.calls == 0 { link.used } else { Instant::now() } + IDLE)
    }

    fn remove(&self, key: &Key, number: u64) {
        let mut links = self.links();
        if links.by_user.get(key).is_some_and(|link| link.number == number) {
            links.by_user.remove(key);
        }
        drop(links);
        self.show();
    }

    fn show(&self) {
        // Under the lock, so that two that show at once show the newest last.
        let links = self.links();
        let live = links.by_user.values().filter(|link| link.server.live().is_some());
        match live.min_by_key(|link| link.number) {
            Some(link) => self.front.show(true, None, Some(link.server.status().tools.to_vec())),
            None => self.front.show(false, Some(WAITS_FOR_TOKEN.to_owned()), None),
        }
    }

    /// The connections as they are now.
    pub(crate) fn servers(&self) -> Vec<Arc<Server>> {
        self.links().by_user.values().map(|link| link.server.clone()).collect()
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A user's connection while it is used.
pub(crate) struct InUse {
    users: Arc<PerUser>,
    key: Key,
    number: u64,
    pub(crate) server: Arc<Server>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut links = self.users.links();
        if let Some(link) = links.by_user.get_mut(&self.key).filter(|link| link.number == self.number) {
            link.calls -= 1;
            link.used = Instant::now();
        }
    }
}
