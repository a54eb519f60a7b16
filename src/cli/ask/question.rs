//! Composes the question of words, files and standard input.

use std::{
    fs::File,
    io::{self, ErrorKind, IsTerminal as _, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::cli::terminal::format_bytes;

/// How much of the beginning and of the end of an input is kept, in bytes. More than a message may hold by default.
const KEPT_HEAD: usize = 512 * 1024;
const KEPT_TAIL: usize = 1536 * 1024;
/// Time after which the user is told what is waited for.
const NOTICE_DELAY: Duration = Duration::from_secs(2);
/// The smallest part of an input that is worth sending, in bytes.
const MIN_PART: usize = 256;

/// Why there is no question.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuestionError {
    /// Neither words nor input.
    #[error("what is the question? For example: k8sops ask \"why is checkout slow?\"")]
    Missing,
    /// An input cannot be read.
    #[error("{name} cannot be read: {source}")]
    Unreadable {
        /// What it is.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// An input is no text.
    #[error("{0} is binary data; only text can be part of a question")]
    Binary(String),
    /// The words alone are too long.
    #[error(
        "the question is longer than the {0} bytes that the service accepts; give a long text with -f or by a pipe"
    )]
    TooLong(usize),
}

/// A text that goes with the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QuestionInput {
    /// `standard input`, or the path of a file.
    name: String,
    /// The beginning of the text, or all of it.
    head: String,
    /// The end of the text, if the middle was not kept.
    tail: Option<String>,
    total_bytes: u64,
    /// The number of invalid bytes that are replaced.
    is_repaired: bool,
}

/// A question as the service gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ComposedQuestion {
    pub(super) text: String,
    /// What the user should know about the inputs.
    pub(super) notes: Vec<String>,
}

/// Reads the files, and standard input if it is not a terminal.
///
/// # Errors
/// An input cannot be read, or is binary.
pub(super) async fn read_inputs(files: &[PathBuf]) -> Result<Vec<QuestionInput>, QuestionError> {
    let mut inputs = Vec::new();
    let stdin_is_file = files.iter().any(|path| path == Path::new("-"));
    for path in files.iter().filter(|path| *path != Path::new("-")) {
        let name = path.display().to_string();
        let unreadable = |source| QuestionError::Unreadable { name: name.clone(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        inputs.push(QuestionInput::read(&name, &mut file)?);
    }
    if stdin_is_file || !io::stdin().is_terminal() {
        let reading = tokio::task::spawn_blocking(|| QuestionInput::read("standard input", &mut io::stdin().lock()));
        tokio::pin!(reading);
        let read = tokio::select! {
            read = &mut reading => read,
            () = tokio::time::sleep(NOTICE_DELAY) => {
                if io::stderr().is_terminal() {
                    eprintln!("k8sops: reading standard input to its end (`< /dev/null` if there is none)");
                }
                reading.await
            }
        };
        let unreadable =
            |error| QuestionError::Unreadable { name: "standard input".to_owned(), source: io::Error::other(error) };
        inputs.push(read.map_err(unreadable)??);
    }
    inputs.retain(|input| input.total_bytes > 0);
    Ok(inputs)
}

/// Joins the words and the inputs to a message of at most `max_bytes`. Long inputs lose their middle.
///
/// # Errors
/// There is no question, or its words are too long.
pub(super) fn compose_question(
    words: &str,
    mut inputs: Vec<QuestionInput>,
    max_bytes: usize,
) -> Result<ComposedQuestion, QuestionError> {
    let words = words.trim();
    let notes: Vec<String> = inputs
        .iter()
        .filter(|input| input.is_repaired)
        .map(|input| format!("{} is not valid UTF-8; the invalid bytes are replaced", input.name))
        .collect();
    // What stands alone is the question, not something that goes with one.
    if words.is_empty() && inputs.len() == 1 && inputs[0].tail.is_none() && inputs[0].head.len() <= max_bytes {
        let text = inputs.remove(0).head;
        return if text.trim().is_empty() {
            Err(QuestionError::Missing)
        } else {
            Ok(ComposedQuestion { text: text.trim().to_owned(), notes })
        };
    }
    inputs.retain(|input| !(input.tail.is_none() && input.head.trim().is_empty()));
    if words.is_empty() && inputs.is_empty() {
        return Err(QuestionError::Missing);
    }
    let mut composed = ComposedQuestion { text: words.to_owned(), notes };
    if composed.text.len() > max_bytes {
        return Err(QuestionError::TooLong(max_bytes));
    }
    // Inputs that need less than their share leave the rest to the others.
    inputs.sort_by_key(|input| input.total_bytes);
    let count = inputs.len();
    for (index, input) in inputs.iter().enumerate() {
        let share = max_bytes.saturating_sub(composed.text.len()) / (count - index);
        composed.append(input, share)?;
    }
    Ok(composed)
}

impl ComposedQuestion {
    fn append(&mut self, input: &QuestionInput, max_bytes: usize) -> Result<(), QuestionError> {
        let fence = "`".repeat(longest_backtick_run(input).max(2) + 1);
        let mut name = input.name.clone();
        name[..1].make_ascii_uppercase();
        let frame = format!("\n\n{name}:\n{fence}\n\n{fence}");
        let room = max_bytes.checked_sub(frame.len() + MIN_PART).ok_or(QuestionError::TooLong(max_bytes))? + MIN_PART;
        let (text, left_out) = input.fit(room);
        if left_out > 0 {
            self.notes.push(format!(
                "{} of {} from the middle of {} are left out, because a message has a limit",
                format_bytes(left_out),
                format_bytes(input.total_bytes),
                input.name
            ));
        }
        let text = text.trim_end_matches('\n');
        let lead = if self.text.is_empty() { "" } else { "\n\n" };
        self.text.push_str(&format!("{lead}{name}:\n{fence}\n{text}\n{fence}"));
        Ok(())
    }
}

impl QuestionInput {
    /// Reads an input to its end. Of a long one the beginning and the end are kept.
    fn read(name: &str, reader: &mut impl Read) -> Result<Self, QuestionError> {
        let unreadable = |source| QuestionError::Unreadable { name: name.to_owned(), source };
        let mut head = Vec::new();
        let mut tail: Vec<u8> = Vec::new();
        let mut total_bytes = 0_u64;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            total_bytes += read as u64;
            let for_head = read.min(KEPT_HEAD - head.len());
            head.extend_from_slice(&buffer[..for_head]);
            tail.extend_from_slice(&buffer[for_head..read]);
            if tail.len() > 2 * KEPT_TAIL {
                tail.drain(..tail.len() - KEPT_TAIL);
            }
        }
        if head.contains(&0) {
            return Err(QuestionError::Binary(name.to_owned()));
        }
        if (head.len() + tail.len()) as u64 == total_bytes {
            head.append(&mut tail);
        }
        tail.drain(..tail.len().saturating_sub(KEPT_TAIL));
        let is_cut = !tail.is_empty();
        // The cut may be in the middle of a character, which is no fault of the input.
        let cut_head = if is_cut { trim_partial_end(&head) } else { &head };
        let cut_tail = &tail[tail.iter().take(4).take_while(|byte| **byte & 0xC0 == 0x80).count()..];
        let head = String::from_utf8_lossy(cut_head);
        let tail = String::from_utf8_lossy(cut_tail);
        let is_repaired = std::str::from_utf8(cut_head).is_err() || std::str::from_utf8(cut_tail).is_err();
        let head = head.strip_prefix('\u{feff}').unwrap_or(&head).to_owned();
        Ok(Self { name: name.to_owned(), head, tail: is_cut.then(|| tail.into_owned()), total_bytes, is_repaired })
    }

    /// Returns the text in at most `max_bytes`, and how many bytes of it are left out. The end has the larger part, because that
    /// is where logs say what happened last.
    fn fit(&self, max_bytes: usize) -> (String, u64) {
        let tail = self.tail.as_deref();
        if tail.is_none() && self.head.len() <= max_bytes {
            return (self.head.clone(), 0);
        }
        let room = max_bytes.saturating_sub(64);
        let end = tail.unwrap_or(&self.head);
        let head = &self.head[..floor_boundary(&self.head, room / 4)];
        let head = head.rfind('\n').map_or(head, |line_end| &head[..line_end]);
        let end = &end[ceil_boundary(end, end.len().saturating_sub(room - room / 4))..];
        let end = end.find('\n').map_or(end, |line_end| &end[line_end + 1..]);
        let left_out = self.total_bytes.saturating_sub((head.len() + end.len()) as u64);
        (format!("{head}\n[… {} left out …]\n{end}", format_bytes(left_out)), left_out)
    }
}

fn longest_backtick_run(input: &QuestionInput) -> usize {
    let longest = |text: &str| text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    longest(&input.head).max(input.tail.as_deref().map_or(0, longest))
}

/// Returns the bytes without an incomplete character at their end.
fn trim_partial_end(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn ceil_boundary(text: &str, at: usize) -> usize {
    (at.min(text.len())..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &[u8]) -> QuestionInput {
        QuestionInput::read("standard input", &mut &*bytes).unwrap()
    }

    fn compose(words: &str, bytes: &[u8], max: usize) -> ComposedQuestion {
        let inputs = vec![input(bytes)].into_iter().filter(|input| input.total_bytes > 0).collect();
        compose_question(words, inputs, max).unwrap()
    }

    #[test]
    fn input_goes_with_the_words_or_is_the_question() {
        assert_eq!(compose("why?", b"", 100).text, "why?");
        assert_eq!(compose("", b" why?\n", 100).text, "why?");
        assert_eq!(compose("why?", b"a\nb\n", 1000).text, "why?\n\nStandard input:\n```\na\nb\n```");
        assert_eq!(compose("why?", b" \n\t\n", 1000).text, "why?");
        let fenced = compose("why?", b"```\nx\n````\n", 1000).text;
        assert!(
            fenced.starts_with("why?\n\nStandard input:\n`````\n```\nx") && fenced.ends_with("\n`````"),
            "{fenced}"
        );
        assert!(matches!(compose_question(" ", vec![], 10), Err(QuestionError::Missing)));
        assert!(matches!(compose_question("", vec![input(b" \n")], 10), Err(QuestionError::Missing)));
        assert!(matches!(compose_question("too long", vec![], 4), Err(QuestionError::TooLong(4))));
    }

    #[test]
    fn long_input_loses_its_middle() {
        let lines: Vec<String> = (0..400_000).map(|n| format!("line {n} é")).collect();
        let log = lines.join("\n") + "\nthe end\n";
        let composed = compose("why?", log.as_bytes(), 65_536);
        assert!(composed.text.len() <= 65_536 && composed.text.len() > 60_000, "{}", composed.text.len());
        assert!(composed.text.contains("```\nline 0 é\n") && composed.text.ends_with("line 399999 é\nthe end\n```"));
        assert!(composed.text.contains("left out …]") && !composed.text.contains('\u{fffd}'));
        assert!(
            composed.notes[0].starts_with("5.5 MiB of 5.6 MiB from the middle of standard input"),
            "{:?}",
            composed.notes
        );
        // One line of any length.
        let composed = compose("", "ü".repeat(3_000_000).as_bytes(), 1_000);
        assert!(composed.text.len() <= 1_000 && !composed.text.contains('\u{fffd}'));
    }

    #[test]
    fn several_inputs_share_the_room() {
        let named = |name: &str, bytes: &[u8]| QuestionInput::read(name, &mut &*bytes).unwrap();
        let inputs = vec![named("a.log", &[b'x'; 9_000]), named("b.yaml", b"kind: Pod"), named("c.log", &[b'y'; 900])];
        let composed = compose_question("why?", inputs, 4_000).unwrap();
        assert!(composed.text.len() <= 4_000 && composed.text.contains("kind: Pod"));
        assert!(composed.text.contains(&"y".repeat(900)) && composed.notes.len() == 1, "{:?}", composed.notes);
    }

    #[test]
    fn invalid_bytes_are_replaced_and_binary_data_is_rejected() {
        let composed = compose("why?", b"caf\xe9 down", 1000);
        assert!(composed.text.contains("caf\u{fffd} down") && composed.notes[0].contains("not valid UTF-8"));
        assert_eq!(compose("why?", b"\xef\xbb\xbfa", 1000).text, "why?\n\nStandard input:\n```\na\n```");
        let binary = QuestionInput::read("x.gz", &mut &b"\x1f\x8b\x00\x01"[..]);
        assert_eq!(binary.unwrap_err().to_string(), "x.gz is binary data; only text can be part of a question");
    }
}
