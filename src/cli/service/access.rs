//! Finds the service that a command talks to, or starts one.

use anyhow::Context as _;
use reqwest::Url;
use secrecy::SecretString;

use super::{
    api_client::{ApiClient, ApiClientError, ServiceProbe},
    local_service::LocalService,
};
use crate::config::{TOKEN_VARIABLE, URL_VARIABLE};
use k8sops_core::is_loopback;

/// The service of a command that is given no address.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Where the service is, and who the user is.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceOptions {
    /// Base URL of the service [default: http://127.0.0.1:8080].
    #[arg(long, env = URL_VARIABLE, global = true)]
    url: Option<String>,
    /// API key or token of the user. Prefer the variable: other users of this machine can see command-line arguments.
    #[arg(long, env = TOKEN_VARIABLE, hide_env_values = true, global = true)]
    token: Option<SecretString>,
}

/// The service that a command uses.
pub(in crate::cli) struct ServiceAccess {
    pub(in crate::cli) client: ApiClient,
    /// The service that the command has started for itself.
    local: Option<LocalService>,
}

impl ServiceOptions {
    /// Returns a client of the service, which may not be running.
    ///
    /// # Errors
    /// The URL is not a service URL.
    pub(in crate::cli) fn client(&self) -> Result<ApiClient, ApiClientError> {
        let client = ApiClient::new(self.url().unwrap_or(DEFAULT_URL))?;
        Ok(match &self.token {
            Some(token) => client.with_token(token.clone()),
            None => client,
        })
    }

    /// Returns a client of the running service, or of one that is started in this process with the local configuration because
    /// none runs on this machine. `announce` is told before that.
    ///
    /// # Errors
    /// The service cannot be used, or none can be started.
    pub(in crate::cli) async fn connect_or_start(
        &self,
        announce: impl FnOnce(String),
    ) -> anyhow::Result<ServiceAccess> {
        let client = self.client()?;
        let reason = match client.probe().await {
            ServiceProbe::Answers => return Ok(ServiceAccess { client, local: None }),
            ServiceProbe::Absent(_) if is_on_this_machine(&client.address()) => {
                format!("no service at {}", client.address())
            }
            // Another program has the usual port, which says nothing about k8sops.
            ServiceProbe::Foreign(_) if self.url().is_none() => {
                format!("what answers at {} is not k8sops", client.address())
            }
            ServiceProbe::Absent(error) | ServiceProbe::Foreign(error) => return Err(error.into()),
        };
        announce(format!("{reason}; starting one for this command"));
        let (local, key) = LocalService::start().await.context("none can be started with this configuration")?;
        let client = ApiClient::new(&local.url)?.with_token(key);
        Ok(ServiceAccess { client, local: Some(local) })
    }

    /// An empty variable is none.
    fn url(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| !url.is_empty())
    }
}

impl ServiceAccess {
    /// Whether the service ends with the command.
    pub(in crate::cli) fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// Stops a service that the command has started.
    pub(in crate::cli) async fn close(self) {
        if let Some(local) = self.local {
            local.stop().await;
        }
    }
}

fn is_on_this_machine(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| url.host_str().is_some_and(is_loopback))
}
