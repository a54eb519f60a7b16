//! Texts that a user attaches to a message: a manifest, a log.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::ToolCallId;

/// A text that was attached to a message. It is data like the output of a tool: secrets are placeholders, and a long text is
/// shortened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageAttachment {
    /// The id under which the whole text is stored with the outputs of tool calls.
    pub attachment_id: ToolCallId,
    /// The name of the file.
    pub name: String,
    /// The media type, such as `application/yaml`.
    pub media_type: String,
    /// The text, shortened to the output budget.
    pub text: String,
    /// The size of the text in bytes before it was shortened.
    pub bytes: u64,
    /// Whether `text` is less than what was attached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// An attachment on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentAttachment {
    /// The attachment as it is logged.
    #[serde(flatten)]
    pub attachment: MessageAttachment,
    /// The whole text without its secrets, if it was shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Arc<str>>,
}

impl SentAttachment {
    /// An attachment as a client sent it, with its secrets.
    #[must_use]
    pub fn from_client(name: String, media_type: String, text: String) -> Self {
        let bytes = text.len() as u64;
        let attachment_id = ToolCallId::for_attachment();
        let attachment = MessageAttachment { attachment_id, name, media_type, text, bytes, truncated: false };
        Self { attachment, whole: None }
    }
}

/// The approximate size in bytes of the attachments of a message when they are stored.
pub(crate) fn attachment_bytes(attachments: &[MessageAttachment]) -> usize {
    attachments.iter().map(|attachment| attachment.name.len() + attachment.text.len() + 128).sum()
}
