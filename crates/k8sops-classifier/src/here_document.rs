//! Text that a command line gives to a command as its input: here-documents and here-strings.
//!
//! Only previews look at it. For the classification such a line is not analyzed.

/// Begins the words that stand for the here-documents of a line.
const DOCUMENT_WORD: &str = "__k8sops_here_document_";
/// Stands before the word that is a here-string.
const HERE_STRING_WORD: &str = "__k8sops_here_string__";

/// A line without its here-documents, in which a word stands for each of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TakenDocuments {
    pub(crate) line: String,
    documents: Vec<HereDocument>,
}

/// The text of a here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HereDocument {
    /// The command gets this text.
    Text(String),
    /// The shell expands variables or substitutions in the text, so it is not known what the command gets.
    Expanded,
}

/// What a word of a line without here-documents stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InputWord<'a> {
    Document(&'a HereDocument),
    /// The next word is the input.
    HereString,
}

impl TakenDocuments {
    /// Takes the here-documents out of a line; `None` if one is not closed.
    pub(crate) fn take(line: &str) -> Option<Self> {
        if line.contains(DOCUMENT_WORD) || line.contains(HERE_STRING_WORD) {
            return None;
        }
        let mut taken = Self::default();
        let mut rest = line;
        while let Some(at) = find_redirection(rest) {
            let (before, behind) = rest.split_at(at);
            taken.line.push_str(before);
            if let Some(string) = behind.strip_prefix("<<<") {
                taken.line.push_str(&format!(" {HERE_STRING_WORD} "));
                rest = string;
                continue;
            }
            let behind = behind.strip_prefix("<<")?;
            let (strips_tabs, behind) = match behind.strip_prefix('-') {
                Some(behind) => (true, behind),
                None => (false, behind),
            };
            let (delimiter, is_quoted, behind) = read_delimiter(behind.trim_start_matches([' ', '\t']))?;
            let (end_of_line, body) = behind.split_once('\n')?;
            let mut text = String::new();
            let mut read = 0;
            let mut lines = body.split_inclusive('\n');
            loop {
                let line = lines.next()?;
                read += line.len();
                let line = if strips_tabs { line.trim_start_matches('\t') } else { line };
                if line.trim_end_matches(['\n', '\r']) == delimiter {
                    break;
                }
                text.push_str(line);
            }
            let is_expanded = !is_quoted && text.contains(['$', '`', '\\']);
            taken.line.push_str(&format!(" {DOCUMENT_WORD}{}__ {end_of_line}\n", taken.documents.len()));
            taken.documents.push(if is_expanded { HereDocument::Expanded } else { HereDocument::Text(text) });
            rest = body.get(read..)?;
        }
        taken.line.push_str(rest);
        Some(taken)
    }

    /// Returns what a word stands for, if it is not itself.
    pub(crate) fn find_input(&self, word: &str) -> Option<InputWord<'_>> {
        if word == HERE_STRING_WORD {
            return Some(InputWord::HereString);
        }
        let number = word.strip_prefix(DOCUMENT_WORD)?.strip_suffix("__")?;
        self.documents.get(number.parse::<usize>().ok()?).map(InputWord::Document)
    }
}

/// Returns where the first `<<` outside of quotes is.
fn find_redirection(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match (quote, char) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => quote = Some(char),
            (None | Some('"'), '\\') => drop(chars.next()),
            (None, '<') if chars.peek().is_some_and(|(_, next)| *next == '<') => return Some(at),
            _ => {}
        }
    }
    None
}

/// Reads the delimiter of a here-document. Returns whether it is quoted, too, and the text behind it.
fn read_delimiter(text: &str) -> Option<(&str, bool, &str)> {
    for quote in ['\'', '"'] {
        if let Some(quoted) = text.strip_prefix(quote) {
            let (delimiter, behind) = quoted.split_once(quote)?;
            return Some((delimiter, true, behind));
        }
    }
    let (is_quoted, text) = match text.strip_prefix('\\') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let end = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '_')?;
    let (delimiter, behind) = text.split_at(end);
    (!delimiter.is_empty()).then_some((delimiter, is_quoted, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(line: &str) -> (String, Vec<HereDocument>) {
        let taken = TakenDocuments::take(line).unwrap();
        (taken.line.split_whitespace().collect::<Vec<_>>().join(" "), taken.documents)
    }

    #[test]
    fn documents_are_taken_out_of_the_line() {
        let text = |text: &str| HereDocument::Text(text.to_owned());
        let word = |at: usize| format!("{DOCUMENT_WORD}{at}__");
        let (line, documents) = take("cat <<'EOF' | kubectl apply -f -\na: $b\nEOF\n");
        assert_eq!(line, format!("cat {} | kubectl apply -f -", word(0)));
        assert_eq!(documents, [text("a: $b\n")]);
        let (line, documents) = take("kubectl apply -f - <<EOF\na: b\n  EOF\nEOF\nkubectl get pods");
        assert_eq!(line, format!("kubectl apply -f - {} kubectl get pods", word(0)));
        assert_eq!(documents, [text("a: b\n  EOF\n")]);
        assert_eq!(take("kubectl apply -f - <<-END\n\ta: b\n\tEND").1, [text("a: b\n")]);
        assert_eq!(take("x <<A\na: $b\nA\ny << \"B\"\nc\nB").1, [HereDocument::Expanded, text("c\n")]);
        assert_eq!(take("x '<<A' \"<<B\"").1, []);
        assert_eq!(take("x <<< 'a: b'").0, format!("x {HERE_STRING_WORD} 'a: b'"));
        for unfinished in ["cat <<EOF\na: b\n", "cat <<EOF", "cat << | x"] {
            assert_eq!(TakenDocuments::take(unfinished), None, "{unfinished}");
        }
    }
}
