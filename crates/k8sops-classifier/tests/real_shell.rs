//! Random command lines that are classified as read-only, run by a real bash. Its `PATH` holds stand-ins for kubectl, helm and
//! argocd that log their arguments, real filters, and stand-ins for programs that must never run. A line is a hole if a
//! stand-in was called to change something, a forbidden program ran, a file changed, or a file or a variable was printed.
//!
//! `K8SOPS_SHELL_LINES` is the number of lines (600 by default, 30,000 for a whole run), `K8SOPS_SHELL_SEED` the seed.

#[path = "real_shell/line_generator.rs"]
mod line_generator;
#[path = "real_shell/sandbox.rs"]
mod sandbox;
#[path = "real_shell/script_shapes.rs"]
mod script_shapes;

use k8sops_classifier::{EffectClass, classify_command_line};
use line_generator::LineGenerator;
use sandbox::{ProgramOutput, Sandbox};

fn number_variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn read_only_lines_change_nothing_in_a_real_shell() {
    let lines = number_variable("K8SOPS_SHELL_LINES", 600);
    let sandbox = Sandbox::create();
    let mut generator = LineGenerator::new(number_variable("K8SOPS_SHELL_SEED", 7), sandbox.work_dir());
    let mut run = 0_u64;
    let mut holes = Vec::new();
    for _ in 0..lines {
        let line = generator.next_line();
        if classify_command_line(&line).effect != EffectClass::Read {
            continue;
        }
        run += 1;
        // A name that is missing moves the words behind it.
        let printed = if run.is_multiple_of(4) { ProgramOutput::Nothing } else { ProgramOutput::Everything };
        if let Some(hole) = sandbox.run_line(&line, printed) {
            holes.push(format!("{line:?}\n    {hole}"));
        }
    }
    println!("{lines} lines, {run} of them read-only, {} holes", holes.len());
    assert!(run * 10 > lines, "only {run} of {lines} lines are read-only: the generator is broken");
    assert!(holes.is_empty(), "{} holes:\n{}", holes.len(), holes.join("\n"));
}

#[test]
fn sandbox_notices_what_a_line_changes() {
    let sandbox = Sandbox::create();
    for line in [
        "kubectl delete pod x",
        "kubectl get pods --as=admin",
        "kubectl create cm x --from-file=secret.txt --dry-run=client",
        "helm upgrade web ./chart",
        "argocd app sync web",
        "echo x > new",
        "echo x >> f",
        "cat secret.txt",
        "echo x | awk '{print > \"new\"}'",
        "echo $CANARY",
        "true && evil",
        "x=$(kubectl logs web-0); kubectl get pods $x",
        "x=$(kubectl logs web-0 | tail -3 | head -1); [[ $x -gt 1 ]]",
        "kubectl logs web-0 | head -1 | xargs kubectl get pods",
        "for p in $(kubectl get pods -o name); do kubectl delete $p; done",
    ] {
        assert!(sandbox.run_line(line, ProgramOutput::Everything).is_some(), "{line}");
    }
    for line in ["kubectl get pods | grep web", "kubectl delete pod x --dry-run=server", "kubectl delete --help"] {
        assert_eq!(sandbox.run_line(line, ProgramOutput::Everything), None, "{line}");
    }
}
