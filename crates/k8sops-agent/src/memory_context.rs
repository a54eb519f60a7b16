//! Memories in the conversation: they are attached once, to the message that they are relevant to, and stay there. The
//! beginning of the prompt is the same from call to call, so that providers can cache it.

use std::sync::Arc;

use crate::{
    cancellation::wait_until_stopped,
    context,
    run::Run,
    run_log::{LogClosed, RunView},
};
use k8sops_core::{ChatMessage, EventBody, MemoryNote, MemoryRecalled, OpenRun, UserMessage};

impl Run {
    /// Retrieves the memories that are relevant to the message of this run; returns whether it committed any.
    pub(crate) async fn recall_memories(&self, view: &RunView, run: &OpenRun) -> Result<bool, LogClosed> {
        let Some(memory) = self.memory.as_ref().filter(|_| run.memory && run.steps == 0) else { return Ok(false) };
        let Some(asked) = newest_user_message(&view.messages).filter(|asked| asked.recalled.is_empty()) else {
            return Ok(false);
        };
        let mut memories = tokio::select! {
            biased;
            () = wait_until_stopped(&self.cancel, &self.halt) => return Ok(false),
            memories = memory.retrieve_memories(&asked.content) => memories,
        };
        // A memory that is still in the conversation is not attached again.
        let known = |note: &MemoryNote| {
            context::messages_after_summary(view).iter().any(|message| {
                matches!(message.as_ref(), ChatMessage::User(m)
                    if m.recalled.iter().any(|other| other.id == note.id && other.content == note.content))
            })
        };
        memories.retain(|note| !known(note));
        if memories.is_empty() {
            return Ok(false);
        }
        self.log.append_events(vec![EventBody::MemoryRecalled(MemoryRecalled { memories })]).await?;
        Ok(true)
    }
}

/// Returns the message that the run answers.
pub(crate) fn newest_user_message(messages: &[Arc<ChatMessage>]) -> Option<&UserMessage> {
    messages.iter().rev().find_map(|message| match message.as_ref() {
        ChatMessage::User(message) => Some(message),
        _ => None,
    })
}
