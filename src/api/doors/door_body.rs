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
    extractors::{parse_json_body, read_limited_body},
    problem::ProblemDetails,
    problem_code::ProblemCode,
    state::ApiState,
};

/// A JSON body of at most `K8SOPS_MAX_CONVERSATION_BYTES`.
pub(super) struct ConversationBody<T>(pub(super) T);

/// Any JSON body of that size, for protocols that explain themselves what is wrong with it.
pub(super) struct JsonBody(pub(super) Value);

impl<T: DeserializeOwned + 'static> FromRequest for ConversationBody<T> {
    type Error = ProblemDetails;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ProblemDetails>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let text = read_text(request, payload);
        Box::pin(async move { parse_json_body(text.await?.as_bytes()).map(Self) })
    }
}

impl FromRequest for JsonBody {
    type Error = ProblemDetails;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ProblemDetails>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let text = read_text(request, payload);
        Box::pin(async move {
            let invalid = |error: serde_json::Error| ProblemDetails::new(ProblemCode::InvalidJson, error.to_string());
            serde_json::from_str(&text.await?).map(Self).map_err(invalid)
        })
    }
}

fn read_text(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<String, ProblemDetails>> + use<> {
    let limit = request.app_data::<web::Data<ApiState>>().map_or(0, |state| state.server.max_conversation_bytes);
    let bytes = read_limited_body(request, payload, limit, "K8SOPS_MAX_CONVERSATION_BYTES");
    async move {
        let bytes = bytes.await?;
        // Clients cut texts between the halves of a character, which is no valid JSON for most parsers.
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(replace_lone_surrogates(text).into_owned()),
            Err(error) => Err(ProblemDetails::new(ProblemCode::InvalidJson, error.to_string())),
        }
    }
}
