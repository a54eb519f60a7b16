//! TCP proxies in front of Redis. Each Redis node announces the port of its proxy, so that the connections of k8sops and of
//! Redis replicas pass through it, and can be interrupted one by one.
//!
//! Which peer has opened a connection is read from its first bytes: each replica of k8sops has a Redis user with a name of its
//! own, and a Redis replica sends `PSYNC`.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

use k8sops_testing::redis::next_port;

/// The first bytes of a connection that are searched for its peer.
const HANDSHAKE_BYTES: usize = 8 * 1024;
/// The beginning of the names of Redis users, see [`replica_user`].
const USER_PREFIX: &str = "chaos-replica-";

/// Returns the name of the Redis user of a k8sops replica.
pub(crate) fn replica_user(index: usize) -> String {
    // The last character ends the number.
    format!("{USER_PREFIX}{index}.")
}

/// What has opened a connection to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LinkPeer {
    /// The replica of k8sops with this index.
    Service(usize),
    /// The Redis replica of the node with this proxy.
    Replication(u16),
}

/// What a proxy does with the connections of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    Open,
    /// Nothing is forwarded, and connections stay open. What waits is forwarded later.
    Blackholed,
    /// Connections are closed, and new ones, too.
    Reset,
}

/// The states of all links. A clone is the same object.
#[derive(Clone)]
pub(crate) struct LinkStates(Arc<watch::Sender<HashMap<LinkPeer, LinkState>>>);

impl LinkStates {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(HashMap::new())))
    }

    pub(crate) fn set(&self, peer: LinkPeer, state: LinkState) {
        self.0.send_modify(|states| {
            states.insert(peer, state);
        });
    }

    fn get(&self, peer: Option<LinkPeer>) -> LinkState {
        peer.and_then(|peer| self.0.borrow().get(&peer).copied()).unwrap_or(LinkState::Open)
    }
}

/// A proxy in front of one port. Dropping it closes the port; open connections end with their Redis node.
pub(crate) struct LinkProxy {
    pub port: u16,
    target: watch::Sender<u16>,
    _acceptor: AbortOnDropHandle<()>,
}

impl LinkProxy {
    /// Starts a proxy without a target: it closes all connections until [`Self::set_target`].
    pub(crate) async fn start(states: LinkStates) -> Self {
        let port = next_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let target = watch::Sender::new(0);
        let current_target = target.subscribe();
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = *current_target.borrow();
                tokio::spawn(forward_connection(client, port, target, states.clone()));
            }
        });
        Self { port, target, _acceptor: AbortOnDropHandle::new(acceptor) }
    }

    /// Forwards new connections to this port of the loopback interface.
    pub(crate) fn set_target(&self, target: u16) {
        self.target.send_replace(target);
    }
}

async fn forward_connection(client: TcpStream, port: u16, target: u16, states: LinkStates) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    // Without these, small packets wait for each other.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let peer = Arc::new(Mutex::new(None));
    tokio::select! {
        () = pump(client_reads, server_writes, &states, &peer, Some(port)) => {}
        () = pump(server_reads, client_writes, &states, &peer, None) => {}
        () = wait_for_reset(&states, &peer) => {}
    }
}

/// Forwards bytes until one side closes. `identify_at` is the port of the proxy if the bytes tell who the peer is.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    states: &LinkStates,
    peer: &Mutex<Option<LinkPeer>>,
    identify_at: Option<u16>,
) {
    let mut handshake = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if let Some(port) = identify_at
            && handshake.len() < HANDSHAKE_BYTES
        {
            handshake.extend_from_slice(&buffer[..count]);
            let found = identify_peer(&handshake, port);
            let mut peer = peer.lock();
            *peer = found.or(*peer);
        }
        // A connection that is opened during a reset ends here.
        if wait_until_decided(states, peer).await != LinkState::Open || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

fn identify_peer(handshake: &[u8], port: u16) -> Option<LinkPeer> {
    let text = String::from_utf8_lossy(handshake);
    if let Some((_, rest)) = text.split_once(USER_PREFIX) {
        return Some(LinkPeer::Service(rest.split_once('.')?.0.parse().ok()?));
    }
    text.contains("PSYNC").then_some(LinkPeer::Replication(port))
}

/// Waits while the link is blackholed. Returns what it is then.
async fn wait_until_decided(states: &LinkStates, peer: &Mutex<Option<LinkPeer>>) -> LinkState {
    let mut changes = states.0.subscribe();
    loop {
        let state = states.get(*peer.lock());
        if state != LinkState::Blackholed || changes.changed().await.is_err() {
            return state;
        }
    }
}

async fn wait_for_reset(states: &LinkStates, peer: &Mutex<Option<LinkPeer>>) {
    let mut changes = states.0.subscribe();
    while states.get(*peer.lock()) != LinkState::Reset {
        if changes.changed().await.is_err() {
            return;
        }
    }
}
