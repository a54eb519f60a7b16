//! The syntax tree of a command line.

use std::ops::Range;

/// Pipelines and what stands behind each.
pub(crate) type CommandList = Vec<ListItem>;

/// What stands behind a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separator {
    /// `;`, or the end of the list.
    Sequence,
    /// The end of a line.
    LineEnd,
    And,
    Or,
    Background,
}

/// A pipeline of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListItem {
    /// The commands between the pipes; never empty.
    pub(crate) pipeline: Vec<ShellCommand>,
    pub(crate) separator: Separator,
    /// Its characters in the text that was read, with the separator and the here-documents that start there.
    pub(crate) source: Range<usize>,
}

/// A command, and what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShellCommand {
    pub(crate) kind: CommandKind,
    pub(crate) input: Option<CommandInput>,
    /// Its error messages become a part of its output.
    pub(crate) merges_errors: bool,
}

/// Where the standard input of a command comes from, if it is neither a pipe nor that of the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandInput {
    /// `<<< word`.
    HereString(SyntaxWord),
    /// `<< EOF`: an index of [`ParsedLine::here_documents`].
    HereDocument(usize),
    /// `< <(…)`.
    Process(CommandList),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandKind {
    /// A program and its arguments; never empty.
    Simple(Vec<SyntaxWord>),
    Subshell(CommandList),
    Group(CommandList),
    If {
        /// Conditions and what follows `then`.
        branches: Vec<(CommandList, CommandList)>,
        otherwise: CommandList,
    },
    /// `while` and `until`.
    Loop {
        condition: CommandList,
        body: CommandList,
    },
    For {
        variable: String,
        values: Vec<SyntaxWord>,
        body: CommandList,
    },
    /// `for ((…; …; …))`.
    CountingFor {
        start: SyntaxWord,
        condition: SyntaxWord,
        step: SyntaxWord,
        body: CommandList,
    },
    Case {
        subject: SyntaxWord,
        arms: Vec<(Vec<SyntaxWord>, CommandList)>,
    },
    /// `[[ … ]]`.
    Condition(Vec<SyntaxWord>),
    /// `(( … ))`.
    Arithmetic(SyntaxWord),
    Function {
        name: String,
        body: CommandList,
    },
}

/// Where a word stands, which decides where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WordPlace {
    Argument,
    /// A pattern of `[[ … =~ … ]]`, in which `(`, `)` and `|` are part of the word.
    Regex,
}

/// A word before its expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SyntaxWord {
    pub(crate) parts: Vec<WordPart>,
    /// An unquoted glob that a shell may replace by names of files.
    pub(crate) has_glob: bool,
    /// A brace expansion other than a range of numbers.
    pub(crate) has_braces: bool,
    /// A line continuation touches the word. Only a shell joins the two.
    pub(crate) is_continued: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WordPart {
    Literal(String),
    Quoted(String),
    Expansion { expansion: Expansion, is_quoted: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expansion {
    /// `$?` and other numbers of the shell.
    ShellNumber,
    /// `{1..5}`.
    NumberRange,
    /// `$name` and `${name…}`.
    Variable { name: String, change: VariableChange },
    /// `$(…)`.
    Command(CommandList),
    /// `$((…))`.
    Arithmetic(SyntaxWord),
    /// `<(…)`.
    Process(CommandList),
    /// The text that `xargs -I` puts into a script.
    XargsItem,
}

/// What `${name…}` does to the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VariableChange {
    None,
    /// `${#name}`.
    Length,
    /// `${name#pattern}`, where the pattern ends with `/`, as in `${pod##*/}`.
    RemoveDirectory,
    /// `${name%pattern}`.
    RemoveEnd,
    /// `${name:-default}`.
    Default(String),
    /// A change that may result in any text.
    Other,
}

impl SyntaxWord {
    /// Returns the text if the word is written without quotes, escapes and expansions.
    pub(crate) fn plain_text(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [WordPart::Literal(text)] if !self.is_continued => Some(text),
            _ => None,
        }
    }
}

/// A line that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ParsedLine {
    pub(crate) list: CommandList,
    pub(crate) here_documents: Vec<SyntaxWord>,
    /// A carriage return stands at the end of a line. A shell takes it for a part of the last word, other readers do not.
    pub(crate) has_carriage_return: bool,
}
