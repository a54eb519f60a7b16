//! Reads the logs, and prints what was found as one table.

use std::{
    fmt::Display,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time::sleep;

use crate::{
    checks::{AcknowledgedFate, Findings, GUARANTEES},
    client::{ClientSession, is_transient},
    cluster::ChaosCluster,
    commit_watcher::SessionRecovery,
    disturbance::DisturbanceKind,
    injection::DisturbanceRecord,
    model::ModelRequests,
    plan::ChaosPlan,
    tools::ToolExecutions,
};

/// Reading a log takes milliseconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that a chaos test observed.
pub(crate) struct Observations<'a> {
    pub plan: &'a ChaosPlan,
    pub cluster: &'a ChaosCluster,
    pub sessions: Vec<Arc<ClientSession>>,
    pub records: Vec<DisturbanceRecord>,
    pub recoveries: Vec<SessionRecovery>,
    pub model_requests: &'a ModelRequests,
    pub executions: &'a ToolExecutions,
    pub duration: Duration,
}

/// Describes what is going to be done, as the options that repeat it.
pub(crate) fn describe_plan(plan: &ChaosPlan) -> String {
    let kinds: Vec<_> = plan.kinds.iter().map(|kind| kind.name()).collect();
    let confirm = plan.confirm.as_ref().map(|confirm| format!(" --confirm {confirm}")).unwrap_or_default();
    let doors: Vec<_> = plan.doors.iter().map(|door| door.name()).collect();
    format!(
        "--topology {}{confirm} --disturbances {} --kinds {} --doors {} --sessions {} --replicas {} --seed {}",
        plan.topology.name(),
        plan.disturbances,
        kinds.join(","),
        doors.join(","),
        plan.sessions,
        plan.replicas,
        plan.seed
    )
}

/// Prints the table and returns the violations of guarantees.
pub(crate) async fn print_report(observations: &Observations<'_>) -> Vec<String> {
    let Observations { plan, cluster, .. } = *observations;
    let mut findings = Findings::default();
    for session in &observations.sessions {
        let mut logs = Vec::new();
        for replica in &cluster.replicas {
            logs.push(read_log(cluster, &replica.url(), &session.id).await);
        }
        let violations = findings.count_violations();
        findings.check_session(session, &logs, plan.may_lose_writes());
        if findings.count_violations() > violations {
            ChaosCluster::keep_session_log(&session.id, &logs[0]);
        }
    }
    findings.check_effects(cluster, observations.executions, plan.may_lose_writes());

    println!("\nk8sops chaos: {}, {:.0} s\n", describe_plan(plan), observations.duration.as_secs_f64());
    print_disturbances(observations, &findings);
    print_counts(observations, &findings);
    println!("\n{:<76} {:>8}", "guarantees (all must be 0)", "");
    let mut violations = Vec::new();
    for guarantee in GUARANTEES {
        let found = findings.violations.get(guarantee).map(Vec::as_slice).unwrap_or_default();
        add_guarantee(guarantee, found.len(), &mut violations);
        if let Some(violation) = violations.last_mut().filter(|_| !found.is_empty()) {
            *violation += &format!(", for example\n      {}", found[..found.len().min(5)].join("\n      "));
        }
    }
    let failed_exits: u64 = cluster.replicas.iter().map(|replica| replica.failed_exits()).sum();
    let without_tools = observations.model_requests.without_tools.load(Ordering::Relaxed);
    for (guarantee, count) in [
        ("panics in the replicas", cluster.count_in_logs("panicked at")),
        ("replicas that exited with a failure after SIGTERM", failed_exits),
        ("model calls that did not offer the tools", without_tools),
    ] {
        add_guarantee(guarantee, usize::try_from(count).unwrap_or(usize::MAX), &mut violations);
    }
    println!();
    violations
}

fn print_row(label: &str, value: impl Display) {
    println!("  {label:<74} {value:>8}");
}

fn add_guarantee(guarantee: &str, count: usize, violations: &mut Vec<String>) {
    print_row(guarantee, count);
    if count > 0 {
        violations.push(format!("{guarantee}: {count}"));
    }
}

/// Prints a row for each kind. What was acknowledged during a disturbance counts for its kind; several may last at one time.
fn print_disturbances(observations: &Observations<'_>, findings: &Findings) {
    println!(
        "| disturbance | count | sessions | recovery: median | max | acknowledged | lost | announced | second effects |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    let all: Vec<_> = observations.records.iter().collect();
    for kind in DisturbanceKind::ALL {
        let records: Vec<_> = all.iter().copied().filter(|record| record.kind == kind).collect();
        if !records.is_empty() {
            let title = format!("`{}`: {}", kind.name(), kind.title());
            let is_of_kind = |recovery: &&SessionRecovery| recovery.kind == kind;
            print_disturbance_row(
                &title,
                &records,
                observations.recoveries.iter().filter(is_of_kind),
                findings,
                |at| records.iter().any(|record| record.begin <= at && at <= record.end),
            );
        }
    }
    print_disturbance_row("all", &all, observations.recoveries.iter(), findings, |_| true);
}

fn print_disturbance_row<'a>(
    title: &str,
    records: &[&DisturbanceRecord],
    recoveries: impl Iterator<Item = &'a SessionRecovery>,
    findings: &Findings,
    includes: impl Fn(Instant) -> bool,
) {
    let mut recoveries: Vec<Duration> = recoveries.map(|recovery| recovery.duration).collect();
    recoveries.sort();
    let median = recoveries.get(recoveries.len() / 2).copied().unwrap_or_default();
    let longest = recoveries.last().copied().unwrap_or_default();
    let fates: Vec<&AcknowledgedFate> =
        findings.messages.iter().chain(&findings.approvals).filter(|fate| includes(fate.at)).collect();
    let lost: Vec<_> = fates.iter().filter(|fate| fate.is_lost).collect();
    let announced = lost.iter().filter(|fate| fate.is_announced).count();
    let repeated = findings.repeated_effects.iter().filter(|effect| includes(effect.at)).count();
    println!(
        "| {title} | {} | {} | {:.1} s | {:.1} s | {} | {} | {announced} | {repeated} |",
        records.len(),
        recoveries.len(),
        median.as_secs_f64(),
        longest.as_secs_f64(),
        fates.len(),
        lost.len()
    );
}

fn print_counts(observations: &Observations<'_>, findings: &Findings) {
    println!("\n{:<76} {:>8}", "load", "");
    for (name, count) in &findings.counts {
        print_row(name, count);
    }
    print_row("model calls", observations.model_requests.total.load(Ordering::Relaxed));
    for (name, fates) in [("messages", &findings.messages), ("approvals", &findings.approvals)] {
        print_row(&format!("acknowledged {name}"), fates.len());
        print_row("  that the store has lost", fates.iter().filter(|fate| fate.is_lost).count());
        let announced = fates.iter().filter(|fate| fate.is_lost && fate.is_announced).count();
        print_row("  and whose loss was announced on the stream", announced);
    }
    let unknown: Vec<_> = findings.repeated_effects.iter().filter(|effect| !effect.was_known).collect();
    print_row("changes executed again, of which no living replica knew", unknown.len());
    for effect in unknown.iter().take(5) {
        println!("      {}", effect.description);
    }
    // The store reports the first when it has a newer epoch, the owner logs the second when its own clock is past the lease.
    let cluster = observations.cluster;
    let lost_leases =
        cluster.count_in_logs(" is over, epoch ") + cluster.count_in_logs("the lease could not be renewed in time");
    print_row("leases that an owner had lost", lost_leases);
}

/// Reads the whole log of a session. A session that does not exist has none.
///
/// # Panics
/// The log cannot be read.
async fn read_log(cluster: &ChaosCluster, url: &str, session: &str) -> Vec<Value> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    loop {
        let request = cluster.http.get(format!("{url}/v1/sessions/{session}/events?follow=false"));
        let request = request.header("accept", "application/x-ndjson").timeout(REQUEST_TIMEOUT);
        let response = request.send().await.unwrap_or_else(|error| panic!("no log of session {session}: {error:?}"));
        let status = response.status();
        if status == reqwest::StatusCode::NOT_FOUND {
            return Vec::new();
        }
        let text = response.text().await.unwrap_or_else(|error| panic!("half a log of session {session}: {error:?}"));
        if status.is_success() {
            let lines = text.lines().filter(|line| !line.is_empty());
            let frames = lines.map(|line| serde_json::from_str::<Value>(line).expect("lines are JSON"));
            return frames.filter(|frame| frame["seq"].is_u64()).collect();
        }
        let can_retry = is_transient(status) && Instant::now() < deadline;
        assert!(can_retry, "the log of session {session} cannot be read: {status}: {text}");
        sleep(Duration::from_millis(200)).await;
    }
}
