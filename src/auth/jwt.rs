//! Tokens of an OIDC issuer, verified with the keys of its discovery document.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Validation, decode, decode_header, errors::ErrorKind};
use secrecy::SecretString;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    errors::{AuthError, AuthRejection},
    identity::{CallerIdentity, CredentialExpiry},
    jwks::{IssuerKeys, SigningKey, VerifiedToken},
    options::JwtOptions,
    roles::RoleSet,
    user_ids::user_id_from_name,
};

/// How long one fetch from the issuer may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Authenticates by signed tokens.
pub(super) struct JwtBackend {
    config: JwtOptions,
    issuer: IssuerKeys,
}

impl JwtBackend {
    /// Returns the issuer as it is in `iss`.
    pub(super) fn issuer_name(&self) -> &str {
        &self.config.issuer
    }

    /// Starts to fetch keys on `tasks`, until `cancel`.
    pub(super) fn start(
        config: JwtOptions,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Result<Self, AuthError> {
        let mut http = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            // A redirect could lead to keys that no TLS certificate vouches for.
            .redirect(reqwest::redirect::Policy::none());
        if config.issuer.starts_with("http://") {
            http = http.no_proxy();
        }
        let http = http.build().map_err(AuthError::Client)?;
        let issuer = IssuerKeys::start(http, config.issuer.clone(), tasks, cancel);
        Ok(Self { config, issuer })
    }

    pub(super) async fn authenticate(&self, token: &str) -> Result<CallerIdentity, AuthRejection> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let current = self.issuer.current();
        if let Some(verified) = current.as_ref().and_then(|keys| keys.verified_token(&digest)) {
            return Ok(verified.to_identity(token));
        }
        let header = decode_header(token).map_err(|_| {
            AuthRejection::Invalid(
                "the token is not a JWT; use one that your identity provider issues for this service".into(),
            )
        })?;
        // Only algorithms that the operator allows are accepted, whatever the token declares.
        if !self.config.algorithms.contains(&header.alg) {
            return Err(AuthRejection::Invalid("the token's algorithm is not allowed (AUTH_JWT_ALGORITHMS)".into()));
        }
        if header.crit.is_some() {
            return Err(AuthRejection::Invalid("the token requires unknown extensions (crit)".into()));
        }
        let key_id = header.kid.as_deref();
        let keys = match current.filter(|keys| keys.find_key(key_id, header.alg).is_some()) {
            Some(keys) => keys,
            None => self.issuer.refresh().await?,
        };
        let Some(key) = keys.find_key(key_id, header.alg) else {
            // While the issuer is unavailable, the key may be one that was published after the last fetch.
            if self.issuer.is_failing() {
                return Err(self.issuer.unavailable());
            }
            return Err(AuthRejection::Invalid(match key_id {
                Some(_) => "the token is signed with a key that its issuer does not publish".into(),
                None => "the token does not name the key that it is signed with".into(),
            }));
        };
        let verified = Arc::new(self.verify(token, key, header.alg)?);
        keys.add_verified_token(digest, verified.clone());
        Ok(verified.to_identity(token))
    }

    fn verify(&self, token: &str, key: &SigningKey, algorithm: Algorithm) -> Result<VerifiedToken, AuthRejection> {
        let JwtOptions { issuer, audience, clock_skew, user_claim, roles_claim, .. } = &self.config;
        let mut validation = Validation::new(algorithm);
        validation.leeway = clock_skew.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let decoded = decode::<Map<String, Value>>(token, &key.key, &validation).map_err(|error| {
            AuthRejection::Invalid(match error.kind() {
                ErrorKind::ExpiredSignature => {
                    "the token has expired; get a new one from your identity provider".into()
                }
                ErrorKind::ImmatureSignature => "the token is not valid yet (nbf)".into(),
                ErrorKind::InvalidIssuer => "the token comes from another issuer (iss)".into(),
                ErrorKind::InvalidAudience => "the token is for another audience (aud)".into(),
                ErrorKind::MissingRequiredClaim(claim) => format!("the token has no claim {claim}"),
                ErrorKind::InvalidSignature => "the token's signature is invalid".into(),
                _ => "the token is invalid".to_owned(),
            })
        })?;
        let claims = decoded.claims;
        // The library also accepts a list of issuers that contains ours.
        if !claims.get("iss").is_some_and(Value::is_string) {
            return Err(AuthRejection::Invalid("the token names several issuers (iss)".into()));
        }
        let user = claims.get(user_claim).and_then(Value::as_str).filter(|user| !user.trim().is_empty());
        let user = user.ok_or_else(|| {
            AuthRejection::Invalid(format!("the token does not identify a user: the claim {user_claim} is not a text"))
        })?;
        if user_claim == "email" && !is_true(claims.get("email_verified")) {
            return Err(AuthRejection::Invalid(
                "the token's e-mail address is not verified (email_verified), so that it may be that of another person; \
                 name users by another claim (AUTH_JWT_USER_CLAIM)"
                    .into(),
            ));
        }
        let roles = match roles_claim {
            None => RoleSet::USER,
            Some(claim) => RoleSet::from_names(role_names(find_claim(&claims, claim))),
        };
        let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
        let expires_at = (expires as u64).saturating_add(clock_skew.as_secs());
        Ok(VerifiedToken { user: user_id_from_name(user), roles, expires_at })
    }
}

impl VerifiedToken {
    fn to_identity(&self, token: &str) -> CallerIdentity {
        CallerIdentity {
            user: self.user.clone(),
            roles: self.roles,
            user_token: Some(SecretString::from(token)),
            expiry: CredentialExpiry::At(self.expires_at),
        }
    }
}

/// Whether a claim is true. Some issuers send the text.
fn is_true(claim: Option<&Value>) -> bool {
    claim.is_some_and(|claim| claim == &Value::Bool(true) || claim == "true")
}

/// Finds a claim by its name, or by a path of names with dots between them.
fn find_claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, key| value.get(key))
}

/// Reads role names from a list, or from a text with spaces or commas between them.
fn role_names(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(names)) => names.split([' ', ',']).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::auth::{clock::unix_now, jwks::tests::keys_of_unavailable_issuer};

    #[test]
    fn roles_are_found_by_name_or_path() {
        let claims =
            json!({"https://e.com/roles": ["user"], "realm": {"access": {"roles": ["viewer", 1]}}, "scope": "a user"});
        let claims = claims.as_object().unwrap();
        let at = |name: &str| role_names(find_claim(claims, name));
        assert_eq!(at("https://e.com/roles"), ["user"]);
        assert_eq!(at("realm.access.roles"), ["viewer"]);
        assert_eq!(at("scope"), ["a", "user"]);
        for none in ["", "realm", "realm.roles", "scope.x", "nothing.here"] {
            assert!(at(none).is_empty(), "{none}");
        }
    }

    /// A key that only these tests use.
    const SECRET: &str = "MC4CAQAwBQYDK2VwBCIEIKjrfMXIlqNo6Wr2aNGfXog+cSKvGzYhdAe9/9lrnqCg";
    const PUBLIC: &str = "tPz5ifLgA6EQ91WQ3ZPO-dHdXr2-Crv5vfkCkaDGrBQ";

    fn token(user: &str) -> String {
        token_with_key("a", user)
    }

    fn token_with_key(key: &str, user: &str) -> String {
        sign(key, &json!({"sub": user}))
    }

    fn sign(key: &str, own_claims: &Value) -> String {
        let mut claims = json!({"iss": "http://127.0.0.1:9", "aud": "k8sops", "exp": unix_now() + 1_000_000});
        claims.as_object_mut().unwrap().extend(own_claims.as_object().unwrap().clone());
        let header = Header { kid: Some(key.into()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &EncodingKey::from_ed_der(&BASE64_STANDARD.decode(SECRET).unwrap())).unwrap()
    }

    /// Tokens of an issuer whose only key is known, and which is unavailable.
    fn jwt_backend(user_claim: &str) -> JwtBackend {
        let config = JwtOptions {
            // No server listens on this port.
            issuer: "http://127.0.0.1:9".into(),
            audience: "k8sops".into(),
            algorithms: vec![Algorithm::EdDSA],
            clock_skew: Duration::from_secs(5),
            user_claim: user_claim.into(),
            roles_claim: None,
        };
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": PUBLIC, "kid": "a"});
        JwtBackend { issuer: keys_of_unavailable_issuer(&config.issuer, &key), config }
    }

    #[tokio::test(start_paused = true)]
    async fn email_names_a_user_only_if_it_is_verified() {
        let jwt = jwt_backend("email");
        for verified in [json!(true), json!("true")] {
            let token = sign("a", &json!({"email": "anna@example.org", "email_verified": verified}));
            assert_eq!(jwt.authenticate(&token).await.unwrap().user.as_str(), "anna@example.org");
        }
        for claims in [
            json!({"email": "anna@example.org"}),
            json!({"email": "anna@example.org", "email_verified": false}),
            json!({"email": "anna@example.org", "email_verified": "false"}),
            json!({"email": "anna@example.org", "email_verified": 1}),
        ] {
            let rejection = jwt.authenticate(&sign("a", &claims)).await.unwrap_err();
            assert!(matches!(&rejection, AuthRejection::Invalid(why) if why.contains("not verified")), "{rejection}");
        }
        assert!(jwt_backend("sub").authenticate(&token("anna")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_of_unavailable_issuer_stay_valid_for_twelve_hours() {
        let jwt = jwt_backend("sub");
        let fetched = jwt.issuer.failed_since().await;
        let (seen, unseen) = (token("anna"), token("ben"));
        assert_eq!(jwt.authenticate(&seen).await.unwrap().user.as_str(), "anna");
        // A token with an unknown key may be valid, which cannot be verified at the moment.
        let rejection = jwt.authenticate(&token_with_key("b", "anna")).await.unwrap_err();
        assert!(matches!(rejection, AuthRejection::Unavailable(_)), "{rejection}");
        let end = fetched + Duration::from_secs(12 * 3600);
        tokio::time::advance(end.duration_since(Instant::now() + Duration::from_secs(60))).await;
        assert_eq!(jwt.authenticate(&seen).await.unwrap().user.as_str(), "anna");
        assert_eq!(jwt.authenticate(&token("cleo")).await.unwrap().user.as_str(), "cleo");
        tokio::time::advance(Duration::from_secs(60)).await;
        // Even a token that was verified before is rejected.
        for token in [seen, unseen] {
            let rejection = jwt.authenticate(&token).await.unwrap_err();
            assert!(
                matches!(&rejection, AuthRejection::Unavailable(why) if why.contains("cannot fetch")),
                "{rejection}"
            );
        }
    }
}
