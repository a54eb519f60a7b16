//! Asks the checker and prints what it finds: `cargo run -p k8sops-protocol-model -- [--large] [PART OF A NAME]`.

use k8sops_protocol_model::{all_scenarios, describe_result};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_large = arguments.iter().any(|argument| argument == "--large");
    let part = arguments.iter().find(|argument| !argument.starts_with("--"));
    let is_chosen = |name: &str| part.is_none_or(|part| name.contains(part.as_str()));
    for scenario in all_scenarios(is_large).into_iter().filter(|scenario| is_chosen(scenario.name)) {
        println!("{}", describe_result(&scenario, &scenario.check()));
    }
}
