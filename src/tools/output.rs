//! The budget of a tool's output: what is too long is cut in the middle, for errors stand at the end and headings at the
//! beginning.

use serde_json::Value;

/// An output within its budget.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Budgeted {
    pub(super) content: String,
    pub(super) structured: Option<Value>,
    /// Whether `content` is less than what came.
    pub(super) truncated: bool,
    /// The size of the text that came.
    pub(super) bytes: u64,
}

/// The share of the budget that the beginning gets, in tenths.
const HEAD_TENTHS: usize = 6;

/// Fits an output into `max` bytes, the line that says what was left out not counted. The structured form is kept only
/// where both fit: most servers send the same twice.
pub(super) fn fit(text: String, structured: Option<Value>, max: usize) -> Budgeted {
    let bytes = text.len() as u64;
    if text.len() > max {
        return Budgeted { content: cut(&text, max), structured: None, truncated: true, bytes };
    }
    let room = max - text.len();
    let structured = structured.filter(|value| fits(value, room));
    Budgeted { content: text, structured, truncated: false, bytes }
}

/// Whether the JSON of a value is no longer than `room`; stops counting where it is.
fn fits(value: &Value, room: usize) -> bool {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Count(room), value).is_ok()
}

/// The beginning and the end of `text`, `max` bytes together, with a line between them.
fn cut(text: &str, max: usize) -> String {
    let head_room = max * HEAD_TENTHS / 10;
    let tail_room = max - head_room;
    let head = &text[..head_end(text, head_room)];
    let tail = &text[tail_start(text, tail_room)..];
    let left_out = &text[head.len()..text.len() - tail.len()];
    let lines = left_out.lines().count();
    let before = if head.is_empty() || head.ends_with('\n') { "" } else { "\n" };
    format!("{head}{before}[... {} bytes, {lines} lines left out ...]\n{tail}", left_out.len())
}

/// The end of a line, if there is one not too far before the limit; else of a character.
fn head_end(text: &str, room: usize) -> usize {
    let limit = text.floor_char_boundary(room);
    let near = text.floor_char_boundary(limit - limit / 4);
    text[near..limit].rfind('\n').map_or(limit, |at| near + at + 1)
}

/// The start of a line, if there is one not too far behind the limit; else of a character.
fn tail_start(text: &str, room: usize) -> usize {
    let limit = text.ceil_char_boundary(text.len() - room);
    let near = text.ceil_char_boundary(limit + (text.len() - limit) / 4);
    text[limit..near].find('\n').map_or(limit, |at| limit + at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parts(content: &str) -> (&str, &str) {
        let (head, rest) = content.split_once("[... ").expect("there is a marker");
        let (_, tail) = rest.split_once(" left out ...]\n").expect("it ends");
        (head, tail)
    }

    #[test]
    fn lines_stay_whole_where_they_can() {
        let text: String = (0..1000).map(|i| ["line ", &i.to_string(), "\n"].concat()).collect();
        let fitted = fit(text.clone(), None, 1000);
        assert!(fitted.truncated);
        assert_eq!(fitted.bytes, text.len() as u64);
        let (head, tail) = parts(&fitted.content);
        assert!(head.starts_with("line 0\n") && head.ends_with('\n') && text.starts_with(head));
        assert!(tail.starts_with("line ") && tail.ends_with("line 999\n") && text.ends_with(tail));
        let left_out = text.len() - head.len() - tail.len();
        let lines = 1000 - head.lines().count() - tail.lines().count();
        assert!(fitted.content.contains(&format!("[... {left_out} bytes, {lines} lines left out ...]")));
    }

    #[test]
    fn the_structured_form_is_kept_only_within_the_budget() {
        let structured = Some(json!({"a": "0123456789"}));
        assert_eq!(fit("text".into(), structured.clone(), 100).structured, structured);
        assert_eq!(fit("text".into(), structured.clone(), 20).structured, None);
        assert_eq!(fit("text".into(), structured, 2).structured, None);
    }

    proptest! {
        #[test]
        fn what_fits_is_untouched(text in "\\PC{0,64}", more in 0usize..8) {
            let max = text.len() + more;
            let fitted = fit(text.clone(), None, max);
            prop_assert_eq!(fitted.content, text);
            prop_assert!(!fitted.truncated);
        }

        #[test]
        fn what_is_cut_has_its_head_and_tail_within_the_budget(
            text in "([a-z\n]|\\PC){0,400}".prop_filter("no marker of its own", |t| !t.contains("[... ")),
            max in 0usize..300,
        ) {
            let fitted = fit(text.clone(), None, max);
            prop_assert_eq!(fitted.truncated, text.len() > max);
            if fitted.truncated {
                let (head, tail) = parts(&fitted.content);
                // A line that was cut in two gets an end of its own before the marker.
                let head = head.strip_suffix('\n').unwrap_or(head);
                prop_assert!(text.starts_with(head) && text.ends_with(tail));
                prop_assert!(head.len() + tail.len() <= max);
                prop_assert!(fitted.content.len() <= max + 64);
            }
        }
    }
}
