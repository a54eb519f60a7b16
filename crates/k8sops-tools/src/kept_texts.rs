//! Whether a session has texts that the built-in tools can read.

use std::sync::Arc;

use k8sops_core::ChatMessage;

/// Whether a session has texts that `read_output` can show: outputs of tools or attachments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum KeptTexts {
    #[default]
    Absent,
    Present,
}

impl KeptTexts {
    /// Returns whether there are such texts in these messages.
    pub(crate) fn find(messages: &[Arc<ChatMessage>]) -> Self {
        let is_kept = |message: &Arc<ChatMessage>| match &**message {
            ChatMessage::Tool(_) => true,
            ChatMessage::User(user) => !user.attachments.is_empty(),
            ChatMessage::Assistant(_) => false,
        };
        if messages.iter().any(is_kept) { Self::Present } else { Self::Absent }
    }
}
