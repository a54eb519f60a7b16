//! Classifies command lines: the arguments, or the lines of standard input if there are none.
//!
//! ```console
//! $ cargo run -p k8sops-classifier --example classify -- 'kubectl get pods | grep web' 'kubectl delete pod web-0'
//! ```

use std::io;

use k8sops_classifier::{SensitiveOutput, ToolDescription, build_preview_call, classify_command_line};
use serde_json::{Map, Value};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        for line in io::stdin().lines() {
            print_classification(&line?);
        }
    } else {
        for line in &arguments {
            print_classification(line);
        }
    }
    Ok(())
}

fn print_classification(line: &str) {
    let classification = classify_command_line(line);
    let sensitive = match classification.sensitive_output {
        None => "",
        Some(SensitiveOutput::Objects) => "; the output may contain Secret objects",
        Some(SensitiveOutput::Values) => "; the output may be secret values",
    };
    println!("{:<11} {line}", classification.effect.to_string());
    println!("{:<11} {}{sensitive}", "", classification.reason);
    let call = Map::from_iter([("command".to_owned(), Value::from(line))]);
    if let Some(preview) = build_preview_call(&ToolDescription::named("bash"), &call)
        && let Some(command) = preview.arguments.get("command").and_then(Value::as_str)
    {
        println!("{:<11} preview: {command}", "");
    }
}
