//! Sends notifications over HTTP, and only to addresses that are allowed.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{StatusCode, header};
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};

use super::{notification_source::PushNotification, push_config::PushConfig, target_policy::TargetPolicy};

/// The header with the token of a configuration, as the SDKs of A2A name it.
const TOKEN_HEADER: &str = "x-a2a-notification-token";
/// The header with an id that a repetition of the same notification has, too.
const NOTIFICATION_ID_HEADER: &str = "x-k8sops-notification-id";
/// How long an unused connection is kept.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Why a receiver has not accepted a notification. No message contains its URL or anything that it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SendFailure {
    #[error("the receiver is not allowed (K8SOPS_NOTIFY_ALLOW)")]
    NotAllowed,
    #[error("the receiver answered 410 Gone")]
    Gone,
    #[error("the receiver answered HTTP status {0}")]
    Status(u16),
    #[error("the receiver did not answer in time")]
    Timeout,
    #[error("the receiver cannot be reached, or all its addresses are refused")]
    Unreachable,
}

impl SendFailure {
    /// Whether another attempt cannot succeed.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::NotAllowed | Self::Gone)
    }
}

/// Sends a notification once.
#[async_trait]
pub(super) trait NotificationSender: Send + Sync + 'static {
    async fn send(
        &self,
        config: &PushConfig,
        notification: &PushNotification,
        content_type: &'static str,
    ) -> Result<(), SendFailure>;
}

/// Sends notifications over HTTP.
pub(super) struct HttpSender {
    client: Client,
    policy: Arc<TargetPolicy>,
}

impl HttpSender {
    pub(super) fn new(policy: Arc<TargetPolicy>, timeout: Duration) -> Result<Self, reqwest::Error> {
        Self::with_lookup(policy, timeout, Arc::new(|name| lookup_name(name).boxed()))
    }

    fn with_lookup(policy: Arc<TargetPolicy>, timeout: Duration, lookup: NameLookup) -> Result<Self, reqwest::Error> {
        let resolver = CheckedResolver { policy: policy.clone(), lookup };
        let client = Client::builder()
            .user_agent(concat!("k8sops/", env!("CARGO_PKG_VERSION")))
            // A redirect could lead to what was refused.
            .redirect(redirect::Policy::none())
            // A proxy would resolve names itself.
            .no_proxy()
            .dns_resolver(Arc::new(resolver))
            .timeout(timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(1)
            .build()?;
        Ok(Self { client, policy })
    }
}

#[async_trait]
impl NotificationSender for HttpSender {
    async fn send(
        &self,
        config: &PushConfig,
        notification: &PushNotification,
        content_type: &'static str,
    ) -> Result<(), SendFailure> {
        // Again, because the allowed targets may have changed since the configuration was made.
        let url = self.policy.check_url(&config.url).map_err(|_| SendFailure::NotAllowed)?;
        let position = notification.position;
        let id = format!("{}-{}-{}", config.task.run, position.seq, position.index);
        let mut request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, content_type)
            .header(NOTIFICATION_ID_HEADER, id)
            .body(notification.body.clone());
        if let Some(token) = config.token_header() {
            request = request.header(TOKEN_HEADER, token);
        }
        if let Some(authorization) = config.authorization_header() {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        // The body of the answer is not read.
        match request.send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) if response.status() == StatusCode::GONE => Err(SendFailure::Gone),
            Ok(response) => Err(SendFailure::Status(response.status().as_u16())),
            Err(error) if error.is_timeout() => Err(SendFailure::Timeout),
            Err(_) => Err(SendFailure::Unreachable),
        }
    }
}

/// Resolves a name to addresses.
type NameLookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

async fn lookup_name(name: String) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.collect())
}

/// Resolves names to allowed addresses only. The client connects to what this returns, so that a name that resolves to another
/// address a moment later (DNS rebinding) gains nothing.
struct CheckedResolver {
    policy: Arc<TargetPolicy>,
    lookup: NameLookup,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, looking_up) = (self.policy.clone(), (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let mut addresses = looking_up.await?;
            addresses.retain(|address| policy.allows_address(address.ip()));
            if addresses.is_empty() {
                return Err("no address of the receiver is allowed".into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
