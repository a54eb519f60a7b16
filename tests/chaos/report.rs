//! What was seen, held against what is promised.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Display,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::tools::Ran;
use crate::{
    Plan,
    client::{Accepted, Session},
    killer::Deeds,
    model::Asked,
    world::World,
};

/// Replies of the model in a run, as `model.rs` has them.
const REPLIES: usize = 3;
/// A new owner goes on within 12 s of a kill; and one second for two busy cores.
const TAKEOVER: Duration = Duration::from_secs(13);
/// Reading a log takes milliseconds.
const ANSWER: Duration = Duration::from_secs(30);

/// A table, and what in it must not be.
#[derive(Default)]
struct Table {
    lines: Vec<String>,
    broken: Vec<String>,
}

impl Table {
    fn title(&mut self, title: &str) {
        self.lines.push(String::new());
        self.lines.push(title.to_owned());
    }

    fn row(&mut self, what: &str, value: impl Display) {
        self.lines.push(format!("  {what:<68} {value:>8}"));
    }

    /// A number that must be 0.
    fn must_be_0(&mut self, what: &str, number: u64) {
        self.row(what, number);
        if number != 0 {
            self.broken.push(format!("{what}: {number}"));
        }
    }

    /// A number that must be 0, with examples if it is not.
    fn none(&mut self, what: &str, found: &[String]) {
        self.row(what, found.len());
        if !found.is_empty() {
            let examples: Vec<&str> = found.iter().take(5).map(String::as_str).collect();
            self.broken.push(format!("{what}: {}, as in\n      {}", found.len(), examples.join("\n      ")));
        }
    }
}

/// A tool call as the logs have it.
#[derive(Default)]
struct Call {
    name: String,
    /// The argument `id`.
    id: String,
    session: String,
    starts: u64,
    ends: Vec<(String, String)>,
}

/// Prints what was seen; what of it must not be.
pub(crate) async fn report(
    plan: &Plan,
    world: &World,
    sessions: &[Arc<Session>],
    deeds: &Deeds,
    asked: &Asked,
    ran: &Ran,
    took: Duration,
) -> Vec<String> {
    let mut table = Table::default();
    let mut logs = Vec::new();
    let mut unlike = Vec::new();
    for session in sessions {
        let log = log(world, &world.replicas[0].url(), &session.id).await;
        for replica in &world.replicas[1..] {
            let other = self::log(world, &replica.url(), &session.id).await;
            if other != log {
                unlike.push(format!("session {}: replicas 0 and {}", session.id, replica.index));
            }
        }
        logs.push(log);
    }
    done(&mut table, plan, world, deeds, took);
    let runs: usize = logs.iter().flatten().filter(|event| event["type"] == "run_started").count();
    work(&mut table, sessions, &logs, asked, runs);
    streams(&mut table, sessions, &logs, &unlike);
    effects(&mut table, &logs, ran);
    let blind = asked.without_tools.load(Ordering::Relaxed);
    table.must_be_0("model calls that did not offer the tools", blind);
    ends(&mut table, sessions, &logs);
    takeovers(&mut table, deeds);
    println!("{}\n", table.lines.join("\n"));
    table.broken
}

async fn log(world: &World, url: &str, session: &str) -> Vec<Value> {
    let request = world.http.get(format!("{url}/v1/sessions/{session}/events?follow=false"));
    let request = request.header("accept", "application/x-ndjson").timeout(ANSWER);
    let text = async { request.send().await?.error_for_status()?.text().await };
    let text = text.await.unwrap_or_else(|error| panic!("the log of session {session} cannot be read: {error:?}"));
    let frames = text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect("JSON"));
    frames.filter(|frame: &Value| frame["seq"].is_u64()).collect()
}

fn done(table: &mut Table, plan: &Plan, world: &World, deeds: &Deeds, took: Duration) {
    let at_commits: u32 = deeds.kills_at.values().sum();
    table.title(&format!(
        "k8sops chaos: {} replicas behind nginx on one Redis, seed {}, {:.0} s",
        plan.replicas,
        plan.seed,
        took.as_secs_f64()
    ));
    table.row("kill -9 of the owner of a session with an open run", deeds.kills + at_commits);
    table.row("  at random moments", deeds.kills);
    table.row("  at a commit point", at_commits);
    let points: Vec<String> = deeds.kills_at.iter().map(|(point, times)| format!("{point}:{times}")).collect();
    if !points.is_empty() {
        table.lines.push(format!("    by commit of the turn   {}", points.join("  ")));
    }
    table.row("SIGSTOP of an owner for 11 to 14 s, then SIGCONT", deeds.pauses);
    // One by the store, which knows a newer epoch; the other by its own clock, before it asked.
    let late = world.written(" is over, epoch ") + world.written("the lease could not be renewed in time");
    table.row("  owners that found their lease lost when they woke up, by session", late);
    table.row("SIGTERM of an owner, and a start (rolling restart)", deeds.restarts);
    table.must_be_0("  whose process did not end with success", deeds.bad_exits.into());
    table.must_be_0("panics in the replicas", world.written("panicked at"));
}

fn work(table: &mut Table, sessions: &[Arc<Session>], logs: &[Vec<Value>], asked: &Asked, runs: usize) {
    let sum = |of: fn(&crate::client::Seen) -> u64| sessions.iter().map(|s| of(&s.seen())).sum::<u64>();
    table.title("work");
    table.row("sessions", sessions.len());
    table.row("turns", runs);
    table.row("turns that changed their owner (run_recovered), how often", count(logs, "run_recovered"));
    table.row("model calls", asked.times.load(Ordering::Relaxed));
    table.row("events in the logs", logs.iter().map(Vec::len).sum::<usize>());
    table.row("token events that clients saw", sum(|seen| seen.tokens));
    table.row("connections of clients to a stream, after the first", sum(|seen| seen.reconnects));
    table.row("messages that had to be sent again, how often", sum(|seen| seen.resent));
}

fn count(logs: &[Vec<Value>], kind: &str) -> usize {
    logs.iter().flatten().filter(|event| event["type"] == kind).count()
}

/// Nothing is lost.
fn streams(table: &mut Table, sessions: &[Arc<Session>], logs: &[Vec<Value>], unlike: &[String]) {
    let (mut lost, mut doubled, mut disordered, mut other) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut gaps, mut misplaced) = (Vec::new(), Vec::new());
    for (session, log) in sessions.iter().zip(logs) {
        let seen = session.seen();
        let each = |list: &mut Vec<String>, times: u64, what: &str| {
            list.extend((0..times).map(|_| format!("session {}: {what}", session.id)));
        };
        each(&mut lost, seen.lost, "a seq was skipped");
        each(&mut doubled, seen.doubled, "an event came again");
        each(&mut disordered, seen.disordered, "an event came after a later one");
        each(&mut misplaced, seen.misplaced, "a piece of text did not fit to what was shown before");
        let seen_by_seq: HashMap<u64, &Value> =
            seen.events.iter().filter_map(|event| Some((event["seq"].as_u64()?, event))).collect();
        for event in log {
            let seq = event["seq"].as_u64().unwrap_or_default();
            match seen_by_seq.get(&seq) {
                None => lost.push(format!("session {}: {seq} is in the log, and was not seen", session.id)),
                Some(seen) if *seen != event => other.push(format!("session {}: {seq} was seen as {seen}", session.id)),
                Some(_) => {}
            }
        }
        if seen_by_seq.len() > log.len() {
            other.push(format!("session {}: events were seen that are not in the log", session.id));
        }
        let seqs = log.iter().map(|event| event["seq"].as_u64().unwrap_or_default());
        if !seqs.eq(1..=log.len() as u64) {
            gaps.push(format!("session {}", session.id));
        }
    }
    table.title("nothing is lost (all must be 0)");
    table.none("events lost", &lost);
    table.none("events doubled", &doubled);
    table.none("events out of order", &disordered);
    table.none("events that clients saw otherwise than the log has them", &other);
    table.none("logs with a gap", &gaps);
    table.none("logs that are not the same on every replica", unlike);
    table.none("pieces of text in the wrong place", &misplaced);
}

/// No silent effect.
fn effects(table: &mut Table, logs: &[Vec<Value>], ran: &Ran) {
    let calls = calls(logs);
    let changes: Vec<&Call> = calls.values().filter(|call| call.name == "change").collect();
    let say = |call: &Call| format!("session {}: {} {}: {:?}", call.session, call.name, call.id, call.ends);
    let of = |which: &dyn Fn(&&Call) -> bool| -> Vec<String> { calls.values().filter(which).map(say).collect() };
    let is = |call: &Call, status: &str| call.ends.iter().any(|(s, _)| s == status);
    let times = |call: &Call| ran.times(&call.name, &call.id);
    let named: HashSet<&str> = changes.iter().map(|call| call.id.as_str()).collect();

    let unknown: Vec<&&Call> = changes.iter().filter(|call| is(call, "unknown")).collect();
    table.title("effects");
    table.row("changes that ended `ok`", changes.iter().filter(|call| is(call, "ok")).count());
    table.row("changes that ended `unknown`, and had been made", unknown.iter().filter(|c| times(c) == 1).count());
    table.row("changes that ended `unknown`, and had not been made", unknown.iter().filter(|c| times(c) == 0).count());
    let again = calls.values().filter(|call| call.name == "look" && call.starts > 1).count();
    table.row("looks that a new owner sent again", again);

    table.title("no silent effect (all must be 0)");
    let twice: Vec<String> =
        ran.all("change").into_iter().filter(|(_, n)| *n > 1).map(|(id, n)| format!("{id}: {n} times")).collect();
    table.none("changes made more than once", &twice);
    table.none(
        "changes that ended `ok` and were not made exactly once",
        &of(&|c| c.name == "change" && is(c, "ok") && times(c) != 1),
    );
    let silent = |call: &&Call| {
        call.name == "change" && times(call) > 0 && !["ok", "error", "unknown"].iter().any(|status| is(call, status))
    };
    let mut silent = of(&silent);
    silent.extend(
        ran.all("change")
            .into_iter()
            .filter(|(id, _)| !named.contains(id.as_str()))
            .map(|(id, _)| format!("{id} is in no log")),
    );
    table.none("changes made of which the log shows no outcome", &silent);
    table.none("calls without an end", &of(&|call| call.ends.is_empty()));
    table.none("calls with more than one end", &of(&|call| call.ends.len() > 1));
    table.none("changes that were started more than once", &of(&|call| call.name == "change" && call.starts > 1));
    table.none("looks that ended `unknown`", &of(&|call| call.name == "look" && is(call, "unknown")));
    let failed = |call: &&Call| call.ends.iter().any(|(status, _)| status != "ok" && status != "unknown");
    table.none("calls that ended otherwise, of tools that never fail", &of(&failed));
}

fn calls(logs: &[Vec<Value>]) -> HashMap<String, Call> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut calls: HashMap<String, Call> = HashMap::new();
    for event in logs.iter().flatten() {
        match event["type"].as_str() {
            Some("assistant_message") => {
                for call in event["tool_calls"].as_array().into_iter().flatten() {
                    let new = calls.entry(text(&call["id"])).or_default();
                    new.name = text(&call["name"]);
                    new.id = text(&call["arguments"]["id"]);
                    new.session = text(&event["session_id"]);
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

/// Every message that was taken has its run, and every run its end.
fn ends(table: &mut Table, sessions: &[Arc<Session>], logs: &[Vec<Value>]) {
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    let (mut absent, mut doubled, mut endless, mut ended_twice, mut replies) = (vec![], vec![], vec![], vec![], vec![]);
    let mut taken_twice = Vec::new();
    for (session, log) in sessions.iter().zip(logs) {
        let seen = session.seen();
        taken_twice.extend((0..seen.taken_twice).map(|_| format!("session {}", session.id)));
        let many = |kind: &str, field: &str, id: &str| {
            log.iter().filter(|event| event["type"] == kind && event[field] == id).count()
        };
        for Accepted { message_id, run_id } in &seen.accepted {
            let say = || format!("session {}: message {message_id}, run {run_id}", session.id);
            let (messages, starts) =
                (many("user_message", "message_id", message_id), many("run_started", "run_id", run_id));
            match (messages, starts) {
                (1, 1) => {}
                (0, _) | (_, 0) => absent.push(say()),
                _ => doubled.push(say()),
            }
            let (finished, broken) = (many("run_finished", "run_id", run_id), many("run_failed", "run_id", run_id));
            match finished + broken {
                0 => endless.push(say()),
                1 => {}
                _ => ended_twice.push(say()),
            }
            if finished == 1 && many("assistant_message", "run_id", run_id) != REPLIES {
                replies.push(say());
            }
        }
        for event in log.iter().filter(|event| event["type"] == "run_failed") {
            *failed.entry(event["code"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    table.title("every message has its run, and every run its end (all must be 0)");
    table.none("messages that were taken (202), and whose run never appeared", &absent);
    table.none("messages or runs that appeared more than once", &doubled);
    table.none("messages that one Idempotency-Key had taken twice", &taken_twice);
    table.none("runs that never ended", &endless);
    table.none("runs that ended more than once", &ended_twice);
    table.none("runs with a reply of the model too many or too few", &replies);
    let failed: Vec<String> = failed.into_iter().flat_map(|(code, times)| std::iter::repeat_n(code, times)).collect();
    table.none("runs that failed", &failed);
}

fn takeovers(table: &mut Table, deeds: &Deeds) {
    table.title("seconds until another owner's next commit            sessions   median      max");
    for (what, takeovers) in [
        ("after a kill -9 (promised: 12)", &deeds.takeovers),
        ("after a SIGSTOP", &deeds.takeovers_after_pause),
        ("after a SIGTERM", &deeds.takeovers_after_stop),
    ] {
        let mut takeovers = takeovers.clone();
        takeovers.sort();
        let Some((max, session)) = takeovers.last() else { continue };
        let median = takeovers[takeovers.len() / 2].0;
        table.lines.push(format!(
            "  {what:<48} {:>10} {:>8.1} {:>8.1}",
            takeovers.len(),
            median.as_secs_f64(),
            max.as_secs_f64()
        ));
        if *max >= TAKEOVER {
            table.broken.push(format!("{what}, the take-over of session {session} took {max:.1?}"));
        }
    }
}
