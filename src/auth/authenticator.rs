//! Authenticates callers in the configured way.

use data_encoding::HEXLOWER;
use k8sops_core::UserId;
use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    api_keys::ApiKeyBackend,
    credentials::{Credentials, check_token_length},
    errors::{AuthError, AuthRejection},
    identity::{CallerIdentity, CredentialExpiry},
    jwt::JwtBackend,
    options::{AuthConfig, AuthMode},
    proxy::ProxyBackend,
    roles::RoleSet,
};

/// Authenticates callers.
pub struct Authenticator(AuthBackend);

enum AuthBackend {
    /// Decides without I/O.
    Local(LocalBackend),
    /// May have to fetch the issuer's keys.
    Jwt(Box<JwtBackend>),
}

enum LocalBackend {
    /// Authentication is off: every caller is this user.
    Disabled(UserId),
    ApiKeys(ApiKeyBackend),
    Proxy(ProxyBackend),
}

impl Authenticator {
    /// Starts the configured authentication. Background work (key file, issuer keys) runs on `tasks` until `cancel`. With
    /// authentication off every caller is `default_user`.
    ///
    /// # Errors
    /// The key file cannot be used, or the HTTP client for the issuer cannot be created.
    pub fn start(
        config: &AuthConfig,
        default_user: &UserId,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Result<Self, AuthError> {
        Ok(Self(match &config.mode {
            AuthMode::None => AuthBackend::Local(LocalBackend::Disabled(default_user.clone())),
            AuthMode::ApiKey { file } => {
                AuthBackend::Local(LocalBackend::ApiKeys(ApiKeyBackend::open(file, tasks, cancel)?))
            }
            AuthMode::Jwt(config) => AuthBackend::Jwt(Box::new(JwtBackend::start(config.clone(), tasks, cancel)?)),
            AuthMode::Proxy(config) => AuthBackend::Local(LocalBackend::Proxy(ProxyBackend::new(config.clone()))),
        }))
    }

    /// Whether authentication is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !matches!(self.0, AuthBackend::Local(LocalBackend::Disabled(_)))
    }

    /// Whether callers authenticate with a key or token of their own.
    #[must_use]
    pub fn accepts_tokens(&self) -> bool {
        matches!(self.0, AuthBackend::Local(LocalBackend::ApiKeys(_)) | AuthBackend::Jwt(_))
    }

    /// The issuer whose tokens are accepted, if callers authenticate with such tokens.
    #[must_use]
    pub fn token_issuer(&self) -> Option<&str> {
        match &self.0 {
            AuthBackend::Jwt(jwt) => Some(jwt.issuer_name()),
            AuthBackend::Local(_) => None,
        }
    }

    /// The authentication scheme for `WWW-Authenticate`.
    #[must_use]
    pub fn challenge_scheme(&self) -> &'static str {
        if matches!(self.0, AuthBackend::Local(LocalBackend::Proxy(_))) { "Proxy" } else { "Bearer" }
    }

    /// Authenticates the caller of a request.
    ///
    /// # Errors
    /// The credentials are missing or invalid, or cannot be verified at the moment.
    pub async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<CallerIdentity, AuthRejection> {
        match &self.0 {
            AuthBackend::Local(backend) => backend.authenticate(credentials),
            AuthBackend::Jwt(jwt) => jwt.authenticate(credentials.require_bearer()?).await,
        }
    }

    /// Returns the expiry of the API key with this SHA-256, in hexadecimal.
    ///
    /// # Errors
    /// The key is not in force.
    pub(super) fn find_key_expiry(&self, hash: &str) -> Result<CredentialExpiry, AuthRejection> {
        let hash = HEXLOWER.decode(hash.as_bytes()).ok().and_then(|hash| <[u8; 32]>::try_from(hash).ok());
        match (&self.0, hash) {
            (AuthBackend::Local(LocalBackend::ApiKeys(keys)), Some(hash)) => {
                keys.find_key(&hash).map(CredentialExpiry::Key)
            }
            _ => Err(AuthRejection::Invalid("the ticket was issued for a key, and keys are not accepted here".into())),
        }
    }

    /// Authenticates the owner of a key or token without a request.
    ///
    /// # Errors
    /// As for [`Self::authenticate`].
    pub async fn authenticate_token(&self, token: &str) -> Result<CallerIdentity, AuthRejection> {
        match &self.0 {
            AuthBackend::Local(backend) => {
                backend.authenticate(&Credentials { bearer: Some(token), peer: None, header: &|_| Vec::new() })
            }
            AuthBackend::Jwt(jwt) => {
                check_token_length(token)?;
                jwt.authenticate(token).await
            }
        }
    }
}

impl LocalBackend {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<CallerIdentity, AuthRejection> {
        match self {
            Self::Disabled(user) => Ok(CallerIdentity {
                user: user.clone(),
                roles: RoleSet::ALL,
                user_token: credentials.bearer.map(SecretString::from),
                expiry: CredentialExpiry::Never,
            }),
            Self::ApiKeys(keys) => keys.authenticate(credentials.require_bearer()?),
            Self::Proxy(proxy) => proxy.authenticate(credentials),
        }
    }
}
