//! Tests of error bodies as servers and gateways send them: the code of the error, and the time to wait.

use std::time::Duration;

use serde::Deserialize;

use super::{ProviderErrorBody, tests::call};

/// A body as a kind of server sends it, with made-up values.
#[derive(Deserialize)]
struct ServerBody {
    from: String,
    status: u16,
    body: String,
    /// What it means.
    code: String,
    /// The seconds to wait that it names.
    wait: Option<f64>,
}

#[test]
fn bodies_of_servers_have_their_meaning() {
    let rows: Vec<ServerBody> =
        include_str!("server_bodies.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut wrong = Vec::new();
    for ServerBody { from, status, body, code, wait } in &rows {
        let error = call().rejection_error(&ProviderErrorBody::from_body(*status, None, body.as_bytes(), &[]));
        let wait = wait.map(Duration::from_secs_f64);
        if error.code() != code || error.details.retry_after != wait {
            wrong.push(format!("{from}: {} {:?}, not {code} {wait:?}", error.code(), error.details.retry_after));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
