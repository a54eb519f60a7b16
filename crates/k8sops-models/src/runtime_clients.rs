//! One HTTP client for each async runtime.

use std::{collections::HashMap, io, time::Duration};

use parking_lot::RwLock;
use reqwest::{Client, redirect};
use tokio::{
    runtime::{Handle, Id},
    task::spawn_blocking,
};

/// The HTTP clients of one provider. A connection lives on the runtime that opened it, and the tokens of a reply should wake no
/// other thread, so each runtime has its own.
///
/// A client is created at the first call, because it reads the CA certificates of the machine: a provider that is never called
/// must not fail the startup if they are missing.
#[derive(Debug)]
pub(crate) struct RuntimeClients {
    connect_timeout: Duration,
    uses_proxy: bool,
    clients: RwLock<HashMap<Id, Client>>,
}

impl RuntimeClients {
    pub(crate) fn new(connect_timeout: Duration, uses_proxy: bool) -> Self {
        Self { connect_timeout, uses_proxy, clients: RwLock::default() }
    }

    /// Returns the client of the current runtime.
    ///
    /// # Errors
    /// There are no CA certificates, or the runtime shuts down.
    pub(crate) async fn client_of_runtime(&self) -> io::Result<Client> {
        let runtime = Handle::current().id();
        if let Some(client) = self.clients.read().get(&runtime) {
            return Ok(client.clone());
        }
        let (connect_timeout, uses_proxy) = (self.connect_timeout, self.uses_proxy);
        // Reading the certificates takes tens of milliseconds.
        let client = spawn_blocking(move || build_client(connect_timeout, uses_proxy)).await;
        let client = client?.map_err(io::Error::other)?;
        Ok(self.clients.write().entry(runtime).or_insert(client).clone())
    }
}

fn build_client(connect_timeout: Duration, uses_proxy: bool) -> Result<Client, reqwest::Error> {
    // The whole reply has no time limit, since it may take minutes: `ProviderEventStream` limits the gaps.
    // Redirects are not followed, because the key in `x-api-key` would be sent to their target.
    let mut builder = Client::builder()
        .user_agent(concat!("k8sops/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .redirect(redirect::Policy::none());
    if !uses_proxy {
        builder = builder.no_proxy();
    }
    builder.build()
}
