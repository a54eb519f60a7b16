//! Tokens of an OIDC issuer: signed by a key that its discovery document leads to.
//!
//! One task fetches the keys: at the start, every few minutes, and when a token names a key that is not known, though not
//! more often than [`FLOOR`], whatever comes in. While the issuer is away, those of before hold for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{Jwk, KeyAlgorithm, PublicKeyUse},
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{AuthError, Identity, Lapse, Refusal, Roles, now, user_id};
use crate::auth::JwtOptions;
use k8sops_core::UserId;

/// The least time between two fetches: a flood of tokens with made-up keys costs the issuer no more than this.
const FLOOR: Duration = Duration::from_secs(10);
/// How old keys get before they are fetched again: a key that the issuer withdraws is refused after that.
const REFRESH: Duration = Duration::from_secs(300);
/// How long the keys hold while the issuer is away.
const STALE: Duration = Duration::from_secs(12 * 3600);
/// How long a request waits for keys that are being fetched.
const WAIT: Duration = Duration::from_secs(5);
/// How long one fetch may take.
const FETCH: Duration = Duration::from_secs(10);
/// The largest document of the issuer.
const MAX_DOCUMENT: usize = 1 << 20;
/// Keys that are taken from one set.
const MAX_KEYS: usize = 100;
/// Tokens that are remembered as checked. With one more all are forgotten and checked again: a bound, not a cache.
const MAX_CHECKED: usize = 10_000;

/// What the issuer said last.
#[derive(Clone, Default)]
struct Issuer {
    keys: Option<Arc<KeySet>>,
    /// When it was asked last.
    asked: Option<Instant>,
    /// What is wrong, if the last fetch failed.
    fault: Option<String>,
}

/// The issuer's keys, and the tokens that were found to be signed by them.
struct KeySet {
    keys: Vec<Signer>,
    fetched: Instant,
    /// By the digest of the token. A `std` lock: held for a look-up only.
    checked: Mutex<HashMap<[u8; 32], Arc<Checked>>>,
}

struct Signer {
    id: Option<String>,
    family: AlgorithmFamily,
    algorithm: Option<KeyAlgorithm>,
    key: DecodingKey,
}

/// What a valid token says.
struct Checked {
    user: UserId,
    roles: Roles,
    /// Until when it holds, clocks that differ included.
    until: u64,
}

pub(super) struct Jwt {
    config: Arc<JwtOptions>,
    issuer: watch::Receiver<Issuer>,
    ask: Arc<Notify>,
}

impl Jwt {
    /// Fetches keys until `cancel`.
    pub(super) fn start(
        config: JwtOptions,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Result<Self, AuthError> {
        let mut http = reqwest::Client::builder()
            .timeout(FETCH)
            // A redirect could lead to where no TLS vouches for the keys.
            .redirect(reqwest::redirect::Policy::none());
        if config.issuer.starts_with("http://") {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| AuthError::Client(error.to_string()))?;
        let config = Arc::new(config);
        let (said, issuer) = watch::channel(Issuer::default());
        let ask = Arc::new(Notify::new());
        let fetching = keep_up(http, config.clone(), said, ask.clone());
        tasks.spawn(cancel.clone().run_until_cancelled_owned(fetching));
        Ok(Self { config, issuer, ask })
    }

    pub(super) async fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let known = self.known();
        if let Some(checked) = known.as_ref().and_then(|keys| keys.recall(&digest)) {
            return Ok(checked.identity(token));
        }
        let header = decode_header(token).map_err(|_| Refusal::Invalid("the token is no JWT".into()))?;
        // Only what the operator allows, whatever the token says of itself.
        if !self.config.algorithms.contains(&header.alg) {
            return Err(Refusal::Invalid("the token's algorithm is not allowed (AUTH_JWT_ALGORITHMS)".into()));
        }
        if header.crit.is_some() {
            return Err(Refusal::Invalid("the token demands extensions (crit) that are not known".into()));
        }
        let (id, algorithm) = (header.kid.as_deref(), header.alg);
        let keys = match known.filter(|keys| keys.find(id, algorithm).is_some()) {
            Some(keys) => keys,
            None => self.newer_keys().await?,
        };
        let Some(signer) = keys.find(id, algorithm) else {
            // While the issuer does not give its keys it may well have named this one.
            if self.issuer.borrow().fault.is_some() {
                return Err(self.unavailable());
            }
            let why =
                if id.is_some() { "by a key that its issuer does not name" } else { "and does not say by which key" };
            return Err(Refusal::Invalid(format!("the token is signed {why}")));
        };
        let checked = Arc::new(self.check(token, signer, algorithm)?);
        keys.remember(digest, checked.clone());
        Ok(checked.identity(token))
    }

    /// The keys in force.
    fn known(&self) -> Option<Arc<KeySet>> {
        self.issuer.borrow().keys.clone().filter(|keys| keys.fetched.elapsed() < STALE)
    }

    /// The keys after the issuer was asked once more, if it may be by now.
    async fn newer_keys(&self) -> Result<Arc<KeySet>, Refusal> {
        let mut issuer = self.issuer.clone();
        let asked = issuer.borrow_and_update().asked;
        if asked.is_none_or(|at| at.elapsed() >= FLOOR) {
            self.ask.notify_one();
            let _ = timeout(WAIT, issuer.changed()).await;
        }
        self.known().ok_or_else(|| self.unavailable())
    }

    fn unavailable(&self) -> Refusal {
        let fault = self.issuer.borrow().fault.clone();
        Refusal::Unavailable(format!(
            "tokens cannot be checked now: {}; try again in a moment",
            fault.unwrap_or_else(|| "the issuer has not answered yet".into())
        ))
    }

    fn check(&self, token: &str, signer: &Signer, algorithm: Algorithm) -> Result<Checked, Refusal> {
        let JwtOptions { issuer, audience, clock_skew, user_claim, roles_claim, .. } = &*self.config;
        let mut validation = Validation::new(algorithm);
        validation.leeway = clock_skew.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = decode::<Map<String, Value>>(token, &signer.key, &validation).map_err(|error| {
            Refusal::Invalid(match error.kind() {
                ErrorKind::ExpiredSignature => "the token has expired".into(),
                ErrorKind::ImmatureSignature => "the token is not valid yet (nbf)".into(),
                ErrorKind::InvalidIssuer => "the token is of another issuer".into(),
                ErrorKind::InvalidAudience => "the token is for somebody else (aud)".into(),
                ErrorKind::MissingRequiredClaim(claim) => format!("the token has no {claim}"),
                ErrorKind::InvalidSignature => "the token's signature is wrong".into(),
                _ => "the token is not valid".to_owned(),
            })
        })?;
        let claims = claims.claims;
        // A list of issuers that the library takes when ours is among them.
        if !claims.get("iss").is_some_and(Value::is_string) {
            return Err(Refusal::Invalid("the token is of several issuers".into()));
        }
        let user = claims.get(user_claim).and_then(Value::as_str).filter(|user| !user.trim().is_empty());
        let user = user.ok_or_else(|| {
            Refusal::Invalid(format!("the token does not say who it is of: no text in the claim {user_claim}"))
        })?;
        let roles = match roles_claim {
            None => Roles::USER,
            Some(claim) => Roles::of_words(words(claim_at(&claims, claim))),
        };
        let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
        let until = (expires as u64).saturating_add(clock_skew.as_secs());
        Ok(Checked { user: user_id(user), roles, until })
    }
}

impl Checked {
    fn identity(&self, token: &str) -> Identity {
        Identity {
            user: self.user.clone(),
            roles: self.roles,
            own_token: Some(SecretString::from(token)),
            lapse: Lapse::At(self.until),
        }
    }
}

impl KeySet {
    /// The key that a token names; where it names none, the only one that could have made such a signature.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Signer> {
        let mut fitting = self.keys.iter().filter(|key| {
            key.family.algorithms().contains(&algorithm)
                && key.algorithm.is_none_or(|of_key| of_key == KeyAlgorithm::from(algorithm))
        });
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }

    fn recall(&self, digest: &[u8; 32]) -> Option<Arc<Checked>> {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.get(digest).filter(|checked| checked.until > now()).cloned()
    }

    fn remember(&self, digest: [u8; 32], token: Arc<Checked>) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= MAX_CHECKED {
            checked.clear();
        }
        checked.insert(digest, token);
    }
}

/// A claim by its name, or by the names on the way to it.
fn claim_at<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, key| value.get(key))
}

fn words(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(words)) => words.split([' ', ',']).collect(),
        _ => Vec::new(),
    }
}

/// Fetches the issuer's keys for as long as it is run.
async fn keep_up(http: reqwest::Client, config: Arc<JwtOptions>, said: watch::Sender<Issuer>, ask: Arc<Notify>) {
    loop {
        let fetched = fetch(&http, &config.issuer).await;
        let asked = Instant::now();
        let well = fetched.is_ok();
        said.send_modify(|issuer| {
            issuer.asked = Some(asked);
            match fetched {
                Ok(keys) => {
                    if issuer.fault.take().is_some() {
                        tracing::info!("the issuer of tokens answers again");
                    }
                    issuer.keys = Some(Arc::new(KeySet { keys, fetched: asked, checked: Mutex::default() }));
                }
                Err(why) => {
                    if issuer.fault.is_none() {
                        tracing::warn!(%why, "the issuer of tokens does not give its keys; those of before hold for now");
                    }
                    issuer.fault = Some(why);
                }
            }
        });
        tokio::time::sleep(FLOOR).await;
        if well {
            let _ = timeout(REFRESH, ask.notified()).await;
        }
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

async fn fetch(http: &reqwest::Client, issuer: &str) -> Result<Vec<Signer>, String> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let discovery: Discovery = serde_json::from_slice(&document(http, &url).await?)
        .map_err(|error| format!("{url} is no discovery document: {error}"))?;
    // Otherwise one issuer could vouch for another.
    if discovery.issuer != issuer {
        return Err(format!("{url} is of another issuer; AUTH_JWT_ISSUER must be its `issuer` to the letter"));
    }
    if !discovery.jwks_uri.starts_with("https://") && !issuer.starts_with("http://") {
        return Err(format!("{url} leads to keys without TLS"));
    }
    let set: Value = serde_json::from_slice(&document(http, &discovery.jwks_uri).await?)
        .map_err(|error| format!("{} is no set of keys: {error}", discovery.jwks_uri))?;
    let keys = set["keys"].as_array().ok_or_else(|| format!("{} is no set of keys", discovery.jwks_uri))?;
    // One that is of a kind that we do not know is no fault of the others.
    let signers: Vec<Signer> = keys.iter().take(MAX_KEYS).filter_map(signer).collect();
    if signers.is_empty() {
        return Err(format!("{} has no public key for signatures", discovery.jwks_uri));
    }
    Ok(signers)
}

fn signer(key: &Value) -> Option<Signer> {
    let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    // A secret in a public document is none.
    let family = Some(key.family()).filter(|family| *family != AlgorithmFamily::Hmac)?;
    Some(Signer { id: jwk.common.key_id, family, algorithm: jwk.common.key_algorithm, key })
}

async fn document(http: &reqwest::Client, url: &str) -> Result<Vec<u8>, String> {
    let root = |error: reqwest::Error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        format!("{url} does not answer: {cause}")
    };
    let mut answer = http.get(url).send().await.map_err(root)?;
    if !answer.status().is_success() {
        return Err(format!("{url} answers with HTTP {}", answer.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(root)? {
        if body.len() + piece.len() > MAX_DOCUMENT {
            return Err(format!("{url} answers with more than {MAX_DOCUMENT} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    #[test]
    fn roles_are_found_by_name_or_on_the_way_down() {
        let claims =
            json!({"https://e.com/roles": ["user"], "realm": {"access": {"roles": ["viewer", 1]}}, "scope": "a user"});
        let claims = claims.as_object().unwrap();
        let at = |name: &str| words(claim_at(claims, name));
        assert_eq!(at("https://e.com/roles"), ["user"]);
        assert_eq!(at("realm.access.roles"), ["viewer"]);
        assert_eq!(at("scope"), ["a", "user"]);
        for none in ["", "realm", "realm.roles", "scope.x", "nothing.here"] {
            assert!(at(none).is_empty(), "{none}");
        }
    }

    /// A key that was made for these tests, and signs nothing else.
    const SECRET: &str = "MC4CAQAwBQYDK2VwBCIEIKjrfMXIlqNo6Wr2aNGfXog+cSKvGzYhdAe9/9lrnqCg";
    const PUBLIC: &str = "tPz5ifLgA6EQ91WQ3ZPO-dHdXr2-Crv5vfkCkaDGrBQ";

    fn token(user: &str) -> String {
        token_by("a", user)
    }

    fn token_by(key: &str, user: &str) -> String {
        let claims = json!({"iss": "http://127.0.0.1:9", "aud": "k8sops", "sub": user, "exp": now() + 1_000_000});
        let header = Header { kid: Some(key.into()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &EncodingKey::from_ed_der(&BASE64_STANDARD.decode(SECRET).unwrap())).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn keys_of_an_issuer_that_stays_away_hold_for_twelve_hours_and_no_longer() {
        let config = Arc::new(JwtOptions {
            // Nobody listens there.
            issuer: "http://127.0.0.1:9".into(),
            audience: "k8sops".into(),
            algorithms: vec![Algorithm::EdDSA],
            clock_skew: Duration::from_secs(5),
            user_claim: "sub".into(),
            roles_claim: None,
        });
        let key = signer(&json!({"kty": "OKP", "crv": "Ed25519", "x": PUBLIC, "kid": "a"})).unwrap();
        let keys = Arc::new(KeySet { keys: vec![key], fetched: Instant::now(), checked: Mutex::default() });
        let (said, issuer) = watch::channel(Issuer { keys: Some(keys), ..Issuer::default() });
        let ask = Arc::new(Notify::new());
        let jwt = Jwt { config: config.clone(), issuer: issuer.clone(), ask: ask.clone() };
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let fetching = tokio::spawn(keep_up(http, config, said, ask));
        issuer.clone().wait_for(|issuer| issuer.fault.is_some()).await.unwrap();
        let (seen, unseen) = (token("anna"), token("ben"));
        assert_eq!(jwt.identify(&seen).await.unwrap().user.as_str(), "anna");
        // One of a key that is not known may be as good: nobody can say so now.
        let refused = jwt.identify(&token_by("b", "anna")).await.unwrap_err();
        assert!(matches!(refused, Refusal::Unavailable(_)), "{refused}");
        let fetched = issuer.borrow().keys.as_ref().unwrap().fetched;
        let end = fetched + Duration::from_secs(12 * 3600);
        tokio::time::advance(end.duration_since(Instant::now() + Duration::from_secs(60))).await;
        assert_eq!(jwt.identify(&seen).await.unwrap().user.as_str(), "anna");
        assert_eq!(jwt.identify(&token("cleo")).await.unwrap().user.as_str(), "cleo");
        tokio::time::advance(Duration::from_secs(60)).await;
        // Not even a token that was found to be good before.
        for token in [seen, unseen] {
            let refused = jwt.identify(&token).await.unwrap_err();
            assert!(matches!(&refused, Refusal::Unavailable(why) if why.contains("does not answer")), "{refused}");
        }
        assert!(!fetching.is_finished(), "it goes on asking");
        fetching.abort();
    }

    #[test]
    fn a_key_is_one_for_signatures_and_fits_the_algorithm() {
        let rsa = |extra: Value| {
            let mut key = json!({"kty": "RSA", "n": "u1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0_IzW7yWR7QkrmBL7jTKEn5u", "e": "AQAB"});
            key.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            signer(&key)
        };
        assert!(rsa(json!({"use": "enc"})).is_none());
        assert!(signer(&json!({"kty": "oct", "k": "c2VjcmV0"})).is_none());
        assert!(signer(&json!({"kty": "PQC", "alg": "ML-DSA-65", "pub": "x"})).is_none());
        let set = |keys: Vec<Option<Signer>>| KeySet {
            keys: keys.into_iter().flatten().collect(),
            fetched: Instant::now(),
            checked: Mutex::default(),
        };
        let one = set(vec![rsa(json!({"kid": "a", "use": "sig", "alg": "RS256"}))]);
        assert!(one.find(Some("a"), Algorithm::RS256).is_some() && one.find(None, Algorithm::RS256).is_some());
        assert!(one.find(Some("a"), Algorithm::PS256).is_none(), "the key is for another algorithm");
        assert!(one.find(Some("a"), Algorithm::ES256).is_none() && one.find(Some("b"), Algorithm::RS256).is_none());
        let two = set(vec![rsa(json!({"kid": "a"})), rsa(json!({"kid": "b"}))]);
        assert!(two.find(None, Algorithm::RS256).is_none(), "either may have made it");
        assert!(two.find(Some("b"), Algorithm::PS256).is_some());
    }
}
