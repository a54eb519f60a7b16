//! Attachments of a message: texts such as a manifest or a log, which the model reads as data.

use k8sops_core::SentAttachment;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{problem::ProblemDetails, problem_code::ProblemCode};

/// The most attachments of a message.
pub(super) const MAX_ATTACHMENTS: usize = 10;
/// The most characters of the name of an attachment.
const MAX_NAME_CHARS: usize = 200;
/// The most characters of a media type.
const MAX_MEDIA_TYPE_CHARS: usize = 100;
/// Media types outside of `text/` whose content is text.
const TEXT_TYPES: &[&str] = &[
    "application/json",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/yaml",
    "application/x-yaml",
    "application/xml",
    "application/toml",
    "application/sql",
    "application/javascript",
    "application/x-sh",
    "application/x-shellscript",
    "application/x-pem-file",
];
/// Endings of media types whose content is text.
const TEXT_SUFFIXES: &[&str] = &["+json", "+yaml", "+xml"];

/// A text that goes with a message.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAttachment {
    /// The name of the file, at most 200 characters.
    #[schema(example = "checkout.yaml")]
    name: String,
    /// The media type, which must be one of a text: `text/…`, JSON, YAML, XML and the like.
    #[serde(default = "plain_text")]
    #[schema(default = "text/plain", example = "application/yaml")]
    media_type: String,
    /// The text.
    text: String,
}

fn plain_text() -> String {
    "text/plain".to_owned()
}

/// Reads attachments. Clients with typed requests send `null` for a field that is not set.
pub(super) fn read_null_as_none<'de, D: Deserializer<'de>>(attachments: D) -> Result<Vec<NewAttachment>, D::Error> {
    Ok(Option::deserialize(attachments)?.unwrap_or_default())
}

impl NewAttachment {
    /// Creates an attachment of plain text.
    #[cfg(test)]
    fn plain(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), media_type: plain_text(), text: text.to_owned() }
    }
}

/// Checks the attachments of a message, whose texts may have `max_bytes` together.
///
/// # Errors
/// There are too many, they are too large together, or one of them is not a text with a name.
pub(super) fn check_attachments(
    attachments: Vec<NewAttachment>,
    max_bytes: usize,
) -> Result<Vec<SentAttachment>, ProblemDetails> {
    let count = attachments.len();
    if count > MAX_ATTACHMENTS {
        return Err(ProblemDetails::invalid(format!(
            "the message has {count} attachments, the limit is {MAX_ATTACHMENTS}; send the others with another message"
        )));
    }
    let total: usize = attachments.iter().map(|attachment| attachment.text.len()).sum();
    if total > max_bytes {
        let detail = format!(
            "the attachments have {total} bytes together, the limit is {max_bytes} (K8SOPS_MAX_ATTACHMENT_BYTES); attach the part \
             that matters, such as the end of a log"
        );
        return Err(ProblemDetails::new(ProblemCode::MessageTooLong, detail));
    }
    attachments.into_iter().enumerate().map(|(at, attachment)| check_attachment(at, attachment)).collect()
}

fn check_attachment(at: usize, attachment: NewAttachment) -> Result<SentAttachment, ProblemDetails> {
    let NewAttachment { name, media_type, text } = attachment;
    let name = name.trim().to_owned();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        return Err(ProblemDetails::invalid(format!(
            "attachments[{at}].name must be a single line of 1 to {MAX_NAME_CHARS} characters"
        )));
    }
    let media_type = media_type.trim().to_ascii_lowercase();
    if !is_text_type(&media_type) {
        return Err(ProblemDetails::invalid(format!(
            "attachments[{at}] ({name}) has the media type {media_type:?}; only texts can be attached, such as text/plain, \
             application/json or application/yaml"
        )));
    }
    if text.trim().is_empty() {
        return Err(ProblemDetails::invalid(format!("attachments[{at}] ({name}) is empty")));
    }
    if text.contains('\0') {
        return Err(ProblemDetails::invalid(format!(
            "attachments[{at}] ({name}) is binary data; only texts can be attached"
        )));
    }
    Ok(SentAttachment::from_client(name, media_type, text))
}

/// Returns whether the content of a media type is text. Parameters such as `charset` are ignored.
fn is_text_type(media_type: &str) -> bool {
    let is_valid = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>') || c == ' ';
    if media_type.len() > MAX_MEDIA_TYPE_CHARS || !media_type.chars().all(is_valid) {
        return false;
    }
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.strip_prefix("text/").is_some_and(|subtype| !subtype.is_empty())
        || TEXT_TYPES.contains(&essence)
        || (essence.contains('/') && TEXT_SUFFIXES.iter().any(|suffix| essence.ends_with(suffix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_with_a_name_are_accepted() {
        for (name, media_type, text, expected) in [
            ("a.yaml", "application/yaml", "kind: Pod", None),
            ("a.log", "text/plain; charset=UTF-8", "x", None),
            ("sbom.json", "application/spdx+json", "{}", None),
            (" ", "text/plain", "x", Some("attachments[0].name must be a single line")),
            ("a\nb", "text/plain", "x", Some("attachments[0].name must be a single line")),
            ("a.png", "image/png", "x", Some("attachments[0] (a.png) has the media type \"image/png\"; only texts")),
            ("a", "application/octet-stream", "x", Some("only texts can be attached")),
            ("a", "text/\"><b", "x", Some("only texts can be attached")),
            ("a", "text/", "x", Some("only texts can be attached")),
            ("a.log", "text/plain", " \n", Some("attachments[0] (a.log) is empty")),
            ("a.log", "text/plain", "a\0b", Some("attachments[0] (a.log) is binary data")),
        ] {
            let attachment = NewAttachment { name: name.into(), media_type: media_type.into(), text: text.into() };
            let checked = check_attachments(vec![attachment], 100);
            match expected {
                None => assert_eq!(checked.unwrap()[0].attachment.text, text),
                Some(why) => {
                    let detail = checked.unwrap_err().detail;
                    assert!(detail.contains(why), "{detail}");
                }
            }
        }
    }

    #[test]
    fn count_and_size_are_limited() {
        let all = |count: usize, text: &str| vec![NewAttachment::plain("a", text); count];
        assert_eq!(check_attachments(all(MAX_ATTACHMENTS, "12"), 20).unwrap().len(), MAX_ATTACHMENTS);
        let problem = check_attachments(all(MAX_ATTACHMENTS, "12"), 19).unwrap_err();
        assert_eq!(problem.code, ProblemCode::MessageTooLong);
        assert!(problem.detail.contains("20 bytes together, the limit is 19"), "{}", problem.detail);
        let problem = check_attachments(all(MAX_ATTACHMENTS + 1, "1"), 100).unwrap_err();
        assert_eq!(problem.code, ProblemCode::InvalidRequest);
    }
}
