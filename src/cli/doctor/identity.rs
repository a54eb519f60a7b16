//! Who may call: whether keys or the issuer can be had, and who the given key or token is.

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Check, Line};
use crate::{
    api::ServerOptions,
    auth::{AuthConfig, AuthMode, AuthRejection, Authenticator},
};
use k8sops_core::{UserId, is_loopback};

/// Tries how callers are known.
pub struct IdentityCheck {
    /// How.
    pub config: AuthConfig,
    /// Where it listens.
    pub server: ServerOptions,
    /// The user when nobody is authenticated.
    pub everybody: UserId,
    /// Who somebody with this would be.
    pub token: Option<SecretString>,
}

#[async_trait]
impl Check for IdentityCheck {
    fn what(&self) -> String {
        "identity".to_owned()
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        let what = "identity";
        if let AuthMode::None = self.config.mode {
            return vec![if is_loopback(&self.server.host) {
                Line::ok(what, format!("AUTH_MODE=none, on {} only: everybody here is one user", self.server.host))
            } else if self.config.allow_insecure {
                Line::note(what, "nobody is authenticated, and others can reach it (AUTH_ALLOW_INSECURE=true)")
            } else {
                let found = format!("AUTH_MODE=none, and {} is not the loopback interface", self.server.host);
                Line::fail(what, found, "set AUTH_MODE to api_key, jwt or proxy, or K8SOPS_HOST=127.0.0.1")
            }];
        }
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let _ends_with_this = cancel.clone().drop_guard();
        let auth = match Authenticator::start(&self.config, &self.everybody, &tasks, &cancel) {
            Ok(auth) => auth,
            Err(error) => {
                return vec![Line::fail(
                    what,
                    crate::error_chain::ErrorChain(&error).to_string(),
                    "make a key and its entry with `k8sops key`",
                )];
            }
        };
        let word = self.config.mode_name();
        let (AuthMode::ApiKey { .. } | AuthMode::Jwt(_)) = self.config.mode else {
            return vec![Line::ok(what, format!("AUTH_MODE={word}"))];
        };
        // Without a token something that is none is asked about: that fetches the issuer's keys, too.
        let nobody = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImRvY3RvciJ9.e30.AA";
        let token = self.token.as_ref().map_or(nobody, |token| token.expose_secret());
        vec![match (auth.authenticate_token(token).await, &self.token) {
            (Ok(caller), _) => {
                Line::ok(what, format!("AUTH_MODE={word}; the key or token is {}'s ({})", caller.user, caller.roles))
            }
            (Err(AuthRejection::Unavailable(why)), _) => Line::fail(what, why, "see to AUTH_JWT_ISSUER"),
            (Err(refusal), Some(_)) => Line::fail(what, refusal.to_string(), "give another --token, or K8SOPS_TOKEN"),
            (Err(_), None) => Line::ok(what, format!("AUTH_MODE={word}; --token tells whose a key or token is")),
        }]
    }
}
