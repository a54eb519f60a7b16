//! Whether a session has texts that the built-in tools can read.

use std::sync::Arc;

use k8sops_core::ChatMessage;

/// Whether a conversation has texts that `read_output` can show: outputs of tools or attachments.
pub(crate) fn has_kept_texts(messages: &[Arc<ChatMessage>]) -> bool {
    messages.iter().any(|message| match &**message {
        ChatMessage::Tool(_) => true,
        ChatMessage::User(user) => !user.attachments.is_empty(),
        ChatMessage::Assistant(_) => false,
    })
}
