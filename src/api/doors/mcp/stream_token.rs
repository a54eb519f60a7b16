//! The place of a run, in a form that a client keeps and sends back: as `requestState`, and as the id of a stream.
//!
//! It is not signed, because it permits nothing: the session that it names must be one of the caller's own, and an answer counts
//! for what that session waits for.

use data_encoding::BASE64URL_NOPAD;
use k8sops_core::{RunId, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A run of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunPlace {
    #[serde(rename = "s")]
    pub(super) session: SessionId,
    #[serde(rename = "r")]
    pub(super) run: RunId,
}

/// A run, and the request that is answered with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StreamToken {
    #[serde(flatten)]
    pub(super) place: RunPlace,
    /// The id of the request.
    #[serde(rename = "i")]
    pub(super) request_id: Value,
    /// The token under which the client wants to be told of progress.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(super) progress_token: Option<Value>,
}

/// Writes a token as text.
pub(super) fn encode_token(token: &impl Serialize) -> String {
    BASE64URL_NOPAD.encode(&serde_json::to_vec(token).unwrap_or_default())
}

/// Reads a token. Returns `None` for a text that is none.
pub(super) fn decode_token<T: for<'a> Deserialize<'a>>(text: &str) -> Option<T> {
    serde_json::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_come_back_as_they_were() {
        let place = RunPlace { session: SessionId::new(), run: RunId::new() };
        let token = StreamToken { place, request_id: json!("a"), progress_token: Some(json!(7)) };
        let text = encode_token(&token);
        assert_eq!(decode_token(&text), Some(token));
        assert_eq!(decode_token::<RunPlace>(&text), Some(place));
        for text in ["", "x", "e30", &text[1..], &encode_token(&json!({"s": 1}))] {
            assert_eq!(decode_token::<StreamToken>(text), None, "{text}");
        }
    }
}
