//! The body of a request that carries a whole conversation.
//!
//! Chat clients send everything that was said with every message, and pictures as text. The limit of the native API, which gets
//! single messages, would end a conversation after some turns.

use std::pin::Pin;

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use k8sops_core::replace_lone_surrogates;
use serde::de::DeserializeOwned;

use crate::api::{
    extractors::{parse_json_body, read_limited_body},
    problem::ProblemDetails,
    problem_code::ProblemCode,
    state::ApiState,
};

/// A JSON body of at most `K8SOPS_MAX_CONVERSATION_BYTES`.
pub(super) struct ConversationBody<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for ConversationBody<T> {
    type Error = ProblemDetails;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ProblemDetails>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let limit = request.app_data::<web::Data<ApiState>>().map_or(0, |state| state.server.max_conversation_bytes);
        let bytes = read_limited_body(request, payload, limit, "K8SOPS_MAX_CONVERSATION_BYTES");
        Box::pin(async move {
            let bytes = bytes.await?;
            // Clients cut texts between the halves of a character, which is no valid JSON for most parsers.
            match std::str::from_utf8(&bytes) {
                Ok(text) => parse_json_body(replace_lone_surrogates(text).as_bytes()).map(Self),
                Err(error) => Err(ProblemDetails::new(ProblemCode::InvalidJson, error.to_string())),
            }
        })
    }
}
