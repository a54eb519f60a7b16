//! The public keys of an OIDC issuer (JWKS).
//!
//! One task fetches the keys: at startup, every few minutes, and when a token names an unknown key, but never more often than
//! [`MIN_FETCH_INTERVAL`]. While the issuer is unavailable, the previous keys stay valid for [`MAX_KEY_AGE`].

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{Jwk, KeyAlgorithm, PublicKeyUse},
};
use k8sops_core::{ErrorChain, UserId};
use lru::LruCache;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{clock::unix_now, errors::AuthRejection, roles::RoleSet};

/// The minimum time between two fetches: a flood of tokens with made-up keys does not cause more requests to the issuer.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(10);
/// How often the keys are refreshed. A key that the issuer withdraws is rejected after that time.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// How long keys stay valid while the issuer is unavailable.
const MAX_KEY_AGE: Duration = Duration::from_secs(12 * 3600);
/// How long a request waits for a fetch.
const FETCH_WAIT: Duration = Duration::from_secs(5);
/// The largest accepted document of the issuer.
const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// The number of keys that are used from one key set.
const MAX_KEYS: usize = 100;
/// The number of verified tokens that are cached, so that their signatures are not verified for each request.
const VERIFIED_TOKENS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// Why the keys of the issuer cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum JwksError {
    #[error("cannot fetch {url}")]
    Request { url: String, source: reqwest::Error },
    #[error("cannot fetch {url}: HTTP status {status}")]
    Status { url: String, status: u16 },
    #[error("cannot fetch {url}: the response is larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge { url: String },
    #[error("{url} is not an OIDC discovery document")]
    Discovery { url: String, source: serde_json::Error },
    #[error("{url} belongs to another issuer; AUTH_JWT_ISSUER must equal its `issuer` exactly")]
    OtherIssuer { url: String },
    #[error("{url} refers to keys without TLS")]
    Insecure { url: String },
    #[error("{url} is not a JSON Web Key Set")]
    KeySet { url: String, source: serde_json::Error },
    #[error("{url} contains no public signature key")]
    NoKeys { url: String },
}

/// The latest result of fetching.
#[derive(Clone, Default)]
struct IssuerState {
    keys: Option<Arc<IssuerKeySet>>,
    last_fetch: Option<Instant>,
    /// The error of the last fetch, if it failed.
    error: Option<Arc<JwksError>>,
}

/// Access to the keys of the issuer.
pub(super) struct IssuerKeys {
    state: watch::Receiver<IssuerState>,
    refresh: Arc<Notify>,
}

impl IssuerKeys {
    /// Starts to fetch keys on `tasks`, until `cancel`.
    pub(super) fn start(
        http: reqwest::Client,
        issuer: String,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Self {
        let (sender, state) = watch::channel(IssuerState::default());
        let refresh = Arc::new(Notify::new());
        let fetching = refresh_keys(http, issuer, sender, refresh.clone());
        tasks.spawn(cancel.clone().run_until_cancelled_owned(fetching));
        Self { state, refresh }
    }

    /// Returns the keys in force.
    pub(super) fn current(&self) -> Option<Arc<IssuerKeySet>> {
        self.state.borrow().keys.clone().filter(|keys| keys.fetched.elapsed() < MAX_KEY_AGE)
    }

    /// Fetches the keys again, unless that was done recently, and returns the keys in force.
    pub(super) async fn refresh(&self) -> Result<Arc<IssuerKeySet>, AuthRejection> {
        let mut state = self.state.clone();
        let last_fetch = state.borrow_and_update().last_fetch;
        if last_fetch.is_none_or(|at| at.elapsed() >= MIN_FETCH_INTERVAL) {
            self.refresh.notify_one();
            let _ = timeout(FETCH_WAIT, state.changed()).await;
        }
        self.current().ok_or_else(|| self.unavailable())
    }

    /// Whether the last fetch failed.
    pub(super) fn is_failing(&self) -> bool {
        self.state.borrow().error.is_some()
    }

    pub(super) fn unavailable(&self) -> AuthRejection {
        let why = match &self.state.borrow().error {
            Some(error) => ErrorChain(&**error).to_string(),
            None => "the issuer has not responded yet".to_owned(),
        };
        AuthRejection::Unavailable(format!("tokens cannot be verified at the moment: {why}; retry later"))
    }
}

/// The issuer's keys, and the tokens that were verified with them.
pub(super) struct IssuerKeySet {
    keys: Vec<SigningKey>,
    fetched: Instant,
    /// By the SHA-256 of the token. The lock is only held for a lookup.
    verified: Mutex<LruCache<[u8; 32], Arc<VerifiedToken>>>,
}

/// A public key that verifies signatures.
pub(super) struct SigningKey {
    id: Option<String>,
    family: AlgorithmFamily,
    algorithm: Option<KeyAlgorithm>,
    pub(super) key: DecodingKey,
}

/// The claims of a verified token.
pub(super) struct VerifiedToken {
    pub(super) user: UserId,
    pub(super) roles: RoleSet,
    /// When the token expires, in seconds since 1970, including the tolerated clock skew.
    pub(super) expires_at: u64,
}

impl IssuerKeySet {
    fn new(keys: Vec<SigningKey>, fetched: Instant) -> Self {
        Self { keys, fetched, verified: Mutex::new(LruCache::new(VERIFIED_TOKENS)) }
    }

    /// Finds the key that a token names. A token without a key id matches only if a single key fits its algorithm.
    pub(super) fn find_key(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&SigningKey> {
        let mut fitting = self.keys.iter().filter(|key| {
            key.family.algorithms().contains(&algorithm)
                && key.algorithm.is_none_or(|of_key| of_key == KeyAlgorithm::from(algorithm))
        });
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }

    /// Returns a token that was verified before and has not expired.
    pub(super) fn verified_token(&self, digest: &[u8; 32]) -> Option<Arc<VerifiedToken>> {
        self.verified.lock().get(digest).filter(|token| token.expires_at > unix_now()).cloned()
    }

    pub(super) fn add_verified_token(&self, digest: [u8; 32], token: Arc<VerifiedToken>) {
        self.verified.lock().put(digest, token);
    }
}

/// Fetches the issuer's keys periodically and on demand. Never returns.
async fn refresh_keys(http: reqwest::Client, issuer: String, state: watch::Sender<IssuerState>, refresh: Arc<Notify>) {
    loop {
        let fetched = fetch_keys(&http, &issuer).await;
        let now = Instant::now();
        let succeeded = fetched.is_ok();
        state.send_modify(|state| {
            state.last_fetch = Some(now);
            match fetched {
                Ok(keys) => {
                    if state.error.take().is_some() {
                        tracing::info!("token issuer available again");
                    }
                    state.keys = Some(Arc::new(IssuerKeySet::new(keys, now)));
                }
                Err(error) => {
                    if state.error.is_none() {
                        tracing::warn!(error = %ErrorChain(&error), "token issuer unavailable, keeping previous keys");
                    }
                    state.error = Some(Arc::new(error));
                }
            }
        });
        tokio::time::sleep(MIN_FETCH_INTERVAL).await;
        if succeeded {
            let _ = timeout(REFRESH_INTERVAL, refresh.notified()).await;
        }
    }
}

#[derive(Deserialize)]
struct DiscoveryDocument {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySetDocument {
    keys: Vec<Value>,
}

async fn fetch_keys(http: &reqwest::Client, issuer: &str) -> Result<Vec<SigningKey>, JwksError> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let discovery: DiscoveryDocument = match serde_json::from_slice(&fetch_document(http, &url).await?) {
        Ok(discovery) => discovery,
        Err(source) => return Err(JwksError::Discovery { url, source }),
    };
    // Otherwise one issuer could vouch for tokens of another.
    if discovery.issuer != issuer {
        return Err(JwksError::OtherIssuer { url });
    }
    if !discovery.jwks_uri.starts_with("https://") && !issuer.starts_with("http://") {
        return Err(JwksError::Insecure { url });
    }
    let url = discovery.jwks_uri;
    let set: KeySetDocument = match serde_json::from_slice(&fetch_document(http, &url).await?) {
        Ok(set) => set,
        Err(source) => return Err(JwksError::KeySet { url, source }),
    };
    // Keys of unknown types are skipped: the other keys are still usable.
    let signing_keys: Vec<SigningKey> = set.keys.iter().take(MAX_KEYS).filter_map(parse_signing_key).collect();
    if signing_keys.is_empty() {
        return Err(JwksError::NoKeys { url });
    }
    Ok(signing_keys)
}

fn parse_signing_key(key: &Value) -> Option<SigningKey> {
    let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    // A shared secret in a public document cannot verify anything.
    let family = Some(key.family()).filter(|family| *family != AlgorithmFamily::Hmac)?;
    Some(SigningKey { id: jwk.common.key_id, family, algorithm: jwk.common.key_algorithm, key })
}

async fn fetch_document(http: &reqwest::Client, url: &str) -> Result<Vec<u8>, JwksError> {
    let failed = |error: reqwest::Error| JwksError::Request { url: url.to_owned(), source: error.without_url() };
    let mut response = http.get(url).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(JwksError::Status { url: url.to_owned(), status: response.status().as_u16() });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_DOCUMENT_BYTES {
            return Err(JwksError::TooLarge { url: url.to_owned() });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// Starts to fetch keys of an issuer that was available until now, when it published `key`.
    pub(in crate::auth) fn keys_of_unavailable_issuer(issuer: &str, key: &Value) -> IssuerKeys {
        let keys = Arc::new(IssuerKeySet::new(vec![parse_signing_key(key).unwrap()], Instant::now()));
        let (sender, state) = watch::channel(IssuerState { keys: Some(keys), ..IssuerState::default() });
        let refresh = Arc::new(Notify::new());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        tokio::spawn(refresh_keys(http, issuer.to_owned(), sender, refresh.clone()));
        IssuerKeys { state, refresh }
    }

    impl IssuerKeys {
        /// Waits until a fetch has failed, and returns when the last successful one was made.
        pub(in crate::auth) async fn failed_since(&self) -> Instant {
            let mut state = self.state.clone();
            let state = state.wait_for(|state| state.error.is_some()).await.unwrap();
            state.keys.as_ref().unwrap().fetched
        }
    }

    #[test]
    fn key_must_be_for_signatures_and_fit_the_algorithm() {
        let rsa = |extra: Value| {
            let mut key = json!({"kty": "RSA", "n": "u1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0_IzW7yWR7QkrmBL7jTKEn5u", "e": "AQAB"});
            key.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            parse_signing_key(&key)
        };
        assert!(rsa(json!({"use": "enc"})).is_none());
        assert!(parse_signing_key(&json!({"kty": "oct", "k": "c2VjcmV0"})).is_none());
        assert!(parse_signing_key(&json!({"kty": "PQC", "alg": "ML-DSA-65", "pub": "x"})).is_none());
        let set =
            |keys: Vec<Option<SigningKey>>| IssuerKeySet::new(keys.into_iter().flatten().collect(), Instant::now());
        let one = set(vec![rsa(json!({"kid": "a", "use": "sig", "alg": "RS256"}))]);
        assert!(one.find_key(Some("a"), Algorithm::RS256).is_some() && one.find_key(None, Algorithm::RS256).is_some());
        assert!(one.find_key(Some("a"), Algorithm::PS256).is_none(), "the key is for another algorithm");
        assert!(one.find_key(Some("a"), Algorithm::ES256).is_none());
        assert!(one.find_key(Some("b"), Algorithm::RS256).is_none());
        let two = set(vec![rsa(json!({"kid": "a"})), rsa(json!({"kid": "b"}))]);
        assert!(two.find_key(None, Algorithm::RS256).is_none(), "either key may have signed it");
        assert!(two.find_key(Some("b"), Algorithm::PS256).is_some());
    }
}
