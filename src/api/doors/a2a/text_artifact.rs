//! A text of the agent that grows.

use data_encoding::HEXLOWER;
use k8sops_core::MessageId;

use super::task_resource::{TaskArtifact, TextPart};

/// What has to be sent of an artifact.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ArtifactChunk {
    pub(super) text: String,
    /// Whether the text follows what was sent before.
    pub(super) append: bool,
}

/// A message of the model as an artifact.
#[derive(Debug, Clone)]
pub(super) struct TextArtifact {
    pub(super) message: MessageId,
    text: String,
    name: Option<&'static str>,
}

impl TextArtifact {
    pub(super) fn new(message: MessageId) -> Self {
        Self { message, text: String::new(), name: None }
    }

    /// Adds text that the model has just written. Returns what is new of it.
    pub(super) fn add_text(&mut self, offset: usize, content: &str) -> Option<ArtifactChunk> {
        let known = self.text.len();
        // The text starts over, or was lost in between and comes again as a whole.
        if offset == 0 && known > 0 {
            return self.set_text(content);
        }
        let new = content.get(known.saturating_sub(offset)..).unwrap_or_default();
        self.text.push_str(new);
        (!new.is_empty()).then(|| ArtifactChunk { text: new.to_owned(), append: known > 0 })
    }

    /// Replaces the text by the whole of it.
    fn set_text(&mut self, whole: &str) -> Option<ArtifactChunk> {
        let chunk = match whole.strip_prefix(self.text.as_str()) {
            Some("") => None,
            Some(rest) => Some(ArtifactChunk { text: rest.to_owned(), append: !self.text.is_empty() }),
            None => Some(ArtifactChunk { text: whole.to_owned(), append: false }),
        };
        whole.clone_into(&mut self.text);
        chunk
    }

    /// Completes the text. Returns the last chunk, which may be empty.
    pub(super) fn complete(&mut self, whole: &str, name: &'static str) -> ArtifactChunk {
        self.name = Some(name);
        self.set_text(whole).unwrap_or_else(|| ArtifactChunk { text: String::new(), append: true })
    }

    /// Returns the artifact with a part of its text.
    pub(super) fn with_text(&self, text: String) -> TaskArtifact {
        let artifact_id = HEXLOWER.encode(self.message.as_bytes());
        TaskArtifact { artifact_id, name: self.name, parts: vec![TextPart { text }] }
    }

    /// Returns the artifact with all of its text.
    pub(super) fn whole(&self) -> TaskArtifact {
        self.with_text(self.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_add_up_to_the_text() {
        let mut artifact = TextArtifact::new(MessageId::new());
        let chunk = |text: &str, append| Some(ArtifactChunk { text: text.to_owned(), append });
        assert_eq!(artifact.add_text(0, "one "), chunk("one ", false));
        assert_eq!(artifact.add_text(4, "two "), chunk("two ", true));
        // What is known is not sent again.
        assert_eq!(artifact.add_text(4, "two "), None);
        assert_eq!(artifact.add_text(0, "one two three"), chunk("three", true));
        // Another text replaces it.
        assert_eq!(artifact.add_text(0, "four"), chunk("four", false));
        assert_eq!(artifact.complete("four five", "answer"), chunk(" five", true).unwrap());
        assert_eq!(artifact.complete("four five", "answer"), chunk("", true).unwrap());
        assert_eq!(artifact.whole().parts[0].text, "four five");
        let mut unseen = TextArtifact::new(MessageId::new());
        assert_eq!(unseen.complete("whole", "answer"), chunk("whole", false).unwrap());
    }
}
