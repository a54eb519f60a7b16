//! The programs by others that tests run. `tests/testbed/setup.sh` installs them, and `tests/run.sh` sets the variables
//! that name them.

use std::process::ExitCode;

/// Returns the path in an environment variable of the test bed.
///
/// # Panics
/// If the variable is not set.
pub fn path(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set; run the tests with: bash tests/run.sh"))
}

/// Reports that a test binary with a runner of its own is skipped, if the test bed lacks a program that it needs.
///
/// The exit code is that of a failure with `K8SOPS_TEST_SKIP=fail`, which `tests/run.sh` sets. `None`: nothing is missing.
/// All other tests that need the test bed have `#[ignore = "needs the test bed: bash tests/run.sh"]`.
pub fn skip_without(test: &str, variables: &[&str]) -> Option<ExitCode> {
    let missing = variables.iter().find(|variable| std::env::var_os(variable).is_none())?;
    let is_failure = std::env::var("K8SOPS_TEST_SKIP").is_ok_and(|value| value == "fail");
    let outcome = if is_failure { "FAILED" } else { "ok" };
    println!("\ntest {test} ... ignored, needs the test bed: bash tests/run.sh ({missing} is not set)");
    println!("\ntest result: {outcome}. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n");
    Some(if is_failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Returns a free port of the loopback interface. Another program may take it before the caller does.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("the listener is bound").port()
}
