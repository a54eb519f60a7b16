//! Compares what the clients and the tools observed with what k8sops guarantees, and formats the results as one table.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Display,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    ChaosPlan,
    client::{AcceptedMessage, ClientSession, ObservedStream},
    cluster::ChaosCluster,
    fault_injection::FaultCounts,
    model::ModelRequests,
    tools::ToolExecutions,
};

/// Replies of the model in a run, see `model.rs`.
const REPLIES_PER_RUN: usize = 3;
/// The longest accepted takeover: 12 s are guaranteed, and one more is for two busy cores.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(13);
/// Reading a log takes milliseconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The result of a chaos test.
#[derive(Default)]
struct ResultTable {
    lines: Vec<String>,
    violations: Vec<String>,
}

impl ResultTable {
    fn add_title(&mut self, title: &str) {
        self.lines.push(String::new());
        self.lines.push(title.to_owned());
    }

    fn add_row(&mut self, label: &str, value: impl Display) {
        self.lines.push(format!("  {label:<68} {value:>8}"));
    }

    /// Adds a count that must be 0.
    fn require_zero(&mut self, label: &str, count: u64) {
        self.add_row(label, count);
        if count != 0 {
            self.violations.push(format!("{label}: {count}"));
        }
    }

    /// Adds a list that must be empty, with examples if it is not.
    fn require_none(&mut self, label: &str, found: &[String]) {
        self.add_row(label, found.len());
        if !found.is_empty() {
            let examples: Vec<&str> = found.iter().take(5).map(String::as_str).collect();
            self.violations.push(format!("{label}: {}, for example\n      {}", found.len(), examples.join("\n      ")));
        }
    }
}

/// A tool call in the logs.
#[derive(Default)]
struct LoggedCall {
    name: String,
    /// The argument `id`.
    id: String,
    session: String,
    starts: u64,
    /// Status and content of each `tool_end`.
    ends: Vec<(String, String)>,
}

/// Everything that a chaos test observed.
pub(crate) struct Observations<'a> {
    pub plan: &'a ChaosPlan,
    pub cluster: &'a ChaosCluster,
    pub sessions: &'a [Arc<ClientSession>],
    pub faults: FaultCounts,
    pub model_requests: &'a ModelRequests,
    pub executions: &'a ToolExecutions,
    pub duration: Duration,
}

/// Prints the table and returns the violations of guarantees.
pub(crate) async fn print_report(observations: &Observations<'_>) -> Vec<String> {
    let Observations { cluster, sessions, .. } = *observations;
    let mut table = ResultTable::default();
    let mut logs = Vec::new();
    let mut differing = Vec::new();
    for session in sessions {
        let log = read_log(cluster, &cluster.replicas[0].url(), &session.id).await;
        for replica in &cluster.replicas[1..] {
            if read_log(cluster, &replica.url(), &session.id).await != log {
                differing.push(format!("session {}: replicas 0 and {}", session.id, replica.index));
            }
        }
        logs.push(log);
    }
    report_faults(&mut table, observations);
    report_load(&mut table, observations, &logs);
    check_streams(&mut table, sessions, &logs, &differing);
    check_effects(&mut table, &logs, observations.executions);
    let without_tools = observations.model_requests.without_tools.load(Ordering::Relaxed);
    table.require_zero("model calls that did not offer the tools", without_tools);
    check_runs(&mut table, sessions, &logs);
    check_takeovers(&mut table, &observations.faults);
    println!("{}\n", table.lines.join("\n"));
    table.violations
}

async fn read_log(cluster: &ChaosCluster, url: &str, session: &str) -> Vec<Value> {
    let request = cluster.http.get(format!("{url}/v1/sessions/{session}/events?follow=false"));
    let request = request.header("accept", "application/x-ndjson").timeout(REQUEST_TIMEOUT);
    let text = async { request.send().await?.error_for_status()?.text().await };
    let text = text.await.unwrap_or_else(|error| panic!("the log of session {session} cannot be read: {error:?}"));
    let frames = text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect("JSON"));
    frames.filter(|frame: &Value| frame["seq"].is_u64()).collect()
}

fn report_faults(table: &mut ResultTable, observations: &Observations<'_>) {
    let Observations { plan, cluster, faults, duration, .. } = observations;
    let kills_after_commit: u32 = faults.kills_after_commit.values().sum();
    table.add_title(&format!(
        "k8sops chaos: {} replicas behind nginx on one Redis, seed {}, {:.0} s",
        plan.replicas,
        plan.seed,
        duration.as_secs_f64()
    ));
    table.add_row("kill -9 of the owner of a session with an open run", faults.kills + kills_after_commit);
    table.add_row("  at random moments", faults.kills);
    table.add_row("  right after a commit", kills_after_commit);
    let by_commit: Vec<String> =
        faults.kills_after_commit.iter().map(|(point, count)| format!("{point}:{count}")).collect();
    if !by_commit.is_empty() {
        table.lines.push(format!("    by commit of the turn   {}", by_commit.join("  ")));
    }
    table.add_row("SIGSTOP of an owner for 11 to 14 s, then SIGCONT", faults.pauses);
    // The store reports the first when it has a newer epoch, the owner logs the second when its own clock is past the
    // lease.
    let lost_leases =
        cluster.count_in_logs(" is over, epoch ") + cluster.count_in_logs("the lease could not be renewed in time");
    table.add_row("  leases that a resumed owner had lost", lost_leases);
    table.add_row("SIGTERM of an owner, and a start (rolling restart)", faults.restarts);
    table.require_zero("  whose process exited with a failure", faults.failed_exits.into());
    table.require_zero("panics in the replicas", cluster.count_in_logs("panicked at"));
}

fn report_load(table: &mut ResultTable, observations: &Observations<'_>, logs: &[Vec<Value>]) {
    let sessions = observations.sessions;
    let sum = |count: fn(&ObservedStream) -> u64| sessions.iter().map(|s| count(&s.observed())).sum::<u64>();
    table.add_title("load");
    table.add_row("sessions", sessions.len());
    table.add_row("runs", count_events(logs, "run_started"));
    table.add_row("runs resumed by another owner (run_recovered)", count_events(logs, "run_recovered"));
    table.add_row("model calls", observations.model_requests.total.load(Ordering::Relaxed));
    table.add_row("events in the logs", logs.iter().map(Vec::len).sum::<usize>());
    table.add_row("token events that clients received", sum(|observed| observed.tokens));
    table.add_row("reconnects of clients to a stream", sum(|observed| observed.reconnects));
    table.add_row("retries of messages", sum(|observed| observed.retries));
}

fn count_events(logs: &[Vec<Value>], event_type: &str) -> usize {
    logs.iter().flatten().filter(|event| event["type"] == event_type).count()
}

/// Checks that every client received the log, complete and in order.
fn check_streams(table: &mut ResultTable, sessions: &[Arc<ClientSession>], logs: &[Vec<Value>], differing: &[String]) {
    let mut lost = Vec::new();
    let mut repeated = Vec::new();
    let mut out_of_order = Vec::new();
    let mut altered = Vec::new();
    let mut gaps = Vec::new();
    let mut misplaced = Vec::new();
    for (session, log) in sessions.iter().zip(logs) {
        let observed = session.observed();
        let add = |list: &mut Vec<String>, count: u64, problem: &str| {
            list.extend((0..count).map(|_| format!("session {}: {problem}", session.id)));
        };
        add(&mut lost, observed.skipped, "a seq was skipped");
        add(&mut repeated, observed.repeated, "an event arrived again");
        add(&mut out_of_order, observed.out_of_order, "an event arrived after a later one");
        add(&mut misplaced, observed.misplaced_previews, "a preview did not match the text before");
        let by_seq: HashMap<u64, &Value> =
            observed.events.iter().filter_map(|event| Some((event["seq"].as_u64()?, event))).collect();
        for event in log {
            let seq = event["seq"].as_u64().unwrap_or_default();
            match by_seq.get(&seq) {
                None => lost.push(format!("session {}: seq {seq} is in the log but was not received", session.id)),
                Some(received) if *received != event => {
                    altered.push(format!("session {}: seq {seq} was received as {received}", session.id));
                }
                Some(_) => {}
            }
        }
        if by_seq.len() > log.len() {
            altered.push(format!("session {}: events were received that are not in the log", session.id));
        }
        let seqs = log.iter().map(|event| event["seq"].as_u64().unwrap_or_default());
        if !seqs.eq(1..=log.len() as u64) {
            gaps.push(format!("session {}", session.id));
        }
    }
    table.add_title("no lost events (all must be 0)");
    table.require_none("events lost", &lost);
    table.require_none("events repeated", &repeated);
    table.require_none("events out of order", &out_of_order);
    table.require_none("events that differ from the log", &altered);
    table.require_none("logs with a gap", &gaps);
    table.require_none("logs that differ between replicas", differing);
    table.require_none("previews at the wrong offset", &misplaced);
}

/// Checks that every change was made at most once and that the log holds its outcome.
fn check_effects(table: &mut ResultTable, logs: &[Vec<Value>], executions: &ToolExecutions) {
    let calls = collect_calls(logs);
    let changes: Vec<&LoggedCall> = calls.values().filter(|call| call.name == "change").collect();
    let describe = |call: &LoggedCall| format!("session {}: {} {}: {:?}", call.session, call.name, call.id, call.ends);
    let matching = |predicate: &dyn Fn(&&LoggedCall) -> bool| -> Vec<String> {
        calls.values().filter(predicate).map(describe).collect()
    };
    let has_status = |call: &LoggedCall, expected: &str| call.ends.iter().any(|(status, _)| status == expected);
    let executed = |call: &LoggedCall| executions.count_of_call(&call.name, &call.id);
    let logged_ids: HashSet<&str> = changes.iter().map(|call| call.id.as_str()).collect();

    let unknown: Vec<&&LoggedCall> = changes.iter().filter(|call| has_status(call, "unknown")).collect();
    table.add_title("effects");
    table.add_row("changes that ended `ok`", changes.iter().filter(|call| has_status(call, "ok")).count());
    table
        .add_row("changes that ended `unknown` and were executed", unknown.iter().filter(|c| executed(c) == 1).count());
    table.add_row(
        "changes that ended `unknown` and were not executed",
        unknown.iter().filter(|c| executed(c) == 0).count(),
    );
    let repeated_looks = calls.values().filter(|call| call.name == "look" && call.starts > 1).count();
    table.add_row("looks that a new owner sent again", repeated_looks);

    table.add_title("no silent effects (all must be 0)");
    let change_counts = executions.calls_of_tool("change");
    let repeated: Vec<String> = change_counts
        .iter()
        .filter(|(_, count)| *count > 1)
        .map(|(id, count)| format!("{id}: {count} times"))
        .collect();
    table.require_none("changes executed more than once", &repeated);
    table.require_none(
        "changes that ended `ok` and were not executed exactly once",
        &matching(&|call| call.name == "change" && has_status(call, "ok") && executed(call) != 1),
    );
    let mut silent = matching(&|call| {
        call.name == "change"
            && executed(call) > 0
            && !["ok", "error", "unknown"].iter().any(|status| has_status(call, status))
    });
    let unlogged = change_counts.iter().filter(|(id, _)| !logged_ids.contains(id.as_str()));
    silent.extend(unlogged.map(|(id, _)| format!("{id} is in no log")));
    table.require_none("changes executed without an outcome in the log", &silent);
    table.require_none("calls without an end", &matching(&|call| call.ends.is_empty()));
    table.require_none("calls with more than one end", &matching(&|call| call.ends.len() > 1));
    table.require_none(
        "changes that were started more than once",
        &matching(&|call| call.name == "change" && call.starts > 1),
    );
    table.require_none(
        "looks that ended `unknown`",
        &matching(&|call| call.name == "look" && has_status(call, "unknown")),
    );
    let failed = |call: &&LoggedCall| call.ends.iter().any(|(status, _)| status != "ok" && status != "unknown");
    table.require_none("calls that failed although the tools never fail", &matching(&failed));
}

/// Collects the tool calls of all logs by their id.
fn collect_calls(logs: &[Vec<Value>]) -> HashMap<String, LoggedCall> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut calls: HashMap<String, LoggedCall> = HashMap::new();
    for event in logs.iter().flatten() {
        match event["type"].as_str() {
            Some("assistant_message") => {
                for requested in event["tool_calls"].as_array().into_iter().flatten() {
                    let call = calls.entry(text(&requested["id"])).or_default();
                    call.name = text(&requested["name"]);
                    call.id = text(&requested["arguments"]["id"]);
                    call.session = text(&event["session_id"]);
                }
            }
            Some("tool_start") => calls.entry(text(&event["tool_call_id"])).or_default().starts += 1,
            Some("tool_end") => {
                let end = (text(&event["status"]), text(&event["content"]));
                calls.entry(text(&event["tool_call_id"])).or_default().ends.push(end);
            }
            _ => {}
        }
    }
    calls
}

/// Checks that every accepted message has one run, and that every run has one end.
fn check_runs(table: &mut ResultTable, sessions: &[Arc<ClientSession>], logs: &[Vec<Value>]) {
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    let mut missing = Vec::new();
    let mut repeated = Vec::new();
    let mut unfinished = Vec::new();
    let mut finished_twice = Vec::new();
    let mut wrong_replies = Vec::new();
    let mut accepted_twice = Vec::new();
    for (session, log) in sessions.iter().zip(logs) {
        let observed = session.observed();
        accepted_twice.extend((0..observed.accepted_twice).map(|_| format!("session {}", session.id)));
        let count = |event_type: &str, field: &str, id: &str| {
            log.iter().filter(|event| event["type"] == event_type && event[field] == id).count()
        };
        for AcceptedMessage { message_id, run_id } in &observed.accepted {
            let describe = || format!("session {}: message {message_id}, run {run_id}", session.id);
            let messages = count("user_message", "message_id", message_id);
            let starts = count("run_started", "run_id", run_id);
            match (messages, starts) {
                (1, 1) => {}
                (0, _) | (_, 0) => missing.push(describe()),
                _ => repeated.push(describe()),
            }
            let succeeded = count("run_finished", "run_id", run_id);
            match succeeded + count("run_failed", "run_id", run_id) {
                0 => unfinished.push(describe()),
                1 => {}
                _ => finished_twice.push(describe()),
            }
            if succeeded == 1 && count("assistant_message", "run_id", run_id) != REPLIES_PER_RUN {
                wrong_replies.push(describe());
            }
        }
        for event in log.iter().filter(|event| event["type"] == "run_failed") {
            *failed.entry(event["code"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    table.add_title("every message has its run, and every run its end (all must be 0)");
    table.require_none("accepted messages (202) without a run", &missing);
    table.require_none("messages or runs that appear more than once", &repeated);
    table.require_none("messages accepted twice with one Idempotency-Key", &accepted_twice);
    table.require_none("runs that never ended", &unfinished);
    table.require_none("runs that ended more than once", &finished_twice);
    table.require_none("runs with a wrong number of model replies", &wrong_replies);
    let failed: Vec<String> = failed.into_iter().flat_map(|(code, count)| std::iter::repeat_n(code, count)).collect();
    table.require_none("runs that failed", &failed);
}

fn check_takeovers(table: &mut ResultTable, faults: &FaultCounts) {
    table.add_title("seconds until another owner's next commit            sessions   median      max");
    for (label, takeovers) in [
        ("after a kill -9 (guaranteed: 12)", &faults.takeovers_after_kill),
        ("after a SIGSTOP", &faults.takeovers_after_pause),
        ("after a SIGTERM", &faults.takeovers_after_restart),
    ] {
        let mut takeovers = takeovers.clone();
        takeovers.sort();
        let Some(longest) = takeovers.last() else { continue };
        let median = takeovers[takeovers.len() / 2].duration;
        table.lines.push(format!(
            "  {label:<48} {:>10} {:>8.1} {:>8.1}",
            takeovers.len(),
            median.as_secs_f64(),
            longest.duration.as_secs_f64()
        ));
        if longest.duration >= TAKEOVER_LIMIT {
            let problem = format!("{label}, the takeover of session {} took {:.1?}", longest.session, longest.duration);
            table.violations.push(problem);
        }
    }
}
