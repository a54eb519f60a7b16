//! Asks the checker all questions and compares its answers with the documentation. `K8SOPS_WRITE_DOCUMENTS=1` writes them.

use std::{fs, path::Path};

use k8sops_protocol_model::{all_scenarios, describe_result};

const DOCUMENTED: &str = "../../docs/src/development/protocol-model.txt";

#[test]
fn the_protocol_holds_and_each_of_its_rules_is_needed() {
    let mut answers = Vec::new();
    for scenario in all_scenarios(false) {
        let result = scenario.check();
        let answer = describe_result(&scenario, &result);
        assert_eq!(result.failed.first().copied(), scenario.fails, "{answer}");
        assert!(result.unreachable.is_empty(), "{answer}");
        answers.push(answer);
    }
    let answers = answers.join("\n");
    let documented = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENTED);
    if std::env::var_os("K8SOPS_WRITE_DOCUMENTS").is_some() {
        fs::write(&documented, &answers).unwrap();
    }
    assert_eq!(answers, fs::read_to_string(&documented).unwrap(), "write it with K8SOPS_WRITE_DOCUMENTS=1");
}
