//! The help of every command.

use crate::program::k8sops_command;

/// Every command and its subcommands, as the arguments in front of `--help`.
const COMMANDS: &[&[&str]] = &[
    &[],
    &["serve"],
    &["demo"],
    &["approvals"],
    &["approvals", "list"],
    &["approvals", "watch"],
    &["approvals", "show"],
    &["approvals", "approve"],
    &["approvals", "deny"],
    &["ask"],
    &["chat"],
    &["mcp"],
    &["doctor"],
    &["prompt"],
    &["key"],
    &["config"],
    &["audit"],
    &["audit", "verify"],
    &["openapi"],
    &["asyncapi"],
];

#[tokio::test]
async fn help_of_every_command() {
    let mut text = String::new();
    for arguments in COMMANDS {
        let output = k8sops_command().args(*arguments).arg("--help").output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}");
        let help = String::from_utf8(output.stdout).unwrap();
        text += &format!("$ {}\n{}\n\n", [&["k8sops"], *arguments, &["--help"]].concat().join(" "), help.trim_end());
    }
    insta::assert_snapshot!(text.trim_end());
}

#[tokio::test]
async fn every_command_is_listed_here() {
    let output = k8sops_command().arg("--help").output().await.unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    for name in names.iter().filter(|name| **name != "help") {
        assert!(COMMANDS.iter().any(|command| command.first() == Some(name)), "{name} is not in COMMANDS");
    }
}
