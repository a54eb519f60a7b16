//! Relays a server's elicitation to the user of a call, and the user's answer back, in MCP's terms.

use reqwest::Url;
use rmcp::model::{ElicitRequestParams, ElicitResult, ElicitationAction};
use serde_json::Value;

use crate::{
    ElicitationAnswer, ElicitationForm, ElicitationRequest,
    elicitation_schema::{fill_elicitation_defaults, validate_elicitation_answer},
    in_flight_call::InFlightCall,
};

/// Largest message, form and URL of an elicitation. No user reads a larger one.
const MAX_PART_BYTES: usize = 64 * 1024;

/// Why an elicitation is declined without asking the user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum UnsupportedElicitation {
    #[error("its form is not a JSON Schema of an object")]
    NotAnObjectSchema,
    #[error("its form is larger than {MAX_PART_BYTES} bytes")]
    FormTooLarge,
    #[error("its page is not at an http(s) URL")]
    NotAWebPage,
    #[error("its message is larger than {MAX_PART_BYTES} bytes")]
    MessageTooLarge,
    #[error("its mode is unknown")]
    UnknownMode,
}

/// Puts an elicitation of the server to the user of a call and returns the result for the server.
pub(crate) async fn relay_elicitation(server: &str, call: &InFlightCall, params: ElicitRequestParams) -> ElicitResult {
    let request = match parse_request(params) {
        Ok(request) => request,
        Err(reason) => {
            tracing::warn!(server, %reason, "mcp elicitation declined");
            return ElicitResult::new(ElicitationAction::Decline);
        }
    };
    let form = request.form.clone();
    build_result(server, &form, call.elicit(request).await)
}

fn parse_request(params: ElicitRequestParams) -> Result<ElicitationRequest, UnsupportedElicitation> {
    let (message, form) = match params {
        ElicitRequestParams::FormElicitationParams { message, requested_schema, .. } => {
            let Ok(Value::Object(schema)) = serde_json::to_value(requested_schema) else {
                return Err(UnsupportedElicitation::NotAnObjectSchema);
            };
            if Value::Object(schema.clone()).to_string().len() > MAX_PART_BYTES {
                return Err(UnsupportedElicitation::FormTooLarge);
            }
            (message, ElicitationForm::Fields(schema))
        }
        ElicitRequestParams::UrlElicitationParams { message, url, .. } => {
            // The user's browser opens the page, so schemes like `javascript:` must not get there.
            let is_web_page = Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            if url.len() > MAX_PART_BYTES || !is_web_page {
                return Err(UnsupportedElicitation::NotAWebPage);
            }
            (message, ElicitationForm::Page { url })
        }
        _ => return Err(UnsupportedElicitation::UnknownMode),
    };
    if message.len() > MAX_PART_BYTES {
        return Err(UnsupportedElicitation::MessageTooLarge);
    }
    Ok(ElicitationRequest { message, form })
}

fn build_result(server: &str, form: &ElicitationForm, answer: ElicitationAnswer) -> ElicitResult {
    let mut values = match answer {
        ElicitationAnswer::Accept(values) => values,
        ElicitationAnswer::Decline => return ElicitResult::new(ElicitationAction::Decline),
        ElicitationAnswer::Cancel => return ElicitResult::new(ElicitationAction::Cancel),
    };
    let ElicitationForm::Fields(schema) = form else { return ElicitResult::new(ElicitationAction::Accept) };
    fill_elicitation_defaults(schema, &mut values);
    // The user's answer was validated when it arrived, so this is a bug of ours or an invalid default of the server.
    // Values that the user did not intend are not sent.
    if let Err(mismatch) = validate_elicitation_answer(schema, &values) {
        tracing::warn!(server, %mismatch, "mcp elicitation cancelled: the answer does not conform to the form");
        return ElicitResult::new(ElicitationAction::Cancel);
    }
    ElicitResult::new(ElicitationAction::Accept).with_content(Value::Object(values))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(params: Value) -> Result<ElicitationRequest, UnsupportedElicitation> {
        parse_request(serde_json::from_value(params).unwrap())
    }

    #[test]
    fn forms_and_pages_are_parsed() {
        let schema = json!({"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]});
        let request = parse(json!({"message": "Delete it?", "requestedSchema": schema})).unwrap();
        assert_eq!(request.message, "Delete it?");
        assert_eq!(request.form, ElicitationForm::Fields(serde_json::from_value(schema).unwrap()));
        let page = json!({"mode": "url", "message": "Log in", "url": "https://idp.example/x", "elicitationId": "1"});
        assert_eq!(parse(page).unwrap().form, ElicitationForm::Page { url: "https://idp.example/x".to_owned() });
    }

    #[test]
    fn urls_that_are_not_http_are_rejected() {
        for url in ["javascript:alert(1)", "file:///etc/passwd", "no url"] {
            let parsed = parse(json!({"mode": "url", "message": "Log in", "url": url}));
            assert_eq!(parsed, Err(UnsupportedElicitation::NotAWebPage), "{url}");
        }
    }

    #[test]
    fn nonconforming_answer_is_not_sent() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "default": 3}}});
        let form = ElicitationForm::Fields(serde_json::from_value(schema).unwrap());
        let result = |values: Value| {
            build_result("s", &form, ElicitationAnswer::Accept(serde_json::from_value(values).unwrap()))
        };
        assert_eq!(result(json!({})).content, Some(json!({"n": 3})));
        let invalid = result(json!({"n": "three"}));
        assert_eq!((invalid.action, invalid.content), (ElicitationAction::Cancel, None));
    }
}
