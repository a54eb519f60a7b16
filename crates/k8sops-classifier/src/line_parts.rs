//! The parts of a command line that may change something, and what each gets as input, for a preview.

use crate::{
    classification::ServerReach,
    program::KnownProgram,
    shell_command::classify_argv,
    shell_evaluator::ShellEvaluator,
    shell_reader::parse_previewed_line,
    shell_state::TextStream,
    shell_syntax::{CommandInput as SyntaxInput, CommandKind, ListItem, ParsedLine, Separator, ShellCommand},
    shell_variables::VariableValue,
    shell_word::{ShellWord, UNKNOWN_TEXT},
};

/// A program and its arguments; never empty.
pub(crate) type CommandWords = Vec<ShellWord>;

/// Most commands of a line of which a preview is made.
const MAX_PARTS: usize = 40;

/// What of a line may change something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChangingParts {
    /// In the order of the line.
    pub(crate) parts: Vec<LinePart>,
    /// A `||` decides whether one of the parts runs.
    pub(crate) has_alternatives: bool,
}

/// A part of a line that may change something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinePart {
    Command(LineCommand),
    /// It is not known what the part does.
    Unknown(String),
}

/// One command of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineCommand {
    pub(crate) program: KnownProgram,
    /// The words behind the name of the program.
    pub(crate) words: Vec<ShellWord>,
    pub(crate) input: CommandInput,
}

/// What a command gets as its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandInput {
    /// Nothing, or nothing that the line says.
    Nothing,
    Text(String),
    /// What these commands print, which only read.
    Printed(Vec<CommandWords>),
    Unknown,
}

/// Returns what of a line may change something; `None` if the line cannot be read.
pub(crate) fn find_changing_parts(line: &str, implied: Option<KnownProgram>) -> Option<ChangingParts> {
    let parsed = parse_previewed_line(line).ok()?;
    let mut walk =
        LineWalk { line: &parsed, evaluator: ShellEvaluator::default(), implied, found: ChangingParts::default() };
    walk.read_list(&parsed.list)?;
    Some(walk.found)
}

/// A line that is being walked through, as a shell runs it.
struct LineWalk<'a> {
    line: &'a ParsedLine,
    /// It knows the variables of the line.
    evaluator: ShellEvaluator,
    /// The program whose name the first command may leave out.
    implied: Option<KnownProgram>,
    found: ChangingParts,
}

impl LineWalk<'_> {
    fn read_list(&mut self, list: &[ListItem]) -> Option<()> {
        let mut link = Separator::Sequence;
        for item in list {
            let before = self.found.parts.len();
            self.read_item(item)?;
            if self.found.parts.len() > MAX_PARTS {
                return None;
            }
            self.found.has_alternatives |= link == Separator::Or && self.found.parts.len() > before;
            link = item.separator;
        }
        Some(())
    }

    fn read_item(&mut self, item: &ListItem) -> Option<()> {
        let implied = self.implied.take();
        match item.pipeline.as_slice() {
            [ShellCommand { kind: CommandKind::Group(list) | CommandKind::Subshell(list), input: None, .. }] => {
                return self.read_list(list);
            }
            [ShellCommand { kind: CommandKind::For { variable, values, body }, input: None, .. }] => {
                let values = self.evaluator.expand_words(values, TextStream::UNKNOWN).ok()?;
                if values.iter().all(ShellWord::is_known) {
                    for value in values {
                        self.evaluator.state.variables.assign(variable, VariableValue::Known(value.text));
                        self.read_list(body)?;
                    }
                    return Some(());
                }
            }
            _ => {}
        }
        let part = self.read_commands(&item.pipeline, implied);
        // Assignments hold for what stands behind them.
        let _ = self.evaluator.run_list(std::slice::from_ref(item), TextStream::UNKNOWN);
        self.found.parts.extend(part);
        Some(())
    }

    fn read_commands(&mut self, pipeline: &[ShellCommand], implied: Option<KnownProgram>) -> Option<LinePart> {
        if implied.is_none() && self.only_reads(pipeline) {
            return None;
        }
        let mut commands = Vec::new();
        let mut inputs = Vec::new();
        for command in pipeline {
            let CommandKind::Simple(words) = &command.kind else {
                return Some(LinePart::Unknown("a compound command".to_owned()));
            };
            let Ok(words) = self.evaluator.expand_words(words, TextStream::UNKNOWN) else {
                return Some(LinePart::Unknown("a command with words that are only known when it runs".to_owned()));
            };
            inputs.push(self.read_input(command.input.as_ref()));
            commands.push(words);
        }
        read_pipeline(&commands, &inputs, implied)
    }

    fn read_input(&mut self, input: Option<&SyntaxInput>) -> CommandInput {
        let word = match input {
            None => return CommandInput::Nothing,
            Some(SyntaxInput::HereString(word)) => Some(word),
            Some(SyntaxInput::HereDocument(at)) => self.line.here_documents.get(*at),
            Some(SyntaxInput::Process(_)) => None,
        };
        let text = word.and_then(|word| self.evaluator.expand_text(word, TextStream::UNKNOWN).ok());
        match text.filter(ShellWord::is_known) {
            Some(word) => CommandInput::Text(word.text),
            None => CommandInput::Unknown,
        }
    }

    fn only_reads(&self, pipeline: &[ShellCommand]) -> bool {
        let mut evaluator = ShellEvaluator::default();
        evaluator.state.clone_from(&self.evaluator.state);
        let item = ListItem { pipeline: pipeline.to_vec(), separator: Separator::Sequence };
        let is_run = evaluator.run_list(&[item], TextStream::UNKNOWN).is_ok();
        let (found, _) = evaluator.into_findings();
        is_run && found.is_some_and(|class| class.is_read_within(ServerReach::Manifests))
    }
}

/// Returns what of a pipeline may change something. `given` is what each command gets from elsewhere than the pipe.
pub(crate) fn read_pipeline(
    pipeline: &[CommandWords],
    given: &[CommandInput],
    implied: Option<KnownProgram>,
) -> Option<LinePart> {
    let print = |words: &CommandWords| words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    let whole = pipeline.iter().map(print).collect::<Vec<_>>().join(" | ");
    let unknown = LinePart::Unknown(whole.replace(UNKNOWN_TEXT, "…"));
    let implied_of = |at: usize| implied.filter(|_| at == 0);
    let changes = |at: &usize| {
        let words = &pipeline[*at];
        // What a program prints can look like a flag of another one, which the classification takes for ambiguous.
        let only_prints = words.first().is_some_and(|word| is_printing(&word.text));
        !only_prints && !classify_argv(words, implied_of(*at)).is_read_within(ServerReach::Manifests)
    };
    let changing: Vec<usize> = (0..pipeline.len()).filter(changes).collect();
    let at = match changing.as_slice() {
        [] => return None,
        [at] => *at,
        _ => return Some(unknown),
    };
    let (before, words) = (pipeline.get(..at)?, pipeline.get(at)?);
    if !words.iter().all(ShellWord::is_known) {
        return Some(unknown);
    }
    let named = words.first().and_then(|word| KnownProgram::from_command_name(&word.text));
    let Some(program) = named.or(implied_of(at)) else { return Some(unknown) };
    let words = words.get(usize::from(named.is_some())..)?.to_vec();
    let has_document = |at: usize| given.get(at).is_some_and(|input| *input != CommandInput::Nothing);
    let input = match (given.get(at)?, before) {
        (CommandInput::Nothing, []) => CommandInput::Nothing,
        (CommandInput::Nothing, [source]) if has_document(0) => match source.as_slice() {
            [cat] if cat.text == "cat" => given.first()?.clone(),
            _ => CommandInput::Unknown,
        },
        (CommandInput::Nothing, [source]) if source.first().is_some_and(|word| is_printing(&word.text)) => {
            printed_text(source).map_or(CommandInput::Unknown, CommandInput::Text)
        }
        (CommandInput::Nothing, before)
            if !(0..at).any(has_document) && before.iter().flatten().all(ShellWord::is_known) =>
        {
            CommandInput::Printed(before.to_vec())
        }
        (CommandInput::Nothing, _) => CommandInput::Unknown,
        (given, _) => given.clone(),
    };
    Some(LinePart::Command(LineCommand { program, words, input }))
}

fn is_printing(program: &str) -> bool {
    matches!(program, "echo" | "printf")
}

/// Returns what `echo` or `printf` prints; `None` if that depends on the shell.
fn printed_text(words: &[ShellWord]) -> Option<String> {
    if !words.iter().all(ShellWord::is_known) {
        return None;
    }
    let (program, arguments) = words.split_first()?;
    let flags = arguments.iter().take_while(|word| matches!(word.text.as_str(), "-n" | "-e" | "-ne" | "-en")).count();
    let (flags, texts) = arguments.split_at_checked(flags)?;
    let texts: Vec<&str> = texts.iter().map(|word| word.text.as_str()).collect();
    let interprets = program.text == "printf" || flags.iter().any(|flag| flag.text.contains('e'));
    let text = match (program.text.as_str(), texts.as_slice()) {
        ("printf", ["%s" | "%s\\n", text]) => return Some((*text).to_owned()),
        ("printf", [text]) if !text.contains('%') => (*text).to_owned(),
        ("printf", _) => return None,
        _ => texts.join(" "),
    };
    match (text.contains('\\'), interprets) {
        (false, _) => Some(text),
        (true, true) => unescape(&text),
        // Some shells read escapes here, and others do not.
        (true, false) => None,
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut unescaped = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        unescaped.push(match char {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            },
            char => char,
        });
    }
    Some(unescaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> String {
        let parts = find_changing_parts(line, None).map(|found| found.parts);
        let shown = parts.iter().flatten().map(|part| match part {
            LinePart::Unknown(text) => format!("unknown {text}"),
            LinePart::Command(LineCommand { words, input, .. }) => {
                let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
                let input = match input {
                    CommandInput::Nothing => String::new(),
                    CommandInput::Text(text) => format!(" < {text:?}"),
                    CommandInput::Printed(commands) => {
                        let first: Vec<&str> = commands.iter().map(|words| words[0].text.as_str()).collect();
                        format!(" < output of {}", first.join(", "))
                    }
                    CommandInput::Unknown => " < ?".to_owned(),
                };
                format!("{}{input}", words.join(" "))
            }
        });
        parts.as_ref().map_or_else(|| "not read".to_owned(), |_| shown.collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn changing_commands_and_their_inputs() {
        for (line, expected) in [
            ("kubectl get pods", ""),
            ("kubectl get pods; kubectl delete pod a && kubectl get pods", "delete pod a"),
            ("kubectl delete pod a | head -5", "delete pod a"),
            ("cat <<EOF | kubectl apply -f -\na: b\nEOF", "apply -f - < \"a: b\\n\""),
            ("kubectl apply -f - <<'EOF'\na: $b\nEOF\nkubectl get pods", "apply -f - < \"a: $b\\n\""),
            ("cat <<EOF | kubectl apply -f -\na: $b\nEOF", "apply -f - < ?"),
            ("cat <<EOF | sed s/a/b/ | kubectl apply -f -\na: b\nEOF", "apply -f - < ?"),
            ("kubectl apply -f - <<< 'a: b'", "apply -f - < \"a: b\""),
            ("echo 'a: b\nc: d' | kubectl apply -f -", "apply -f - < \"a: b\\nc: d\""),
            ("echo -e 'a: b\\nc: d' | kubectl apply -f -", "apply -f - < \"a: b\\nc: d\""),
            ("echo 'a: b\\nc: d' | kubectl apply -f -", "apply -f - < ?"),
            ("printf '%s' 'a: b\\n' | kubectl apply -f -", "apply -f - < \"a: b\\\\n\""),
            ("kubectl get cm a -o yaml | sed s/a/b/ | kubectl replace -f -", "replace -f - < output of kubectl, sed"),
            ("kubectl create ns a --dry-run=client -o yaml | kubectl apply -f -", "apply -f - < output of kubectl"),
            (
                "kubectl get pods -o name | xargs kubectl delete",
                "unknown kubectl get pods -o name | xargs kubectl delete",
            ),
            (
                "for d in a b; do kubectl scale deploy $d --replicas=0; done",
                "scale deploy a --replicas=0; scale deploy b --replicas=0",
            ),
            ("./migrate.sh && kubectl delete pod a", "unknown ./migrate.sh; delete pod a"),
            ("ns=shop; kubectl delete pod a -n $ns", "delete pod a -n shop"),
            ("ns=shop; cat <<EOF | kubectl apply -f -\na: $ns\nEOF", "apply -f - < \"a: shop\\n\""),
            ("(kubectl delete pod a; kubectl get pods)", "delete pod a"),
            ("if kubectl get ns x; then kubectl delete ns x; fi", "unknown a compound command"),
            ("kubectl delete pod $(kubectl get pods -o name)", "unknown kubectl delete pod …"),
            ("kubectl delete pod $(cat x)", "unknown kubectl delete pod …"),
            ("KUBECONFIG=x; kubectl delete pod a", "unknown KUBECONFIG=x; delete pod a"),
            ("kubectl delete pod 'a", "not read"),
        ] {
            assert_eq!(parts(line), expected, "{line}");
        }
    }
}
