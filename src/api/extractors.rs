//! Extractors of handlers: path parameters, query, JSON body and the idempotency key.

use std::{future::Ready, pin::Pin, time::Duration};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload, http::StatusCode, web};
use k8sops_core::{CommandId, SessionId, UserId, run_long_work};
use secrecy::SecretString;
use serde::de::DeserializeOwned;

use super::{problem::ProblemDetails, problem_code::ProblemCode, state::ApiState, typed_json::read_json_text};
use crate::auth::CallerIdentity;

/// How long a body may take to arrive. A body of `K8SOPS_MAX_FRAME_BYTES` needs 9 kB/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How much faster JSON is read and written than the slowest work that [`run_long_work`] is made for.
pub(super) const JSON_SPEED: usize = 4;

/// The session id of the path, and the user's token that came with the request.
pub(super) struct SessionPath {
    pub(super) session_id: SessionId,
    pub(super) user_token: UserToken,
}

/// The user's own token, for MCP servers that are called with it.
pub(super) struct UserToken(pub(super) Option<SecretString>);

impl UserToken {
    /// Stores the token for tool calls of the session, if the session belongs to the user.
    pub(super) async fn store_for_session(
        self,
        state: &ApiState,
        user: &UserId,
        session: SessionId,
    ) -> Result<(), ProblemDetails> {
        if let Some(token) = self.0 {
            state.sessions.get_session(user, session).await?;
            state.user_tokens.store_token(session, token);
        }
        Ok(())
    }
}

impl FromRequest for SessionPath {
    type Error = ProblemDetails;
    type Future = Ready<Result<Self, ProblemDetails>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let identity = request.extensions();
        let user_token = UserToken(identity.get::<CallerIdentity>().and_then(|identity| identity.user_token.clone()));
        let session_id = request.match_info().query("session_id").parse().map_err(ProblemDetails::from);
        std::future::ready(session_id.map(|session_id| Self { session_id, user_token }))
    }
}

/// The `Idempotency-Key` header, which becomes the id of the command.
pub(super) struct IdempotencyKey(Option<CommandId>);

impl IdempotencyKey {
    /// Returns the client's key, if it sent one.
    pub(super) fn into_client_key(self) -> Option<CommandId> {
        self.0
    }

    /// Returns the client's key as a command id, or a generated one.
    pub(super) fn into_command_id(self) -> CommandId {
        self.0.unwrap_or_else(CommandId::generate)
    }
}

impl FromRequest for IdempotencyKey {
    type Error = ProblemDetails;
    type Future = Ready<Result<Self, ProblemDetails>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let key = request.headers().get("idempotency-key").map(|value| {
            let text = value.to_str().unwrap_or_default();
            text.parse().map_err(|error| ProblemDetails::invalid(format!("invalid header Idempotency-Key: {error}")))
        });
        std::future::ready(key.transpose().map(Self))
    }
}

/// The query parameters.
pub(super) struct QueryParameters<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for QueryParameters<T> {
    type Error = ProblemDetails;
    type Future = Ready<Result<Self, ProblemDetails>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let parse = |text| web::Query::<T>::from_query(text);
        let query = request.query_string();
        let parsed = parse(query).map(|query| Self(query.into_inner())).map_err(|error| {
            // The error does not name the parameter. All parameters are optional, so that each can be parsed alone.
            let invalid = query.split('&').find_map(|pair| Some((pair, parse(pair).err()?)));
            let (pair, error) = invalid.unwrap_or((query, error));
            let error = error.to_string();
            let why = error.strip_prefix("Query deserialize error: ").unwrap_or(&error);
            ProblemDetails::invalid(format!("invalid query parameter `{pair}`: {why}"))
        });
        std::future::ready(parsed)
    }
}

/// A JSON body. The content type is ignored: `curl -d` sends JSON under another one.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest for JsonBody<T> {
    type Error = ProblemDetails;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ProblemDetails>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            let bytes = limit_body_time(bytes).await?.map_err(|error| {
                if error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE {
                    ProblemDetails::new(
                        ProblemCode::PayloadTooLarge,
                        "the body is larger than the limit (K8SOPS_MAX_FRAME_BYTES)",
                    )
                } else {
                    ProblemDetails::new(ProblemCode::InvalidJson, error.to_string())
                }
            })?;
            read_json_body(bytes, parse_json_object).await.map(Self)
        })
    }
}

/// A JSON body with a message and its attachments, whose texts grow when they are written as JSON.
pub(super) struct MessageBody<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest for MessageBody<T> {
    type Error = ProblemDetails;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ProblemDetails>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let limit = request
            .app_data::<web::Data<ApiState>>()
            .map_or(0, |state| state.server.max_frame_bytes + 2 * state.server.max_attachment_bytes);
        let bytes = read_limited_body(request, payload, limit, "K8SOPS_MAX_FRAME_BYTES, K8SOPS_MAX_ATTACHMENT_BYTES");
        Box::pin(async move { read_json_body(bytes.await?, parse_json_object).await.map(Self) })
    }
}

/// Reads a body of at most `limit` bytes, which the named settings allow.
pub(super) fn read_limited_body(
    request: &HttpRequest,
    payload: &mut Payload,
    limit: usize,
    settings: &'static str,
) -> impl Future<Output = Result<web::Bytes, ProblemDetails>> + use<> {
    let body = web::Payload::from_request(request, payload);
    async move {
        let body = body.await.map_err(|error| ProblemDetails::new(ProblemCode::InvalidJson, error.to_string()))?;
        let bytes = limit_body_time(body.to_bytes_limited(limit)).await?;
        let bytes = bytes.map_err(|_| {
            let detail = format!("the body is larger than {limit} bytes ({settings})");
            ProblemDetails::new(ProblemCode::PayloadTooLarge, detail)
        })?;
        bytes.map_err(|error| ProblemDetails::new(ProblemCode::InvalidJson, error.to_string()))
    }
}

/// Waits for a body as long as one may take to arrive.
pub(super) async fn limit_body_time<T>(body: impl Future<Output = T>) -> Result<T, ProblemDetails> {
    tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(|_| {
        let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
        ProblemDetails::new(ProblemCode::RequestTimeout, detail)
    })
}

/// Reads a JSON body with a parser, which says what is wrong. A large body is parsed on another thread.
pub(super) async fn read_json_body<T: Send + 'static>(
    bytes: web::Bytes,
    parse: impl FnOnce(&[u8]) -> Result<T, String> + Send + 'static,
) -> Result<T, ProblemDetails> {
    let parsed = run_long_work(bytes.len() / JSON_SPEED, move || parse(&bytes)).await;
    parsed.map_err(|error| ProblemDetails::new(ProblemCode::InvalidJson, error))
}

/// Parses an object. An empty body is an empty object.
pub(super) fn parse_json_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    // serde would accept an array with the fields in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err("the body must be an object, not an array".to_owned());
    }
    read_json_text(bytes, "the body").map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use actix_web::{error::PayloadError, test::TestRequest, web::Bytes};
    use futures_util::{StreamExt as _, stream};
    use serde_json::Value;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[derive(PartialEq)]
    enum BodyEnding {
        Complete,
        Missing,
    }

    /// Extracts a body whose chunks arrive one second apart. Returns the result and the time it took.
    async fn extract_slow_body(
        chunks: &[&'static str],
        ending: BodyEnding,
    ) -> (Result<Value, ProblemDetails>, Duration) {
        let chunks = stream::iter(chunks.to_owned()).then(async |chunk| {
            sleep(Duration::from_secs(1)).await;
            Ok::<_, PayloadError>(Bytes::from_static(chunk.as_bytes()))
        });
        let rest = if ending == BodyEnding::Complete {
            stream::empty().left_stream()
        } else {
            stream::pending().right_stream()
        };
        let mut payload: Payload = Payload::Stream { payload: Box::pin(chunks.chain(rest)) };
        let request = TestRequest::default().to_http_request();
        let began = Instant::now();
        let read = tokio::time::timeout(2 * BODY_TIMEOUT, JsonBody::<Value>::from_request(&request, &mut payload));
        let read = read.await.expect("extraction times out");
        (read.map(|JsonBody(value)| value), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn slow_body_times_out() {
        let (read, took) = extract_slow_body(&["{\"a\": ", "1", "}"], BodyEnding::Complete).await;
        assert_eq!((read.unwrap(), took), (serde_json::json!({"a": 1}), Duration::from_secs(3)));
        // The limit applies to the whole body, whether chunks keep arriving or not.
        for chunks in [&[" "; 100][..], &["{}"], &[]] {
            let (read, took) = extract_slow_body(chunks, BodyEnding::Missing).await;
            let problem = read.unwrap_err();
            assert_eq!((problem.code, problem.response().status().as_u16()), (ProblemCode::RequestTimeout, 408));
            assert_eq!(took.as_secs(), BODY_TIMEOUT.as_secs(), "{} chunks", chunks.len());
        }
    }
}
