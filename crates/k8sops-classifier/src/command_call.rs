//! A call that runs a command line, taken apart for a preview: its commands, what each gets as input, and other lines of the
//! same tool.

use serde_json::{Map, Value, json};

use crate::{
    changing_parts::{ChangingParts, CommandInput, CommandWords},
    classification::ServerReach,
    command_arguments::{CommandLine, find_command_line},
    command_tools::find_command_tool,
    line_parts::find_changing_parts,
    pipeline_parts::read_pipeline,
    preview::{PreviewCall, quote_for_shell},
    program::KnownProgram,
    server_tools::{KUBECTL_GENERIC, find_kubectl_words, is_server_tool},
    shell_word::ShellWord,
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

    /// Returns what of the line may change something, in its order; `None` if the line cannot be read.
    pub(crate) fn changing_parts(&self) -> Option<ChangingParts> {
        match &self.form {
            CommandForm::Line { line, .. } => find_changing_parts(line, self.implied_program),
            CommandForm::Words { words, .. } | CommandForm::Kubectl(words) => {
                let parts = read_pipeline(std::slice::from_ref(words), &[CommandInput::Nothing], self.implied_program);
                Some(ChangingParts { parts, has_alternatives: false })
            }
        }
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

/// Returns JSON of several lines in one line, because a line of a harmless command has no line feed in quotes.
fn without_line_feeds(word: &str) -> String {
    match serde_json::from_str::<Value>(word) {
        Ok(value) if word.contains('\n') => value.to_string(),
        _ => word.to_owned(),
    }
}
