//! Options of push notifications.

use std::time::Duration;

use k8sops_settings::{
    ValueFormat,
    declaration::{or_empty, required},
    formats::{DURATION, whole_number_in},
    options,
};

use super::target_policy::AllowedTarget;

options! {
    /// Push notifications: what the service posts to receivers that its clients name.
    #[derive(Debug, Clone)]
    pub struct NotifierOptions at "notifications" {
        /// The receivers to which push notifications may be sent; empty: there are no push notifications.
        ///
        /// A host (`hooks.example.com`), all hosts below a domain (`*.example.com`), all hosts (`*`), an address or a network.
        /// Receivers need `https`, and addresses that are private, link-local or otherwise not public are refused: a network
        /// in the list permits its addresses, and `http://` before a host or network permits plain HTTP.
        pub allow: Vec<AllowedTarget> = or_empty(ALLOWED_TARGETS)
            .variable("K8SOPS_NOTIFY_ALLOW")
            .example("hooks.example.com,http://receiver.monitoring.svc,10.96.0.0/12"),
        /// How long a receiver may take to accept a notification.
        pub timeout: Duration = required(DURATION, "10s").variable("K8SOPS_NOTIFY_TIMEOUT"),
        /// How many times in a row sending a notification may fail before its receiver is given up.
        ///
        /// The delay between two attempts doubles from one second to one minute, with jitter: 12 attempts take about ten minutes.
        pub attempts: u32 = required(whole_number_in(1, 1000), "12").variable("K8SOPS_NOTIFY_ATTEMPTS"),
    }
}

const ALLOWED_TARGETS: ValueFormat<Vec<AllowedTarget>> = ValueFormat::described(
    "hosts, *.domains, addresses and networks with commas between, each with http:// before it if plain HTTP is allowed",
    parse_targets,
);

fn parse_targets(text: &str) -> Option<Vec<AllowedTarget>> {
    let targets = text.split(',').map(|target| AllowedTarget::parse(target.trim()));
    targets.collect::<Option<Vec<_>>>().filter(|targets| !targets.is_empty())
}
