//! Composes a message of words and files.

use std::{
    fs::File,
    io::{self, ErrorKind, IsTerminal as _, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use super::{
    service::{ApiClient, ApiClientError},
    terminal::format_bytes,
};

/// How much of the beginning and of the end of an input is kept, in bytes. More than a message may hold by default.
const KEPT_HEAD: usize = 512 * 1024;
const KEPT_TAIL: usize = 1536 * 1024;
/// Time after which the user is told what is waited for.
const NOTICE_DELAY: Duration = Duration::from_secs(2);
/// The longest message that a service of an unknown version accepts, in bytes.
const DEFAULT_MESSAGE_BYTES: usize = 65_536;
/// The largest WebSocket frame that such a service accepts, in bytes.
const DEFAULT_FRAME_BYTES: usize = 262_144;
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
    /// More inputs than the service accepts.
    #[error("at most {0} files can go with a question")]
    TooManyInputs(usize),
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
    /// The inputs, which the model reads as data.
    pub(super) attachments: Vec<QuestionAttachment>,
    /// What the user should know about the inputs.
    pub(super) notes: Vec<String>,
}

/// An input as the service gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct QuestionAttachment {
    name: String,
    media_type: &'static str,
    text: String,
}

/// How long a question may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct QuestionLimits {
    /// The most bytes of the words.
    pub(super) message_bytes: usize,
    /// The most bytes of a message with attachments on its way, as JSON over REST.
    pub(super) body_bytes: usize,
    /// The most bytes of all attachments together.
    pub(super) attachment_bytes: usize,
    /// The most attachments; 0 if the service accepts none.
    pub(super) attachments: usize,
}

impl QuestionLimits {
    /// No limits, to find out whether there is a question at all.
    pub(super) const NONE: Self = Self {
        message_bytes: usize::MAX,
        body_bytes: usize::MAX,
        attachment_bytes: usize::MAX / 2,
        attachments: usize::MAX,
    };

    /// Fetches the limits of a service.
    pub(super) async fn fetch(client: &ApiClient) -> Result<Self, ApiClientError> {
        let info = client.get_info().await?;
        let limit = |name: &str| info["limits"][name].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
        let attachment_bytes = limit("max_attachment_bytes").unwrap_or(0);
        Ok(Self {
            message_bytes: limit("max_message_bytes").unwrap_or(DEFAULT_MESSAGE_BYTES),
            body_bytes: limit("max_frame_bytes").unwrap_or(DEFAULT_FRAME_BYTES) + 2 * attachment_bytes,
            attachment_bytes,
            attachments: limit("max_attachments").unwrap_or(0),
        })
    }
}

/// Reads the files, and standard input if it is not a terminal.
///
/// # Errors
/// An input cannot be read, or is binary.
pub(super) async fn read_inputs(files: &[PathBuf]) -> Result<Vec<QuestionInput>, QuestionError> {
    let mut inputs = Vec::new();
    let stdin_is_file = files.iter().any(|path| path == Path::new("-"));
    for path in files.iter().filter(|path| *path != Path::new("-")) {
        inputs.push(QuestionInput::open(path)?);
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

/// Makes a message of the words, with the inputs as attachments. Long inputs lose their middle.
///
/// # Errors
/// There is no question, its words are too long, or there are too many inputs.
pub(super) fn compose_question(
    words: &str,
    mut inputs: Vec<QuestionInput>,
    limits: QuestionLimits,
) -> Result<ComposedQuestion, QuestionError> {
    let words = words.trim();
    let mut notes: Vec<String> = inputs
        .iter()
        .filter(|input| input.is_repaired)
        .map(|input| format!("{} is not valid UTF-8; the invalid bytes are replaced", input.name))
        .collect();
    // What stands alone is the question, not something that goes with one.
    if words.is_empty() && inputs.len() == 1 && inputs[0].tail.is_none() && inputs[0].head.len() <= limits.message_bytes
    {
        let text = inputs.remove(0).head;
        return if text.trim().is_empty() {
            Err(QuestionError::Missing)
        } else {
            Ok(ComposedQuestion { text: text.trim().to_owned(), attachments: Vec::new(), notes })
        };
    }
    inputs.retain(|input| !input.is_blank());
    if words.is_empty() && inputs.is_empty() {
        return Err(QuestionError::Missing);
    }
    let text = if words.is_empty() { "See what is attached.".to_owned() } else { words.to_owned() };
    if text.len() > limits.message_bytes {
        return Err(QuestionError::TooLong(limits.message_bytes));
    }
    if inputs.len() > limits.attachments {
        return Err(QuestionError::TooManyInputs(limits.attachments));
    }
    // The body has the words, too, and its own fields.
    let room = limits.body_bytes.saturating_sub(2 * text.len() + 1024);
    let attachments = attach_inputs(&inputs, limits.attachment_bytes, room, &mut notes);
    Ok(ComposedQuestion { text, attachments, notes })
}

/// Shortens the inputs until they have `max_bytes` together, and `max_json_bytes` as JSON.
fn attach_inputs(
    inputs: &[QuestionInput],
    mut max_bytes: usize,
    max_json_bytes: usize,
    notes: &mut Vec<String>,
) -> Vec<QuestionAttachment> {
    loop {
        let fitted = fit_inputs(inputs, max_bytes);
        let attachments: Vec<_> = inputs.iter().zip(&fitted).map(|(input, (text, _))| input.attach(text)).collect();
        // Quotation marks, line ends and other characters are longer as JSON.
        let size = serde_json::to_string(&attachments).map_or(0, |json| json.len());
        if size <= max_json_bytes || max_bytes < MIN_PART {
            let shortened = inputs.iter().zip(&fitted).filter(|(_, (_, left_out))| *left_out > 0);
            notes.extend(shortened.map(|(input, (_, left_out))| {
                format!(
                    "{} of {} from the middle of {} are left out: the service accepts {} with a message",
                    format_bytes(*left_out),
                    format_bytes(input.total_bytes),
                    input.name,
                    format_bytes(max_bytes as u64)
                )
            }));
            return attachments;
        }
        max_bytes = max_bytes.min(size) / 4 * 3;
    }
}

/// Returns the texts of the inputs in at most `max_bytes` together, and how much of each is left out. Inputs that need less than
/// their share leave the rest to the others.
fn fit_inputs(inputs: &[QuestionInput], max_bytes: usize) -> Vec<(String, u64)> {
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    order.sort_by_key(|at| inputs[*at].total_bytes);
    let mut fitted = vec![(String::new(), 0); inputs.len()];
    let mut left = max_bytes;
    for (done, at) in order.iter().enumerate() {
        let (text, left_out) = inputs[*at].fit(left / (inputs.len() - done));
        left = left.saturating_sub(text.len());
        fitted[*at] = (text, left_out);
    }
    fitted
}

impl QuestionInput {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is binary.
    pub(super) fn open(path: &Path) -> Result<Self, QuestionError> {
        let name = path.display().to_string();
        let unreadable = |source| QuestionError::Unreadable { name: name.clone(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        Self::read(&name, &mut file)
    }

    /// Returns the name and the size, for a person.
    pub(super) fn describe(&self) -> String {
        format!("{} ({})", self.name, format_bytes(self.total_bytes))
    }

    /// Returns whether there is nothing to read in it.
    pub(super) fn is_blank(&self) -> bool {
        self.tail.is_none() && self.head.trim().is_empty()
    }

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
            // Not at the end: a device has none.
            if head[head.len() - for_head..].contains(&0) {
                return Err(QuestionError::Binary(name.to_owned()));
            }
            tail.extend_from_slice(&buffer[for_head..read]);
            if tail.len() > 2 * KEPT_TAIL {
                tail.drain(..tail.len() - KEPT_TAIL);
            }
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

    fn attach(&self, text: &str) -> QuestionAttachment {
        let path = Path::new(&self.name);
        let name = path.file_name().map_or_else(|| self.name.clone(), |name| name.to_string_lossy().into_owned());
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let media_type = match ending.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => "application/yaml",
            "json" => "application/json",
            "xml" => "application/xml",
            _ => "text/plain",
        };
        QuestionAttachment { name, media_type, text: text.to_owned() }
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

    fn limits(bytes: usize) -> QuestionLimits {
        QuestionLimits { message_bytes: bytes, attachment_bytes: bytes, body_bytes: usize::MAX, attachments: 3 }
    }

    fn compose(words: &str, bytes: &[u8], max: usize) -> ComposedQuestion {
        let inputs = vec![input(bytes)].into_iter().filter(|input| input.total_bytes > 0).collect();
        compose_question(words, inputs, limits(max)).unwrap()
    }

    #[test]
    fn input_goes_with_the_words_or_is_the_question() {
        assert_eq!(compose("why?", b"", 100).text, "why?");
        assert_eq!(compose("", b" why?\n", 100).text, "why?");
        let composed = compose("why?", b"a\nb\n", 1000);
        assert_eq!((composed.text.as_str(), composed.attachments[0].text.as_str()), ("why?", "a\nb\n"));
        assert!(compose("why?", b" \n\t\n", 1000).attachments.is_empty());
        assert_eq!(compose("", &[b'x'; 1_001], 1000).text, "See what is attached.");
        let none = limits(10);
        assert!(matches!(compose_question(" ", vec![], none), Err(QuestionError::Missing)));
        assert!(matches!(compose_question("", vec![input(b" \n")], none), Err(QuestionError::Missing)));
        assert!(matches!(compose_question("too long", vec![], limits(4)), Err(QuestionError::TooLong(4))));
        let many = vec![input(b"x"); 4];
        assert!(matches!(compose_question("why?", many, none), Err(QuestionError::TooManyInputs(3))));
    }

    #[test]
    fn long_input_loses_its_middle() {
        let lines: Vec<String> = (0..400_000).map(|n| format!("line {n} é")).collect();
        let log = lines.join("\n") + "\nthe end\n";
        let composed = compose("why?", log.as_bytes(), 65_536);
        let text = &composed.attachments[0].text;
        assert!(text.len() <= 65_536 && text.len() > 60_000, "{}", text.len());
        assert!(text.starts_with("line 0 é\n") && text.ends_with("line 399999 é\nthe end\n"));
        assert!(text.contains("left out …]") && !text.contains('\u{fffd}'));
        assert!(
            composed.notes[0].starts_with("5.5 MiB of 5.6 MiB from the middle of standard input"),
            "{:?}",
            composed.notes
        );
        // One line of any length.
        let composed = compose("", "ü".repeat(3_000_000).as_bytes(), 1_000);
        let text = &composed.attachments[0].text;
        assert!(text.len() <= 1_000 && !text.contains('\u{fffd}'));
    }

    #[test]
    fn several_inputs_share_the_room() {
        let named = |name: &str, bytes: &[u8]| QuestionInput::read(name, &mut &*bytes).unwrap();
        let inputs =
            vec![named("x/a.log", &[b'x'; 9_000]), named("b.yaml", b"kind: Pod"), named("c.log", &[b'y'; 900])];
        let composed = compose_question("why?", inputs, limits(4_000)).unwrap();
        let [log, manifest, short] = &composed.attachments[..] else { panic!("{composed:?}") };
        assert_eq!((log.name.as_str(), log.media_type), ("a.log", "text/plain"));
        assert_eq!((manifest.text.as_str(), manifest.media_type), ("kind: Pod", "application/yaml"));
        assert_eq!(short.text.len(), 900);
        assert!(log.text.len() <= 3_091 && log.text.len() > 2_900 && composed.notes.len() == 1, "{}", log.text.len());
    }

    #[test]
    fn input_that_grows_as_json_fits_into_a_request() {
        let limits = QuestionLimits { body_bytes: 40_000, ..limits(20_000) };
        let log = "\u{1b}[31mERROR\u{1b}[0m \"quoted\"\n".repeat(2_000);
        let composed = compose_question("why?", vec![input(log.as_bytes())], limits).unwrap();
        let size = serde_json::to_string(&composed.attachments).unwrap().len();
        assert!(size <= 39_000 && size > 20_000, "{size}");
    }

    #[test]
    fn invalid_bytes_are_replaced_and_binary_data_is_rejected() {
        let composed = compose("why?", b"caf\xe9 down", 1000);
        assert!(
            composed.attachments[0].text.contains("caf\u{fffd} down") && composed.notes[0].contains("not valid UTF-8")
        );
        assert_eq!(compose("why?", b"\xef\xbb\xbfa", 1000).attachments[0].text, "a");
        let binary = QuestionInput::read("x.gz", &mut &b"\x1f\x8b\x00\x01"[..]);
        assert_eq!(binary.unwrap_err().to_string(), "x.gz is binary data; only text can be part of a question");
    }
}
