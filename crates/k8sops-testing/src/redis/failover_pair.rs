//! A server and its replica behind one address, for failovers that lose acknowledged writes.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::{
    flavor::RedisFlavor,
    sentinel::{start_replica, wait_until_caught_up},
    server::{RedisServer, START_TIMEOUT},
};
use crate::eventually_within;

/// A server and its replica. Clients connect to an address that leads to the one or the other.
pub struct RedisFailoverPair {
    primary: RedisServer,
    replica: RedisServer,
    address: String,
    /// The port that the address leads to. A change cuts all connections.
    target: watch::Sender<u16>,
    forwarder: JoinHandle<()>,
}

impl RedisFailoverPair {
    /// Starts both, with the address leading to the primary.
    pub async fn start(flavor: RedisFlavor) -> Self {
        let primary = RedisServer::start(flavor).await;
        let replica = start_replica(flavor, &primary).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target = watch::Sender::new(primary.port());
        let forwarder = tokio::spawn(forward_connections(listener, target.subscribe()));
        Self { primary, replica, address, target, forwarder }
    }

    /// Returns the URL for clients.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Stops the replication: from now on the replica lags.
    pub async fn stop_replication(&self) {
        wait_until_caught_up(&self.primary, &self.replica).await;
        self.replica.cli(&["REPLICAOF", "NO", "ONE"]).await;
    }

    /// Returns the primary.
    pub fn primary(&self) -> &RedisServer {
        &self.primary
    }

    /// Returns the replica, which can be paused.
    pub fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// Kills the primary and leads the address to the replica.
    pub async fn promote_replica(&self) {
        self.primary.kill().await;
        self.target.send_replace(self.replica.port());
    }

    /// Starts the former primary again, as a replica of the promoted one.
    pub async fn restart_as_replica(&self) {
        self.primary.restart().await;
        let port = self.replica.port().to_string();
        self.primary.cli(&["REPLICAOF", "127.0.0.1", &port]).await;
        eventually_within(START_TIMEOUT, "the former primary follows", async || {
            self.primary.cli(&["INFO", "replication"]).await.contains("master_link_status:up")
        })
        .await;
    }
}

impl Drop for RedisFailoverPair {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

async fn forward_connections(listener: TcpListener, target: watch::Receiver<u16>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(forward_connection(client, target.clone()));
    }
}

async fn forward_connection(mut client: TcpStream, mut target: watch::Receiver<u16>) {
    let port = *target.borrow_and_update();
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    tokio::select! {
        // An error is the end of the connection as well.
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = target.changed() => {}
    }
}
