//! Elicitation between MCP's words and ours: what a server asks becomes a [`ElicitationRequest`], the [`ElicitationAnswer`] goes back.

use reqwest::Url;
use rmcp::model::{ElicitRequestParams, ElicitResult, ElicitationAction};
use serde_json::Value;

use crate::{ElicitationAnswer, ElicitationForm, ElicitationRequest, elicitation_schema, in_flight_call::Flight};

/// The most of a question that is brought to a user; a larger one is none that a person reads.
const MAX_QUESTION: usize = 64 * 1024;

/// Brings a server's question to the user of this call, and makes their answer fit for sending.
pub(crate) async fn elicit(server: &str, flight: &Flight, request: ElicitRequestParams) -> ElicitResult {
    let question = match question(request) {
        Ok(question) => question,
        Err(why) => {
            tracing::warn!(server, why, "a question of an MCP server was declined");
            return ElicitResult::new(ElicitationAction::Decline);
        }
    };
    let asked = question.form.clone();
    reply(server, &asked, flight.elicit(question).await)
}

fn question(request: ElicitRequestParams) -> Result<ElicitationRequest, &'static str> {
    let (message, form) = match request {
        ElicitRequestParams::FormElicitationParams { message, requested_schema, .. } => {
            let Ok(Value::Object(schema)) = serde_json::to_value(requested_schema) else {
                return Err("its form is not a schema of an object");
            };
            if Value::Object(schema.clone()).to_string().len() > MAX_QUESTION {
                return Err("its form is too large");
            }
            (message, ElicitationForm::Fields(schema))
        }
        ElicitRequestParams::UrlElicitationParams { message, url, .. } => {
            // A page is opened by a person's browser; what is no page must not get there.
            if url.len() > MAX_QUESTION || !Url::parse(&url).is_ok_and(|u| matches!(u.scheme(), "http" | "https")) {
                return Err("its page is not at an http(s) URL");
            }
            (message, ElicitationForm::Page { url })
        }
        _ => return Err("it is of a kind that is not known here"),
    };
    if message.len() > MAX_QUESTION {
        return Err("its message is too long");
    }
    Ok(ElicitationRequest { message, form })
}

fn reply(server: &str, form: &ElicitationForm, answer: ElicitationAnswer) -> ElicitResult {
    let mut values = match answer {
        ElicitationAnswer::Accept(values) => values,
        ElicitationAnswer::Decline => return ElicitResult::new(ElicitationAction::Decline),
        ElicitationAnswer::Cancel => return ElicitResult::new(ElicitationAction::Cancel),
    };
    let ElicitationForm::Fields(schema) = form else { return ElicitResult::new(ElicitationAction::Accept) };
    elicitation_schema::complete(schema, &mut values);
    // Whoever takes the user's answer checks it first, so this is a fault of ours or a default that does not fit. Nothing
    // may be sent that nobody meant.
    if let Err(why) = elicitation_schema::check(schema, &values) {
        tracing::warn!(server, why, "an answer that does not fit its form was not sent to the MCP server");
        return ElicitResult::new(ElicitationAction::Cancel);
    }
    ElicitResult::new(ElicitationAction::Accept).with_content(Value::Object(values))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(params: Value) -> Result<ElicitationRequest, &'static str> {
        question(serde_json::from_value(params).unwrap())
    }

    #[test]
    fn a_form_and_a_page_become_questions() {
        let schema = json!({"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]});
        let form = asked(json!({"message": "Delete it?", "requestedSchema": schema})).unwrap();
        assert_eq!(form.message, "Delete it?");
        assert_eq!(form.form, ElicitationForm::Fields(serde_json::from_value(schema).unwrap()));
        let page = json!({"mode": "url", "message": "Log in", "url": "https://idp.example/x", "elicitationId": "1"});
        assert_eq!(asked(page).unwrap().form, ElicitationForm::Page { url: "https://idp.example/x".to_owned() });
    }

    #[test]
    fn what_is_no_page_of_the_web_is_not_brought_to_a_user() {
        for url in ["javascript:alert(1)", "file:///etc/passwd", "no url"] {
            assert!(asked(json!({"mode": "url", "message": "Log in", "url": url})).is_err(), "{url}");
        }
    }

    #[test]
    fn an_answer_that_does_not_fit_is_not_sent() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "default": 3}}});
        let form = ElicitationForm::Fields(serde_json::from_value(schema).unwrap());
        let answer =
            |values: Value| reply("s", &form, ElicitationAnswer::Accept(serde_json::from_value(values).unwrap()));
        assert_eq!(answer(json!({})).content, Some(json!({"n": 3})));
        let wrong = answer(json!({"n": "three"}));
        assert_eq!((wrong.action, wrong.content), (ElicitationAction::Cancel, None));
    }
}
