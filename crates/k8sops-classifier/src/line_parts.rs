//! Finds the parts of a command line that may change something, for a preview: walks through the line as a shell runs it.

use crate::{
    changing_parts::{ChangingParts, CommandInput, LinePart},
    classification::{Classification, EffectClass, ServerReach},
    pipeline_parts::read_pipeline,
    program::KnownProgram,
    shell_evaluator::ShellEvaluator,
    shell_reader::parse_previewed_line,
    shell_state::{ShellState, TextStream},
    shell_syntax::{
        CommandInput as SyntaxInput, CommandKind, Expansion, ListItem, ParsedLine, Separator, ShellCommand, SyntaxWord,
        WordPart,
    },
    shell_variables::{VariableValue, is_variable_name},
    shell_word::ShellWord,
};

/// Most commands of a line of which a preview is made.
const MAX_PARTS: usize = 40;
/// A line whose loops run more pipelines is not read.
const MAX_ITEMS: usize = 3000;

/// Commands that may change the shell: its directory, its variables, or what a name stands for.
pub(crate) const SHELL_COMMANDS: &[&str] = &[
    "cd",
    "chdir",
    "pushd",
    "popd",
    "export",
    "source",
    ".",
    "eval",
    "alias",
    "unalias",
    "set",
    "unset",
    "declare",
    "typeset",
    "local",
    "readonly",
    "integer",
    "float",
    "let",
    "exec",
    "read",
    "readarray",
    "mapfile",
    "getopts",
    "vared",
    "hash",
    "rehash",
    "enable",
    "disable",
    "trap",
    "shopt",
    "setopt",
    "unsetopt",
    "emulate",
    "autoload",
    "functions",
    "zmodload",
    "zparseopts",
    "zstyle",
    "bindkey",
    "sched",
    "umask",
    "wait",
];
/// Words before a command of the shell.
const COMMAND_PREFIXES: &[&str] = &["command", "builtin", "time", "-p", "--", "-", "noglob", "nocorrect"];

/// Returns what of a line may change something; `None` if the line cannot be read.
pub(crate) fn find_changing_parts(line: &str, implied: Option<KnownProgram>) -> Option<ChangingParts> {
    let parsed = parse_previewed_line(line).ok()?;
    let evaluator = start_evaluator(&parsed, &ShellState::default());
    let mut walk =
        LineWalk { text: line, line: &parsed, evaluator, implied, items: 0, found: ChangingParts::default() };
    walk.read_list(&parsed.list)?;
    Some(walk.found)
}

fn start_evaluator(line: &ParsedLine, state: &ShellState) -> ShellEvaluator {
    let mut evaluator = ShellEvaluator::default();
    evaluator.here_documents.clone_from(&line.here_documents);
    evaluator.state.clone_from(state);
    evaluator
}

/// A line that is being walked through, as a shell runs it.
struct LineWalk<'a> {
    text: &'a str,
    line: &'a ParsedLine,
    /// It knows the variables of the line.
    evaluator: ShellEvaluator,
    /// The program whose name the first command may leave out.
    implied: Option<KnownProgram>,
    /// Pipelines so far.
    items: usize,
    found: ChangingParts,
}

impl LineWalk<'_> {
    fn read_list(&mut self, list: &[ListItem]) -> Option<()> {
        let mut rest = list;
        while !rest.is_empty() {
            let is_linked = |item: &&ListItem| matches!(item.separator, Separator::And | Separator::Or);
            let length = (rest.iter().take_while(is_linked).count() + 1).min(rest.len());
            let (linked, behind) = rest.split_at_checked(length)?;
            rest = behind;
            let before = self.evaluator.state.clone();
            self.read_linked(linked)?;
            if linked.last().is_some_and(|item| item.separator == Separator::Background) {
                self.evaluator.state = before;
            }
        }
        Some(())
    }

    /// Reads pipelines that `&&` and `||` link. What they assign is known afterwards if it is the same on all ways.
    fn read_linked(&mut self, items: &[ListItem]) -> Option<()> {
        let mut failed = self.evaluator.state.clone();
        let mut link = Separator::Sequence;
        for item in items {
            let before = self.found.parts.len();
            let succeeded = match link {
                Separator::Or => Some(std::mem::replace(&mut self.evaluator.state, failed.clone())),
                _ => None,
            };
            self.read_item(item)?;
            if self.found.parts.len() > MAX_PARTS {
                return None;
            }
            self.found.has_alternatives |= link == Separator::Or && self.found.parts.len() > before;
            let state = &mut self.evaluator.state;
            failed = match link {
                Separator::And => failed.join(state),
                _ => state.clone(),
            };
            if let Some(succeeded) = succeeded {
                *state = succeeded.join(&failed);
            }
            link = item.separator;
        }
        self.evaluator.state = self.evaluator.state.join(&failed);
        Some(())
    }

    fn read_item(&mut self, item: &ListItem) -> Option<()> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return None;
        }
        let implied = self.implied.take();
        match item.pipeline.as_slice() {
            [ShellCommand { kind: CommandKind::Group(list), input: None, .. }] => return self.read_list(list),
            [ShellCommand { kind: CommandKind::Subshell(list), input: None, .. }] => {
                let outer = self.evaluator.state.clone();
                self.read_list(list)?;
                self.evaluator.state = outer;
                return Some(());
            }
            [ShellCommand { kind: CommandKind::For { variable, values, body }, input: None, .. }]
                if is_variable_name(variable) =>
            {
                if let Some(values) = self.expand_known_values(values) {
                    return self.read_rounds(variable, values, body);
                }
            }
            _ => {}
        }
        let mut item = item.clone();
        if let Some(program) = implied {
            add_program_name(&mut item.pipeline, program);
        }
        let (trial, class) = self.try_item(&item);
        let is_simple = item.pipeline.iter().all(|command| matches!(command.kind, CommandKind::Simple(_)));
        // A call of a function that is only defined on one way is not recognized.
        let may_define_function =
            !is_simple && self.source_text(&item).split_whitespace().collect::<String>().contains("()");
        let only_reads = trial.is_ok() && class.is_some_and(|class| class.is_read_within(ServerReach::Manifests));
        if !only_reads || may_define_function {
            let parts = self.read_commands(&item);
            self.found.parts.extend(parts);
        }
        // Assignments hold for what stands behind them.
        // If this fails, only a part after which the shell is not known may have changed a variable.
        if trial.is_ok() && self.evaluator.run_list(std::slice::from_ref(&item), TextStream::UNKNOWN).is_err() {
            self.found.parts.push(LinePart::ChangedShell(self.source_text(&item)));
        }
        Some(())
    }

    /// Reads the body of a loop for each value.
    fn read_rounds(&mut self, variable: &str, values: Vec<String>, body: &[ListItem]) -> Option<()> {
        self.evaluator.exits.push(None);
        for value in values {
            self.evaluator.state.variables.assign(variable, VariableValue::Known(value));
            self.read_list(body)?;
            // `continue` leads to the next value.
            if let Some(left) = self.evaluator.exits.last().cloned().flatten() {
                self.evaluator.state = self.evaluator.state.join(&left);
            }
        }
        self.evaluator.exits.pop();
        Some(())
    }

    /// Returns the values of a loop if they only depend on the line, and finding them changes nothing.
    fn expand_known_values(&self, values: &[SyntaxWord]) -> Option<Vec<String>> {
        let mut evaluator = start_evaluator(self.line, &self.evaluator.state);
        let values = evaluator.expand_words(values, TextStream::UNKNOWN).ok()?;
        let are_known = values.iter().all(ShellWord::is_known) && !changes_something(evaluator);
        are_known.then(|| values.into_iter().map(|value| value.text).collect())
    }

    /// Runs an item apart, and returns what it does.
    fn try_item(&self, item: &ListItem) -> (Result<(), String>, Option<Classification>) {
        let mut evaluator = start_evaluator(self.line, &self.evaluator.state);
        let result = evaluator.run_list(std::slice::from_ref(item), TextStream::UNKNOWN);
        (result.map(|_| ()), evaluator.into_findings().0)
    }

    /// Returns the text of an item as it is written, with its here-documents if they follow directly.
    fn source_text(&self, item: &ListItem) -> String {
        let text: String = self.text.chars().skip(item.source.start).take(item.source.len()).collect();
        text.trim_end_matches([' ', '\t', '\r', '\n', ';', '&', '|']).to_owned()
    }

    fn read_commands(&self, item: &ListItem) -> Vec<LinePart> {
        let changed_shell = || vec![LinePart::ChangedShell(self.source_text(item))];
        let mut commands = Vec::new();
        let mut inputs = Vec::new();
        let mut evaluator = start_evaluator(self.line, &self.evaluator.state);
        for command in &item.pipeline {
            let CommandKind::Simple(words) = &command.kind else { return changed_shell() };
            let Ok(words) = evaluator.expand_words(words, TextStream::UNKNOWN) else { return changed_shell() };
            let Some(input) = self.read_input(&mut evaluator, command.input.as_ref()) else { return changed_shell() };
            if may_change_shell(&words, &self.evaluator.state) {
                return changed_shell();
            }
            inputs.push(input);
            commands.push(words);
        }
        if changes_something(evaluator) {
            return changed_shell();
        }
        let parts = read_pipeline(&commands, &inputs, None);
        if parts.is_empty() { vec![LinePart::Unknown(self.source_text(item))] } else { parts }
    }

    /// Returns what a command gets; `None` if a substitution in it may do anything.
    fn read_input(&self, evaluator: &mut ShellEvaluator, input: Option<&SyntaxInput>) -> Option<CommandInput> {
        let word = match input {
            None => return Some(CommandInput::Nothing),
            Some(SyntaxInput::HereString(word)) => word,
            Some(SyntaxInput::HereDocument(at)) => self.line.here_documents.get(*at)?,
            Some(SyntaxInput::Process(list)) => {
                evaluator.run_substitution(list, TextStream::UNKNOWN).ok()?;
                return Some(CommandInput::Unknown);
            }
        };
        let has_substitution = word.parts.iter().any(|part| {
            matches!(part, WordPart::Expansion { expansion, .. } if !matches!(expansion, Expansion::Variable { .. }))
        });
        match evaluator.expand_text(word, TextStream::UNKNOWN) {
            Ok(word) if word.is_known() => Some(CommandInput::Text(word.text)),
            Err(_) if has_substitution => None,
            Ok(_) | Err(_) => Some(CommandInput::Unknown),
        }
    }
}

/// Puts the name of the program that the first command leaves out before its words.
fn add_program_name(pipeline: &mut [ShellCommand], program: KnownProgram) {
    let Some(ShellCommand { kind: CommandKind::Simple(words), .. }) = pipeline.first_mut() else { return };
    let name = words.first().and_then(SyntaxWord::plain_text);
    if name.and_then(KnownProgram::from_command_name).is_none() {
        let parts = vec![WordPart::Literal(program.name().to_owned())];
        words.insert(0, SyntaxWord { parts, ..SyntaxWord::default() });
    }
}

/// Returns whether the substitutions that were expanded do more than read.
fn changes_something(evaluator: ShellEvaluator) -> bool {
    evaluator.into_findings().0.is_some_and(|class| class.effect != EffectClass::Read)
}

/// Returns whether a command may change variables, functions or the directory of the shell that runs it.
fn may_change_shell(words: &[ShellWord], state: &ShellState) -> bool {
    let mut words = words.iter().skip_while(|word| COMMAND_PREFIXES.contains(&word.text.as_str()));
    let Some(name) = words.next() else { return true };
    let first = words.next();
    match name.text.as_str() {
        _ if !name.is_known() => true,
        // `-v` names a variable.
        "printf" | "print" => first.is_some_and(|word| !word.is_known() || word.text.starts_with('-')),
        text => SHELL_COMMANDS.contains(&text) || text.contains('=') || state.functions.contains_key(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changing_parts::LineCommand;

    fn parts(line: &str) -> String {
        let parts = find_changing_parts(line, None).map(|found| found.parts);
        let shown = parts.iter().flatten().map(|part| match part {
            LinePart::Unknown(text) => format!("unknown {text}"),
            LinePart::ChangedShell(text) => format!("other shell after {text}"),
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
    fn the_first_command_may_leave_out_its_program() {
        let parts = |line: &str| find_changing_parts(line, Some(KnownProgram::Kubectl)).map(|found| found.parts);
        assert_eq!(parts("get pods"), Some(vec![]));
        let hidden = "get pods $(kubectl delete ns prod)";
        assert_eq!(parts(hidden), Some(vec![LinePart::ChangedShell(hidden.to_owned())]));
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
            ("echo a b | xargs kubectl delete pod", "delete pod a b"),
            (
                "printf 'a\nb\n' | xargs -I{} kubectl delete pod {} -n shop",
                "delete pod a -n shop; delete pod b -n shop",
            ),
            ("xargs -n1 kubectl delete pod <<< 'a b'", "delete pod a; delete pod b"),
            ("cat <<EOF | xargs kubectl cordon\nn1\nn2\nEOF", "cordon n1 n2"),
            ("echo a b | xargs ./x.sh", "unknown echo a b | xargs ./x.sh"),
            ("cat pods | xargs kubectl delete pod", "unknown cat pods | xargs kubectl delete pod"),
            ("echo a | xargs sh -c 'kubectl delete pod a'", "unknown echo a | xargs sh -c kubectl delete pod a"),
            (
                "for d in a b; do kubectl scale deploy $d --replicas=0; done",
                "scale deploy a --replicas=0; scale deploy b --replicas=0",
            ),
            ("./migrate.sh && kubectl delete pod a", "unknown ./migrate.sh; delete pod a"),
            ("ns=shop; kubectl delete pod a -n $ns", "delete pod a -n shop"),
            ("ns=shop; cat <<EOF | kubectl apply -f -\na: $ns\nEOF", "apply -f - < \"a: shop\\n\""),
            ("(kubectl delete pod a; kubectl get pods)", "delete pod a"),
            (
                "if kubectl get ns x; then kubectl delete ns x; fi",
                "other shell after if kubectl get ns x; then kubectl delete ns x; fi",
            ),
            ("kubectl delete pod $(kubectl get pods -o name)", "unknown kubectl delete pod …"),
            ("kubectl delete pod $(cat x)", "other shell after kubectl delete pod $(cat x)"),
            ("KUBECONFIG=x; kubectl delete pod a", "other shell after KUBECONFIG=x; delete pod a"),
            (
                "echo $(kubectl delete ns prod); kubectl delete pod a",
                "other shell after echo $(kubectl delete ns prod); delete pod a",
            ),
            (
                "cat <<< \"$(kubectl delete ns prod)\"; kubectl delete pod a",
                "other shell after cat <<< \"$(kubectl delete ns prod)\"; delete pod a",
            ),
            (
                "cat < <(kubectl delete ns prod); kubectl delete pod a",
                "other shell after cat < <(kubectl delete ns prod); delete pod a",
            ),
            (
                "cat <<EOF\n$(kubectl delete ns prod)\nEOF\nkubectl delete pod a",
                "other shell after cat <<EOF\n$(kubectl delete ns prod)\nEOF; delete pod a",
            ),
            ("cat <<EOF\n$(kubectl get ns)\nEOF\nkubectl delete pod a", "delete pod a"),
            ("ns=a; (ns=b); kubectl delete pod x -n $ns", "delete pod x -n a"),
            ("ns=a; true && ns=b & kubectl delete pod x -n $ns", "delete pod x -n a"),
            ("ns=a; { ns=b; }; kubectl delete pod x -n $ns", "delete pod x -n b"),
            ("ns=a; false && ns=b; kubectl delete pod x -n $ns", "unknown kubectl delete pod x -n …"),
            ("ns=a; true || ns=b; kubectl delete pod x -n $ns", "unknown kubectl delete pod x -n …"),
            ("ns=a && ns=b && kubectl delete pod x -n $ns", "delete pod x -n b"),
            ("for x in a b; do y=$x && break; y=c; done; kubectl delete pod $y", "unknown kubectl delete pod …"),
            ("ns=a; ns=$(./x); kubectl get ns; kubectl delete ns $ns", "other shell after ns=$(./x); delete ns a"),
            ("kubectl delete pod 'a", "not read"),
        ] {
            assert_eq!(parts(line), expected, "{line}");
        }
        let loops = "for a in 1 2 3 4 5 6 7 8; do ".repeat(4);
        assert_eq!(parts(&format!("{loops} [[ a == a ]]{}", "; done".repeat(4))), "not read");
    }
}
