//! Head and tail: errors stand at the end, headings at the beginning.

use super::Budget;

/// The share of the budget that the beginning gets, in tenths.
const HEAD_TENTHS: usize = 6;
/// How often a smaller piece is tried; each is four fifths of the one before, so that the last is next to nothing.
const TRIES: usize = 24;

/// The beginning and the end of a text, with a line between them that says what was left out.
pub(super) fn middle(text: &str, budget: Budget, note: &str) -> String {
    shrinking(budget, |room| {
        let room = room.saturating_sub(120 + note.len());
        let head_room = room * HEAD_TENTHS / 10;
        let head = &text[..head_end(text, head_room)];
        let tail = &text[tail_start(text, (room - head_room).min(text.len() - head.len()))..];
        let left_out = &text[head.len()..text.len() - tail.len()];
        let first = head.matches('\n').count() + 1;
        let last = first + left_out.trim_end_matches('\n').matches('\n').count();
        let gap = if head.is_empty() || head.ends_with('\n') { "" } else { "\n" };
        format!("{head}{gap}[... {} bytes left out, lines {first} to {last}{note} ...]\n{tail}", left_out.len())
    })
}

/// The longest that `make` makes within the budget: tried with fewer and fewer bytes.
pub(super) fn shrinking(budget: Budget, make: impl Fn(usize) -> String) -> String {
    let mut room = budget.guess();
    for _ in 0..TRIES {
        let tried = make(room);
        if budget.holds(&tried) {
            return tried;
        }
        room = room / 5 * 4;
    }
    // A budget in which not even the words on the cut have room.
    let least = make(0);
    least[..least.floor_char_boundary(budget.guess())].to_owned()
}

/// The end of a line, if there is one not too far before the limit; else of a character.
fn head_end(text: &str, room: usize) -> usize {
    let limit = text.floor_char_boundary(room);
    let near = text.floor_char_boundary(limit - limit / 4);
    text[near..limit].rfind('\n').map_or(limit, |at| near + at + 1)
}

/// The start of a line, if there is one not too far behind the limit; else of a character.
fn tail_start(text: &str, room: usize) -> usize {
    let limit = text.ceil_char_boundary(text.len() - room.min(text.len()));
    let near = text.ceil_char_boundary(limit + (text.len() - limit) / 4);
    text[limit..near].find('\n').map_or(limit, |at| limit + at + 1)
}
