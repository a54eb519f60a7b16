//! Who a caller is: from what came with a request to a user and their roles.
//!
//! This room owns keys, tokens of an issuer, headers of a trusted proxy, and what roles may do. It knows no HTTP: it is
//! handed what was presented, as text, and says who that is or why it is nobody.
//!
//! ```text
//! Presented ─▶ Authenticator ─┬─ none:  the one user
//!                             ├─ keys:  a file of hashes, looked at again and again
//!                             ├─ jwt:   the issuer's public keys, fetched again and again
//!                             └─ proxy: a header, from listed addresses
//!                                   └─▶ Identity: user, roles, and when that is over
//! ```

mod jwt;
mod keys;
mod options;
mod proxy;
mod roles;
mod users;

use std::{net::IpAddr, time::Duration};

use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use keys::{KeyFileError, NewKey};
pub use options::{AuthConfig, AuthMode, AuthModeName, AuthOptions, JwtOptions, MetricsAccess, ProxyOptions};
pub use roles::{Role, Roles};
pub use users::user_id;

use k8sops_core::UserId;

/// The longest token that is looked at, in bytes. Tokens of large organisations have some thousand; a request's head has no
/// room for more than 128 KiB.
const MAX_TOKEN: usize = 16 * 1024;

/// What came with a request.
pub struct Presented<'a> {
    /// The bearer token.
    pub bearer: Option<&'a str>,
    /// The address of the other side of the connection, not one that a header claims.
    pub peer: Option<IpAddr>,
    /// All values of a header.
    pub header: &'a dyn Fn(&str) -> Vec<String>,
}

/// A caller who is known.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Whose sessions they reach.
    pub user: UserId,
    /// What they may do.
    pub roles: Roles,
    /// The token that is theirs to be passed on to MCP servers; never a key of k8sops.
    pub own_token: Option<SecretString>,
    lapse: Lapse,
}

impl Identity {
    /// Is done when the caller is not known any more by what they presented: the key was revoked or changed, the token has
    /// expired. Never, where nothing can lapse.
    pub fn lapse(&self) -> impl Future<Output = ()> + Send + use<> {
        let lapse = self.lapse.clone();
        async move {
            match lapse {
                Lapse::Never => std::future::pending().await,
                Lapse::At(at) => sleep_until(at).await,
                Lapse::Key(key) => key.lapsed().await,
            }
        }
    }
}

/// When an identity is over.
#[derive(Debug, Clone)]
enum Lapse {
    Never,
    /// Seconds since 1970.
    At(u64),
    Key(keys::Held),
}

/// Sleeps until so many seconds since 1970. In pieces, so that a clock that is set is followed.
async fn sleep_until(at: u64) {
    loop {
        let left = at.saturating_sub(now());
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(left.min(60))).await;
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    u64::try_from(k8sops_core::Timestamp::now().as_millis() / 1000).unwrap_or(0)
}

/// Why a caller is nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing was presented that could name anybody.
    #[error("{0}")]
    Missing(&'static str),
    /// What was presented is not valid. Says why as far as that helps its owner, and nothing of it.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be checked now.
    #[error("{0}")]
    Unavailable(String),
}

/// Why nobody could ever be known.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The client for the issuer.
    #[error("the client for AUTH_JWT_ISSUER cannot be made: {0}")]
    Client(String),
}

/// Says who callers are.
pub struct Authenticator(Way);

enum Way {
    None(UserId),
    Keys(keys::Keys),
    Jwt(Box<jwt::Jwt>),
    Proxy(proxy::Proxy),
}

impl Authenticator {
    /// As configured. What has to be kept up to date is, on `tasks`, until `cancel`. Where nobody is authenticated everybody
    /// is `everybody`.
    ///
    /// # Errors
    /// The file of keys cannot be used.
    pub fn start(
        config: &AuthConfig,
        everybody: &UserId,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Result<Self, AuthError> {
        Ok(Self(match &config.mode {
            AuthMode::None => Way::None(everybody.clone()),
            AuthMode::ApiKey { file } => Way::Keys(keys::Keys::open(file, tasks, cancel)?),
            AuthMode::Jwt(config) => Way::Jwt(Box::new(jwt::Jwt::start(config.clone(), tasks, cancel)?)),
            AuthMode::Proxy(config) => Way::Proxy(proxy::Proxy::new(config.clone())),
        }))
    }

    /// Whether callers are told from each other at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !matches!(self.0, Way::None(_))
    }

    /// Whether callers say with a key or a token who they are.
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        matches!(self.0, Way::Keys(_) | Way::Jwt(_))
    }

    /// The scheme by which a caller is to say who they are, for `WWW-Authenticate`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if matches!(self.0, Way::Proxy(_)) { "Proxy" } else { "Bearer" }
    }

    /// Who it is.
    ///
    /// # Errors
    /// Nobody.
    pub async fn identify(&self, presented: &Presented<'_>) -> Result<Identity, Refusal> {
        match self.at_once(presented) {
            Ok(known) => known,
            Err((jwt, token)) => jwt.identify(token).await,
        }
    }

    /// Who has this key or token, where nothing else can say it.
    ///
    /// # Errors
    /// Nobody.
    pub async fn whose(&self, token: &str) -> Result<Identity, Refusal> {
        let found = self.at_once(&Presented { bearer: Some(token), peer: None, header: &|_| Vec::new() });
        match found {
            Ok(known) => known,
            Err((jwt, token)) => jwt.identify(token).await,
        }
    }

    /// Who it is, or the token that the issuer's keys tell.
    fn at_once<'a>(&'a self, presented: &Presented<'a>) -> Result<Result<Identity, Refusal>, (&'a jwt::Jwt, &'a str)> {
        let bearer = || match presented.bearer {
            None => Err(Refusal::Missing("send a key or token: Authorization: Bearer …")),
            Some(token) if token.len() > MAX_TOKEN => {
                Err(Refusal::Invalid(format!("the token is longer than {MAX_TOKEN} bytes")))
            }
            Some(token) => Ok(token),
        };
        Ok(match &self.0 {
            Way::None(user) => Ok(Identity {
                user: user.clone(),
                roles: Roles::ALL,
                own_token: presented.bearer.map(SecretString::from),
                lapse: Lapse::Never,
            }),
            Way::Keys(keys) => bearer().and_then(|token| keys.identify(token)),
            Way::Proxy(proxy) => proxy.identify(presented),
            Way::Jwt(jwt) => match bearer() {
                Ok(token) => return Err((jwt, token)),
                Err(refusal) => Err(refusal),
            },
        })
    }
}
