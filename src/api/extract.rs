//! What handlers take in: the calling user, ids, JSON bodies, the idempotency key.

use std::{future::Ready, pin::Pin, time::Duration};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload, web};
use secrecy::SecretString;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

pub(super) use super::identity::{Caller, CanApprove, CanWrite};
use super::{ApiState, ProblemCode, ProblemDetails};
use crate::auth::CallerIdentity;
use k8sops_core::{CommandId, SessionId, UserId};

/// How long a body may take to come in. One of `K8SOPS_MAX_FRAME_BYTES` needs 9 kB/s for it.
const BODY_LIMIT: Duration = Duration::from_secs(30);

/// The session id of the path, and the token that came with the request.
pub(super) struct SessionPath(pub(super) SessionId, pub(super) UserToken);

/// The token of a request that is the user's own, for MCP servers that are called with it.
pub(super) struct UserToken(pub(super) Option<SecretString>);

impl UserToken {
    /// Remembers the token for the session, once it is known that the session is the user's.
    pub(super) async fn remember(
        self,
        api: &ApiState,
        user: &UserId,
        session: SessionId,
    ) -> Result<(), ProblemDetails> {
        if let Some(token) = self.0 {
            api.sessions.get_session(user, session).await?;
            api.tokens.store_token(session, token);
        }
        Ok(())
    }
}

impl FromRequest for SessionPath {
    type Error = ProblemDetails;
    type Future = Ready<Result<Self, ProblemDetails>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let user_token =
            UserToken(request.extensions().get::<CallerIdentity>().and_then(|caller| caller.user_token.clone()));
        std::future::ready(
            request
                .match_info()
                .query("session_id")
                .parse()
                .map(|id| Self(id, user_token))
                .map_err(ProblemDetails::from),
        )
    }
}

/// The `Idempotency-Key` header: the id of the command, if the client gives one.
pub(super) struct IdempotencyKey(pub(super) Option<CommandId>);

impl FromRequest for IdempotencyKey {
    type Error = ProblemDetails;
    type Future = Ready<Result<Self, ProblemDetails>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let key = request.headers().get("idempotency-key").map(|value| {
            let text = value.to_str().unwrap_or_default();
            text.parse().map_err(|error| ProblemDetails::invalid(format!("the header Idempotency-Key: {error}")))
        });
        std::future::ready(key.transpose().map(Self))
    }
}

/// The parameters of the query.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = ProblemDetails;
    type Future = Ready<Result<Self, ProblemDetails>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let read = |text| web::Query::<T>::from_query(text);
        let query = request.query_string();
        let read_all = read(query).map(|query| Self(query.into_inner())).map_err(|error| {
            // The error does not say which one it is; every parameter may be left out, so that each can be tried alone.
            let wrong = query.split('&').find_map(|pair| Some((pair, read(pair).err()?)));
            let (pair, error) = wrong.unwrap_or((query, error));
            let error = error.to_string();
            let why = error.strip_prefix("Query deserialize error: ").unwrap_or(&error);
            ProblemDetails::invalid(format!("the query parameter `{pair}`: {why}"))
        });
        std::future::ready(read_all)
    }
}

/// A JSON body. The content type is not looked at: `curl -d` does not say JSON and means it.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = ProblemDetails;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ProblemDetails>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            let late = |_| {
                ProblemDetails::new(
                    ProblemCode::RequestTimeout,
                    format!("the body did not come within {} s", BODY_LIMIT.as_secs()),
                )
            };
            let bytes = tokio::time::timeout(BODY_LIMIT, bytes).await.map_err(late)?.map_err(|error| {
                if error.as_response_error().status_code() == actix_web::http::StatusCode::PAYLOAD_TOO_LARGE {
                    ProblemDetails::new(
                        ProblemCode::PayloadTooLarge,
                        "the body is larger than K8SOPS_MAX_FRAME_BYTES allows",
                    )
                } else {
                    ProblemDetails::new(ProblemCode::InvalidJson, error.to_string())
                }
            })?;
            parse(&bytes).map(Self)
        })
    }
}

/// Reads a JSON body; an empty one is an empty object.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ProblemDetails> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    // serde would take an array for an object whose fields come in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(ProblemDetails::new(ProblemCode::InvalidJson, "the body is an array; an object is expected"));
    }
    serde_json::from_slice(bytes).map_err(|error| ProblemDetails::new(ProblemCode::InvalidJson, error.to_string()))
}

/// A digest of what a client asked for, to know it again.
pub(super) fn fingerprint(request: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(request).expect("requests have string keys and no failing Serialize");
    Sha256::digest(bytes).iter().take(16).fold(String::with_capacity(32), |mut hex, byte| {
        use std::fmt::Write;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use actix_web::{error::PayloadError, test::TestRequest, web::Bytes};
    use futures_util::{StreamExt as _, stream};
    use serde_json::Value;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// What becomes of a body whose pieces come with a second before each, and of the time.
    async fn dripped(pieces: &[&'static str], ends: bool) -> (Result<Value, ProblemDetails>, Duration) {
        let pieces = stream::iter(pieces.to_owned()).then(async |piece| {
            sleep(Duration::from_secs(1)).await;
            Ok::<_, PayloadError>(Bytes::from_static(piece.as_bytes()))
        });
        let rest = if ends { stream::empty().left_stream() } else { stream::pending().right_stream() };
        let mut payload: Payload = Payload::Stream { payload: Box::pin(pieces.chain(rest)) };
        let request = TestRequest::default().to_http_request();
        let began = Instant::now();
        let read = tokio::time::timeout(2 * BODY_LIMIT, Body::<Value>::from_request(&request, &mut payload));
        let read = read.await.expect("it is not waited for twice as long");
        (read.map(|Body(value)| value), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_in_time_is_not_waited_for() {
        let (read, took) = dripped(&["{\"a\": ", "1", "}"], true).await;
        assert_eq!((read.unwrap(), took), (serde_json::json!({"a": 1}), Duration::from_secs(3)));
        // Steady drops do not count, nor do those that are there.
        for pieces in [&[" "; 100][..], &["{}"], &[]] {
            let (read, took) = dripped(pieces, false).await;
            let problem = read.unwrap_err();
            assert_eq!((problem.code, problem.response().status().as_u16()), (ProblemCode::RequestTimeout, 408));
            assert_eq!(took.as_secs(), BODY_LIMIT.as_secs(), "{} pieces", pieces.len());
        }
    }
}
