//! Options of authentication.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use jsonwebtoken::Algorithm;

/// The `auth` section; `AUTH_*`.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// `AUTH_MODE`, with all that the mode needs.
    pub mode: AuthMode,
    /// `AUTH_ALLOW_INSECURE`: listen elsewhere than on loopback though nobody is authenticated.
    pub allow_insecure: bool,
    /// `AUTH_METRICS`: who may read `/metrics`.
    pub metrics: MetricsAccess,
}

/// How callers are known.
#[derive(Debug, Clone)]
pub enum AuthMode {
    /// Not at all: everybody is the user of `MEMORY_USER_ID`.
    None,
    /// By keys that the operator gives out.
    ApiKey {
        /// The file that lists them by their hashes.
        file: PathBuf,
    },
    /// By signed tokens of an OIDC issuer.
    Jwt(JwtConfig),
    /// By a header that a proxy sets, which has authenticated them.
    Proxy(ProxyConfig),
}

/// What a token must be.
#[derive(Debug, Clone)]
pub struct JwtConfig {
    /// The issuer, to the letter of its `iss`; its discovery document is below it.
    pub issuer: String,
    /// What must be in `aud`.
    pub audience: String,
    /// What it may be signed by; public keys only.
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may differ (60 s).
    pub clock_skew: Duration,
    /// The claim that names the user (`sub`).
    pub user_claim: String,
    /// The claim that lists roles; absent: everybody is a `user`.
    pub roles_claim: Option<String>,
}

/// Whom to believe, and in what.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// The header that names the user.
    pub user_header: String,
    /// The header that lists roles; absent: everybody is a `user`.
    pub roles_header: Option<String>,
    /// The addresses of proxies.
    pub sources: Vec<IpNet>,
}

/// Who may read `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Everybody who can reach it.
    Open,
    /// Callers with the role `admin`.
    Admin,
}

impl AuthConfig {
    /// The mode, as `AUTH_MODE` spells it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.mode {
            AuthMode::None => "none",
            AuthMode::ApiKey { .. } => "api_key",
            AuthMode::Jwt(_) => "jwt",
            AuthMode::Proxy(_) => "proxy",
        }
    }
}
