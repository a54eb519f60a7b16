//! The check of authentication: whether the keys or the issuer are available, and whose the given key or token is.

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::report::{HealthCheck, ReportLine};
use crate::{
    api::ServerOptions,
    auth::{AuthConfig, AuthMode, AuthRejection, Authenticator},
};
use k8sops_core::{ErrorChain, UserId, is_loopback};

const SUBJECT: &str = "identity";

/// A well-formed token that no issuer has signed. Checking it fetches the keys of the issuer.
const UNSIGNED_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImRvY3RvciJ9.e30.AA";

/// Checks how callers are authenticated.
pub(super) struct IdentityCheck {
    pub(super) config: AuthConfig,
    pub(super) server: ServerOptions,
    /// The user of all callers if authentication is off.
    pub(super) default_user: UserId,
    /// The key or token to look up.
    pub(super) token: Option<SecretString>,
}

#[async_trait]
impl HealthCheck for IdentityCheck {
    fn subject(&self) -> String {
        SUBJECT.to_owned()
    }

    async fn run(self: Box<Self>) -> Vec<ReportLine> {
        vec![self.check_identity().await]
    }
}

impl IdentityCheck {
    async fn check_identity(&self) -> ReportLine {
        if let AuthMode::None = self.config.mode {
            return self.check_exposure();
        }
        let tasks = TaskTracker::new();
        let cancel = CancellationToken::new();
        let _cancel_on_drop = cancel.clone().drop_guard();
        let auth = match Authenticator::start(&self.config, &self.default_user, &tasks, &cancel) {
            Ok(auth) => auth,
            Err(error) => {
                return ReportLine::failed(
                    SUBJECT,
                    ErrorChain(&error).to_string(),
                    "create a key and its entry with `k8sops key`",
                );
            }
        };
        let mode = self.config.mode_name();
        let (AuthMode::ApiKey { .. } | AuthMode::Jwt(_)) = self.config.mode else {
            return ReportLine::passed(SUBJECT, format!("AUTH_MODE={mode}"));
        };
        let token = self.token.as_ref().map_or(UNSIGNED_TOKEN, |token| token.expose_secret());
        match (auth.authenticate_token(token).await, &self.token) {
            (Ok(caller), _) => {
                let found = format!("AUTH_MODE={mode}; the key or token belongs to {} ({})", caller.user, caller.roles);
                ReportLine::passed(SUBJECT, found)
            }
            (Err(AuthRejection::Unavailable(why)), _) => ReportLine::failed(SUBJECT, why, "check AUTH_JWT_ISSUER"),
            (Err(rejection), Some(_)) => {
                ReportLine::failed(SUBJECT, rejection.to_string(), "use another --token or K8SOPS_TOKEN")
            }
            (Err(_), None) => {
                ReportLine::passed(SUBJECT, format!("AUTH_MODE={mode}; --token shows whose a key or token is"))
            }
        }
    }

    /// Checks that a service without authentication cannot be reached from other machines.
    fn check_exposure(&self) -> ReportLine {
        let host = &self.server.host;
        if is_loopback(host) {
            ReportLine::passed(SUBJECT, format!("AUTH_MODE=none on {host} only: all local callers are one user"))
        } else if self.config.allow_insecure {
            ReportLine::notice(
                SUBJECT,
                "callers are not authenticated, on an exposed address (AUTH_ALLOW_INSECURE=true)",
            )
        } else {
            let found = format!("AUTH_MODE=none, and {host} is not the loopback interface");
            ReportLine::failed(SUBJECT, found, "set AUTH_MODE to api_key, jwt or proxy, or K8SOPS_HOST=127.0.0.1")
        }
    }
}
