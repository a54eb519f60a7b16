//! The body of a request that carries a whole conversation.
//!
//! Chat clients send everything that was said with every message, and pictures as text. The limit of the native API, which gets
//! single messages, would end a conversation after some turns.

use std::pin::Pin;

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use k8sops_core::replace_lone_surrogates;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{
    extractors::{parse_json_object, read_json_body, read_limited_body},
    problem::ProblemDetails,
    state::ApiState,
};

/// A JSON body of at most `K8SOPS_MAX_CONVERSATION_BYTES`, and its length.
pub(super) struct ConversationBody<T>(pub(super) T, pub(super) usize);

/// Any JSON body of that size, for protocols that explain themselves what is wrong with it.
pub(super) struct JsonBody(pub(super) Value);

impl<T: DeserializeOwned + Send + 'static> FromRequest for ConversationBody<T> {
    type Error = ProblemDetails;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ProblemDetails>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let conversation = read_conversation(request, payload, |text| parse_json_object(text.as_bytes()));
        Box::pin(async move { conversation.await.map(|(value, length)| Self(value, length)) })
    }
}

impl FromRequest for JsonBody {
    type Error = ProblemDetails;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ProblemDetails>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read_conversation(request, payload, |text| {
            serde_json::from_str(text).map_err(|error: serde_json::Error| error.to_string())
        });
        Box::pin(async move { body.await.map(|(value, _)| Self(value)) })
    }
}

fn read_conversation<T: Send + 'static>(
    request: &HttpRequest,
    payload: &mut Payload,
    parse: fn(&str) -> Result<T, String>,
) -> impl Future<Output = Result<(T, usize), ProblemDetails>> + use<T> {
    let limit = request.app_data::<web::Data<ApiState>>().map_or(0, |state| state.server.max_conversation_bytes);
    let bytes = read_limited_body(request, payload, limit, "K8SOPS_MAX_CONVERSATION_BYTES");
    async move {
        let parse = move |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            // Clients cut texts between the halves of a character, which is no valid JSON for most parsers.
            parse(&replace_lone_surrogates(text))
        };
        let bytes = bytes.await?;
        let length = bytes.len();
        Ok((read_json_body(bytes, parse).await?, length))
    }
}
