//! Answers in words, for clients that have nothing but text: `approve 0fb77b`.
//!
//! The words are exact, so that no message is taken for an answer by accident: a verb, then the digits that the request named.
//! What follows is the comment of a denial, or the value of an answer.

use k8sops_core::InputAction;
use serde_json::{Map, Value};

use super::{
    turn_opening::InteractionAnswer,
    waiting_interactions::{WaitingInteractions, has_short_id},
};
use crate::api::commands::{AnswerInput, ApprovalVerdict, ResolveApproval};

/// An answer in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpokenAnswer {
    verb: AnswerVerb,
    /// The last digits of the id, in lower case.
    digits: String,
    /// What follows the id.
    rest: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerVerb {
    Approve,
    Deny,
    Accept,
    Decline,
}

/// Why an answer in words cannot be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AnswerMismatch {
    /// Nothing that waits has these digits.
    NothingWaits(String),
    /// Several requests have these digits.
    Ambiguous(String),
    /// The values of the answer are not understood.
    Values(String),
}

impl SpokenAnswer {
    /// Parses an answer. Returns `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // Clients send what users copy: with the marks around code, and with a full stop.
        let text = text.trim().trim_matches(|c| matches!(c, '`' | '*' | '"' | '\''));
        let (verb, rest) = text.split_once(char::is_whitespace)?;
        let verb = match verb.to_ascii_lowercase().as_str() {
            "approve" => AnswerVerb::Approve,
            "deny" => AnswerVerb::Deny,
            "accept" => AnswerVerb::Accept,
            "decline" => AnswerVerb::Decline,
            _ => return None,
        };
        let rest = rest.trim();
        let (id, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let digits = id.trim_end_matches(['.', '!', '`', '*', ',']).replace('-', "").to_ascii_lowercase();
        let is_id = (6..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let rest = rest.trim().to_owned();
        // `approve 0fb77b but only in staging` is no approval.
        let is_bare = rest.is_empty() || matches!(verb, AnswerVerb::Deny | AnswerVerb::Accept);
        (is_id && is_bare).then_some(Self { verb, digits, rest })
    }

    /// Finds the request that the answer is for.
    pub(super) fn find_target(&self, waiting: &WaitingInteractions) -> Result<InteractionAnswer, AnswerMismatch> {
        let comment = (!self.rest.is_empty()).then(|| self.rest.clone());
        let verdict = match self.verb {
            AnswerVerb::Approve => Some(ApprovalVerdict::Approve),
            AnswerVerb::Deny => Some(ApprovalVerdict::Deny),
            AnswerVerb::Accept | AnswerVerb::Decline => None,
        };
        if let Some(decision) = verdict {
            let asked = self.only_match(&waiting.approvals, |asked| asked.approval_id.as_bytes())?;
            let answer = ResolveApproval { decision, arguments: None, comment };
            return Ok(InteractionAnswer::Approval(asked.approval_id, answer));
        }
        let asked = self.only_match(&waiting.inputs, |asked| asked.input_id.as_bytes())?;
        let answer = match self.verb {
            AnswerVerb::Accept => AnswerInput {
                action: InputAction::Accept,
                content: Some(parse_values(&self.rest, asked.schema.as_ref())?).filter(|values| !values.is_empty()),
            },
            _ => AnswerInput { action: InputAction::Decline, content: None },
        };
        Ok(InteractionAnswer::Input(asked.input_id, answer))
    }

    fn only_match<'a, T>(&self, asked: &'a [T], id: impl Fn(&T) -> &[u8; 16]) -> Result<&'a T, AnswerMismatch> {
        let mut found = asked.iter().filter(|asked| has_short_id(id(asked), &self.digits));
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(AnswerMismatch::Ambiguous(self.digits.clone())),
            (None, _) => Err(AnswerMismatch::NothingWaits(self.digits.clone())),
        }
    }
}

impl AnswerMismatch {
    /// Explains the mismatch to the user.
    pub(super) fn explain(&self) -> String {
        match self {
            Self::NothingWaits(digits) => {
                format!("Nothing waits for an answer with the id `{digits}`: it was answered before, or has expired.")
            }
            Self::Ambiguous(digits) => format!("Several requests have the id `{digits}`; reply with the whole id."),
            Self::Values(why) => format!("The answer was not given: {why}."),
        }
    }
}

/// Reads the values of a form: a JSON object, or the plain text of its only field.
fn parse_values(text: &str, schema: Option<&Map<String, Value>>) -> Result<Map<String, Value>, AnswerMismatch> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    if let Ok(Value::Object(values)) = serde_json::from_str(text) {
        return Ok(values);
    }
    let fields = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let Some((name, field)) = fields.filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next()) else {
        return Err(AnswerMismatch::Values("the values must be a JSON object with the fields of the form".to_owned()));
    };
    let value = match field.get("type").and_then(Value::as_str) {
        Some("integer" | "number" | "boolean") => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        }
        _ => Value::String(text.to_owned()),
    };
    Ok(Map::from_iter([(name.clone(), value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(AnswerVerb, String, String)> {
        SpokenAnswer::parse(text).map(|answer| (answer.verb, answer.digits, answer.rest))
    }

    #[test]
    fn answers_are_exact() {
        for (text, verb, rest) in [
            ("approve 0fb77b", AnswerVerb::Approve, ""),
            (" Approve  0FB77B.\n", AnswerVerb::Approve, ""),
            ("`approve 0fb77b`", AnswerVerb::Approve, ""),
            ("**approve 0fb77b**", AnswerVerb::Approve, ""),
            ("deny 0fb77b", AnswerVerb::Deny, ""),
            ("deny 0fb77b too many pods", AnswerVerb::Deny, "too many pods"),
            ("accept 0fb77b staging", AnswerVerb::Accept, "staging"),
            ("decline 0fb77b", AnswerVerb::Decline, ""),
        ] {
            assert_eq!(parts(text), Some((verb, "0fb77b".to_owned(), rest.to_owned())), "{text}");
        }
        let whole = "approve 01900000-0000-7000-8000-0000000fb77b";
        assert_eq!(parts(whole).unwrap().1, "01900000000070008000".to_owned() + "0000000fb77b");
        for text in [
            "approve",
            "approve it",
            "yes",
            "approve 0fb77",
            "approve 0fb77b but only in staging",
            "approve all",
            "I approve 0fb77b",
            "approve 0fb77g",
            "do not approve 0fb77b",
            "approve the deployment of payments",
            "decline 0fb77b for now",
        ] {
            assert_eq!(parts(text), None, "{text}");
        }
    }

    #[test]
    fn values_are_an_object_or_the_only_field() {
        let schema = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let one = schema(r#"{"properties": {"replicas": {"type": "integer"}}}"#);
        let two = schema(r#"{"properties": {"a": {"type": "string"}, "b": {"type": "string"}}}"#);
        let values =
            |text: &str, schema| parse_values(text, Some(schema)).map(|values| Value::Object(values).to_string());
        assert_eq!(values("3", &one).unwrap(), r#"{"replicas":3}"#);
        assert_eq!(values("three", &one).unwrap(), r#"{"replicas":"three"}"#);
        assert_eq!(values(r#"{"replicas": 4}"#, &one).unwrap(), r#"{"replicas":4}"#);
        assert_eq!(values("", &two).unwrap(), "{}");
        assert!(values("x", &two).is_err());
    }
}
