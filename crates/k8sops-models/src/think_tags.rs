//! Reasoning that a server leaves in the text: between `<think>` and `</think>` at its beginning.

use std::mem;

const OPEN_TAG: &str = "<think>";
const CLOSE_TAG: &str = "</think>";

/// Separates the reasoning between the tags at the beginning of a text from the rest of it. The text arrives in pieces.
#[derive(Debug, Default)]
pub(crate) struct ThinkTagSplitter {
    position: TagPosition,
    /// Text that cannot be classified yet.
    held: String,
    /// Whether some reasoning was returned.
    has_reasoning: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum TagPosition {
    /// The text may still begin with the tag.
    #[default]
    Start,
    Inside,
    /// Directly after the closing tag, where whitespace is dropped.
    AfterTag,
    /// After the reasoning, or in a text without any.
    PlainText,
}

/// The reasoning and the text of one piece.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct SplitText {
    pub(crate) reasoning: String,
    /// The text, which follows the reasoning.
    pub(crate) text: String,
}

impl ThinkTagSplitter {
    /// Adds a piece and returns what can be classified by now.
    pub(crate) fn push(&mut self, piece: impl Into<String>) -> SplitText {
        let piece = piece.into();
        let mut split = SplitText::default();
        match self.position {
            TagPosition::PlainText => split.text = piece,
            TagPosition::AfterTag => split.text = self.trim_after_tag(&piece),
            TagPosition::Start | TagPosition::Inside => {
                self.held.push_str(&piece);
                if self.position == TagPosition::Inside || self.starts_with_tag(&mut split) {
                    self.split_inside(&mut split);
                }
            }
        }
        split
    }

    /// Returns the rest at the end of the text.
    pub(crate) fn finish(&mut self) -> SplitText {
        let held = mem::take(&mut self.held);
        match mem::replace(&mut self.position, TagPosition::PlainText) {
            TagPosition::Inside => SplitText { reasoning: held, text: String::new() },
            TagPosition::Start | TagPosition::AfterTag | TagPosition::PlainText => {
                SplitText { reasoning: String::new(), text: held }
            }
        }
    }

    /// Returns whether the text starts with the tag. Once that is ruled out, everything held is released as text.
    fn starts_with_tag(&mut self, split: &mut SplitText) -> bool {
        let beginning = self.held.trim_start();
        if let Some(inside) = beginning.strip_prefix(OPEN_TAG) {
            self.position = TagPosition::Inside;
            self.held = inside.to_owned();
            return true;
        }
        if !OPEN_TAG.starts_with(beginning) {
            self.position = TagPosition::PlainText;
            split.text = mem::take(&mut self.held);
        }
        false
    }

    fn split_inside(&mut self, split: &mut SplitText) {
        if !self.has_reasoning {
            self.held.drain(..self.held.len() - self.held.trim_start().len());
        }
        if let Some((reasoning, after)) = self.held.split_once(CLOSE_TAG) {
            let after = after.to_owned();
            reasoning.trim_end().clone_into(&mut split.reasoning);
            self.held.clear();
            self.position = TagPosition::AfterTag;
            split.text = self.trim_after_tag(&after);
            return;
        }
        // Hold back whitespace, and what may be the beginning of the closing tag.
        let may_end = |at: usize| CLOSE_TAG.starts_with(&self.held[at..]);
        let end =
            self.held.char_indices().map(|(at, _)| at).rev().take(CLOSE_TAG.len()).filter(|at| may_end(*at)).last();
        let certain = self.held[..end.unwrap_or(self.held.len())].trim_end().len();
        let rest = self.held.split_off(certain);
        split.reasoning = mem::replace(&mut self.held, rest);
        self.has_reasoning |= !split.reasoning.is_empty();
    }

    fn trim_after_tag(&mut self, piece: &str) -> String {
        let text = piece.trim_start();
        if !text.is_empty() {
            self.position = TagPosition::PlainText;
        }
        text.to_owned()
    }
}
