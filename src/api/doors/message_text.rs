//! The text of a message, as clients of all doors write it: a text, or a list of parts.

use serde_json::Value;

/// The text of a message, and how many of its parts are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MessageText {
    pub(super) text: String,
    pub(super) unread_parts: usize,
}

impl MessageText {
    /// Reads the content of a message. Parts are texts or objects with a `text`.
    pub(super) fn from_content(content: &Value) -> Self {
        let mut read = Self::default();
        match content {
            Value::String(text) => read.text.clone_from(text),
            Value::Array(parts) => {
                for part in parts {
                    match part.as_str().or_else(|| part.get("text").and_then(Value::as_str)) {
                        Some(text) => {
                            if !read.text.is_empty() {
                                read.text.push('\n');
                            }
                            read.text.push_str(text);
                        }
                        None => read.unread_parts += 1,
                    }
                }
            }
            Value::Null => {}
            Value::Object(_) | Value::Number(_) | Value::Bool(_) => read.unread_parts = 1,
        }
        read
    }

    /// Returns the text for the agent, which says how many parts it does not have: the agent tells the user, who would otherwise
    /// wonder why it does not see the picture.
    pub(super) fn with_note(self) -> String {
        let Self { mut text, unread_parts } = self;
        if unread_parts > 0 {
            text.push_str(&format!("\n\n(Attached parts that are no text and were not passed on: {unread_parts})"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_read_and_other_parts_counted() {
        for (content, text, unread_parts) in [
            (json!("hi"), "hi", 0),
            (json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "a\nb", 0),
            (json!([{"type": "image_url", "image_url": {"url": "data:"}}, "x"]), "x", 1),
            (json!([{"type": "input_text", "text": "a"}]), "a", 0),
            (json!([{"type": "text", "text": 5}]), "", 1),
            (json!(null), "", 0),
            (json!([]), "", 0),
            (json!({"text": "odd"}), "", 1),
            (json!(5), "", 1),
        ] {
            let read = MessageText::from_content(&content);
            assert_eq!((read.text.as_str(), read.unread_parts), (text, unread_parts), "{content}");
        }
        let noted = MessageText { text: "see".to_owned(), unread_parts: 2 }.with_note();
        assert_eq!(noted, "see\n\n(Attached parts that are no text and were not passed on: 2)");
    }
}
