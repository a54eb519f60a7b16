//! A call that runs a command line, taken apart for a preview: its commands, what each gets as input, and other lines of the
//! same tool.

use serde_json::{Map, Value, json};

use crate::{
    classification::ServerReach,
    command_arguments::{CommandLine, find_command_line},
    command_tools::find_command_tool,
    here_document::{HereDocument, InputWord, TakenDocuments},
    preview::{PreviewCall, quote_for_shell},
    program::KnownProgram,
    server_tools::{KUBECTL_GENERIC, find_kubectl_words, is_server_tool},
    shell_command::classify_argv,
    shell_lexer::{CommandWords, ShellWord, parse_previewed_line},
    tool_calls::classify_reach_apart,
    tool_description::ToolDescription,
};

/// A call whose tool runs a command line.
pub(crate) struct CommandCall<'a> {
    tool: &'a ToolDescription<'a>,
    arguments: &'a Map<String, Value>,
    implied_program: Option<KnownProgram>,
    form: CommandForm<'a>,
}

/// How the arguments hold the line.
enum CommandForm<'a> {
    /// A string, which a shell reads.
    Line { key: &'a str, line: &'a str },
    /// A list of words.
    Words { key: &'a str, first: Option<&'a str>, words: Vec<ShellWord> },
    /// Arguments of a server that makes a command line of kubectl of them, and has a tool for any such line.
    Kubectl(Vec<ShellWord>),
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

impl<'a> CommandCall<'a> {
    /// Recognizes a call that runs a command line.
    pub(crate) fn find(tool: &'a ToolDescription<'a>, arguments: &'a Map<String, Value>) -> Option<Self> {
        if let Some(words) = find_kubectl_words(tool.name, arguments) {
            let form = CommandForm::Kubectl(words.iter().map(|word| ShellWord::from_argument(word)).collect());
            return Some(Self { tool, arguments, implied_program: Some(KnownProgram::Kubectl), form });
        }
        let command_tool = find_command_tool(tool).filter(|_| !is_server_tool(tool.name))?;
        let form = match find_command_line(arguments)? {
            CommandLine::SplitLine { .. } => return None,
            CommandLine::Line { key, line } => CommandForm::Line { key, line },
            CommandLine::Words { key, first, rest } => {
                let words = first.into_iter().chain(rest).map(ShellWord::from_argument).collect();
                CommandForm::Words { key, first, words }
            }
        };
        Some(Self { tool, arguments, implied_program: command_tool.implied_program, form })
    }

    /// Returns the commands of the line that may change something, in their order; `None` if the line cannot be read.
    pub(crate) fn changing_parts(&self) -> Option<Vec<LinePart>> {
        let (documents, pipelines) = match &self.form {
            CommandForm::Line { line, .. } => {
                let documents = TakenDocuments::take(line)?;
                let parsed = parse_previewed_line(&documents.line).ok()?;
                (documents, parsed.pipelines)
            }
            CommandForm::Words { words, .. } | CommandForm::Kubectl(words) => {
                (TakenDocuments::default(), vec![vec![words.clone()]])
            }
        };
        let mut implied = self.implied_program;
        let parts = pipelines.into_iter().map(|pipeline| read_pipeline(pipeline, &documents, implied.take()));
        Some(parts.flatten().collect())
    }

    /// Whether a `||` decides which commands of the line run, other than one before a command that does nothing.
    pub(crate) fn has_alternatives(&self) -> bool {
        let CommandForm::Line { line, .. } = &self.form else { return false };
        let Some(taken) = TakenDocuments::take(line) else { return false };
        let mut quote = None;
        let mut chars = taken.line.char_indices();
        while let Some((at, char)) = chars.next() {
            match (quote, char) {
                (Some(open), close) if open == close => quote = None,
                (None, '\'' | '"') => quote = Some(char),
                (None, '|') if taken.line[at..].starts_with("||") => {
                    chars.next();
                    let behind = taken.line[at + 2..].trim_start();
                    if !["true", ":", "echo"].iter().any(|nothing| behind.starts_with(nothing)) {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }

    /// Returns the call of the same tool that runs a program with other words, if it only reads.
    pub(crate) fn build_read(&self, program: KnownProgram, words: &[String]) -> Option<PreviewCall> {
        let words: Vec<String> = words.iter().map(|word| without_line_feeds(word)).collect();
        let mut arguments = self.arguments.clone();
        match &self.form {
            CommandForm::Line { key, line } => {
                let has_name = line.split_whitespace().next().and_then(KnownProgram::from_command_name).is_some();
                let name = (has_name || self.implied_program != Some(program)).then(|| program.name().to_owned());
                let quoted: Option<Vec<String>> = name.iter().chain(&words).map(|word| quote_for_shell(word)).collect();
                arguments.insert((*key).to_owned(), json!(quoted?.join(" ")));
            }
            CommandForm::Words { key, first, words: line } => {
                let named = line.first().filter(|word| KnownProgram::from_command_name(&word.text) == Some(program));
                // Another argument holds the first word, so it must stay what it is.
                if first.is_some() && named.is_none() {
                    return None;
                }
                let named = named.map(|word| word.text.clone()).filter(|_| first.is_none());
                arguments.insert((*key).to_owned(), json!(named.into_iter().chain(words).collect::<Vec<_>>()));
            }
            CommandForm::Kubectl(_) => {
                let (verb, rest) = words.split_first().filter(|_| program == KnownProgram::Kubectl)?;
                let generic = json!({"command": verb, "args": rest}).as_object().cloned()?;
                let call = PreviewCall { tool: KUBECTL_GENERIC.to_owned(), arguments: generic };
                return only_if_read(&ToolDescription::named(KUBECTL_GENERIC), call);
            }
        }
        only_if_read(self.tool, PreviewCall { tool: self.tool.name.to_owned(), arguments })
    }

    /// Returns the call of the same tool that runs only these commands of the line, if they only read.
    pub(crate) fn build_pipe(&self, commands: &[CommandWords]) -> Option<PreviewCall> {
        let CommandForm::Line { key, .. } = &self.form else { return None };
        let quote = |words: &CommandWords| {
            words
                .iter()
                .map(|word| quote_for_shell(&word.text))
                .collect::<Option<Vec<_>>>()
                .map(|words| words.join(" "))
        };
        let line = commands.iter().map(quote).collect::<Option<Vec<_>>>()?.join(" | ");
        let mut arguments = self.arguments.clone();
        arguments.insert((*key).to_owned(), json!(line));
        only_if_read(self.tool, PreviewCall { tool: self.tool.name.to_owned(), arguments })
    }
}

/// A dry run, a diff or a rendering reads the files that the call itself would read.
fn only_if_read(tool: &ToolDescription<'_>, call: PreviewCall) -> Option<PreviewCall> {
    classify_reach_apart(tool, &call.arguments)?.is_read_within(ServerReach::Manifests).then_some(call)
}

/// Returns what of a pipeline may change something.
fn read_pipeline(
    mut pipeline: Vec<CommandWords>,
    documents: &TakenDocuments,
    implied: Option<KnownProgram>,
) -> Option<LinePart> {
    let print = |words: &CommandWords| words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    let unknown = LinePart::Unknown(pipeline.iter().map(print).collect::<Vec<_>>().join(" | "));
    let given: Vec<CommandInput> = pipeline.iter_mut().map(|words| take_input(words, documents)).collect();
    let implied_of = |at: usize| implied.filter(|_| at == 0);
    let changes = |at: &usize| {
        let words = &pipeline[*at];
        // What a program prints can look like a flag of another one, which the classification takes for ambiguous.
        let only_prints = words.first().is_some_and(|word| is_printing(&word.text));
        !only_prints && !classify_argv(words, implied_of(*at)).is_read_within(ServerReach::Manifests)
    };
    let changing: Vec<usize> = (0..pipeline.len()).filter(changes).collect();
    let at = match changing.as_slice() {
        // A variable that programs read is changed for the commands behind it.
        [] if is_assignment_for_programs(pipeline.first()?) => return Some(unknown),
        [] => return None,
        [at] => *at,
        _ => return Some(unknown),
    };
    let (before, words) = (pipeline.get(..at)?, pipeline.get(at)?);
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
        (CommandInput::Nothing, before) if !(0..at).any(has_document) => CommandInput::Printed(before.to_vec()),
        (CommandInput::Nothing, _) => CommandInput::Unknown,
        (given, _) => given.clone(),
    };
    Some(LinePart::Command(LineCommand { program, words, input }))
}

fn is_assignment_for_programs(words: &CommandWords) -> bool {
    let name = words.first().and_then(|word| word.text.split_once('=')).map(|(name, _)| name);
    name.is_some_and(|name| matches!(name, "KUBECONFIG" | "PATH" | "HOME") || name.starts_with("HELM_"))
}

/// Takes the words that stand for a here-document or a here-string out of a command.
fn take_input(words: &mut CommandWords, documents: &TakenDocuments) -> CommandInput {
    let found = words.iter().enumerate().find_map(|(at, word)| Some((at, documents.find_input(&word.text)?)));
    match found {
        None => CommandInput::Nothing,
        Some((at, InputWord::Document(document))) => {
            words.remove(at);
            match document {
                HereDocument::Text(text) => CommandInput::Text(text.clone()),
                HereDocument::Expanded => CommandInput::Unknown,
            }
        }
        Some((at, InputWord::HereString)) => {
            let text = words.get(at + 1).map(|word| word.text.clone());
            words.drain(at..words.len().min(at + 2));
            text.map_or(CommandInput::Unknown, CommandInput::Text)
        }
    }
}

fn is_printing(program: &str) -> bool {
    matches!(program, "echo" | "printf")
}

/// Returns what `echo` or `printf` prints; `None` if that depends on the shell.
fn printed_text(words: &[ShellWord]) -> Option<String> {
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

/// Returns JSON of several lines in one line, because a line of a harmless command has no line feed in quotes.
fn without_line_feeds(word: &str) -> String {
    match serde_json::from_str::<Value>(word) {
        Ok(value) if word.contains('\n') => value.to_string(),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> String {
        let arguments = json!({"command": line}).as_object().cloned().unwrap();
        let tool = ToolDescription::named("bash");
        let parts = CommandCall::find(&tool, &arguments).unwrap().changing_parts();
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
            ("kubectl delete pod $(cat x)", "not read"),
        ] {
            assert_eq!(parts(line), expected, "{line}");
        }
    }
}
