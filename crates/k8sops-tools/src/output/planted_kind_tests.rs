//! Kinds of outputs in which what decides was lost once: one row of each way in which it was.

use std::fmt::Write;

use serde_json::{Value, json};

use super::*;

/// A number that looks random and is the same in each run.
fn scramble(n: usize, modulus: usize) -> usize {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17).wrapping_mul(31) % modulus
}

fn view(text: &str, tokens: usize) -> String {
    let budget = OutputBudget { tokens, bytes: 64 * 1024 };
    let fitted = fit_output(text, None, budget, None);
    assert!(fitted.truncated && budget.allows(&fitted.content), "{}", fitted.content.len());
    fitted.content
}

#[track_caller]
fn assert_shows(kind: &str, text: &str, tokens: usize, facts: &[&str]) {
    let shown = view(text, tokens);
    let squeezed = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for fact in facts {
        assert!(squeezed.contains(fact), "{kind} at {tokens} tokens lost {fact}: {shown}");
    }
}

fn words(from: usize, count: usize) -> String {
    (from..from + count).map(|n| format!("word{}", scramble(n, 1_000))).collect::<Vec<_>>().join(" ")
}

fn pods(count: usize) -> Vec<Value> {
    let pod = |n: usize| {
        json!({"kind": "Pod", "metadata": {"name": format!("web-{n:04}"), "namespace": "shop", "uid": format!("{:032x}", scramble(n, 1 << 40)),
            "creationTimestamp": format!("2026-11-{:02}T10:00:00Z", 1 + n % 28)},
            "spec": {"containers": [{"name": "app", "image": "registry.local/web:1"}]},
            "status": {"phase": "Running", "startTime": "2026-11-20T10:00:00Z", "qosClass": "Burstable", "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"},
                    {"type": "ContainersReady", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
                "containerStatuses": [{"name": "app", "imageID": format!("registry.local/web@sha256:{}", "ab".repeat(32)),
                    "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2026-11-20T10:00:00Z"}}}]}})
    };
    (0..count).map(pod).collect()
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn rows(heading: &str, count: usize, odd: &str, row: impl Fn(usize) -> String) -> String {
    let mut text = format!("{heading}\n");
    for n in 0..count {
        let _ = writeln!(text, "{}", if n == count / 2 { odd.to_owned() } else { row(n) });
    }
    text
}

#[test]
fn dense_and_cut_text_is_shown() {
    let mut items = pods(300);
    items[120]["status"]["reason"] = json!("Evicted");
    items[120]["status"]["message"] = json!("The node was low on resource: memory.");
    let text = list(&items);
    let cut = &text[..text.len() - 7_777];
    for (kind, text) in [
        ("JSON in one line, cut", cut.to_owned()),
        ("with a note", format!("{cut}\n[output truncated]")),
        ("behind words", format!("Result of kubectl get: {cut}")),
        ("JSON in a string", Value::from(text.as_str()).to_string()),
        ("JSON in a field", json!({"exitCode": 0, "result": text}).to_string()),
        ("JSON in a content block", json!({"content": [{"type": "text", "text": text}]}).to_string()),
    ] {
        for tokens in [8_000, 1_600] {
            assert_shows(kind, &text, tokens, &["low on resource", "web-0120"]);
        }
    }
    // What does not parse is shown by its ends, however few bytes it has in a token.
    let dense: String = (0..60_000).map(|n| char::from(b'!' + u8::try_from(scramble(n, 90)).unwrap())).collect();
    for tokens in [8_000, 1_600] {
        let shown = view(&dense, tokens);
        let (head, tail) = (&dense[..40], &dense[dense.len() - 40..]);
        assert!(shown.contains(head) && shown.contains(tail), "{shown}");
        assert!(k8sops_models::tokens::count(&shown) * 2 > tokens, "{} bytes", shown.len());
    }
}

#[test]
fn long_texts_in_json_have_their_own_rule() {
    for (kind, field) in [
        ("a long line", format!("{} disk quota exceeded {}", words(0, 3_000), words(9, 3_000))),
        ("lines", format!("{}\nfatal: disk quota exceeded\n{}", words(0, 3_000), words(9, 3_000))),
    ] {
        let text = json!({"exitCode": 1, "stdout": field}).to_string();
        assert_shows(kind, &text, 1_600, &["disk quota exceeded", "exitCode\":1"]);
        assert!(view(&text, 8_000).len() > 8_000, "{kind}");
    }
}

#[test]
fn numbers_and_times_without_a_common_value_have_their_range() {
    let top = |n: usize| format!("web-{n:04}-x2x1q   {}m   {}Mi", 1 + scramble(n, 99), 60 + scramble(n, 1_700));
    let heading = "NAME              CPU(cores)   MEMORY(bytes)";
    let text = rows(heading, 400, "hungry-0-x2x1q    33m   1893Mi", top);
    assert_shows("top", &text, 1_600, &["hungry-0-x2x1q 33m 1893Mi"]);
    let node = |n: usize| json!({"name": format!("node-{n}"), "value": scramble(n, 99_999), "pad": "x".repeat(300)});
    let mut nodes: Vec<Value> = (0..900).map(node).collect();
    nodes[500]["value"] = json!(104_999);
    assert_shows("largest number", &Value::from(nodes).to_string(), 1_600, &["104999 (node-500)"]);
    let lease = |n: usize| {
        json!({"kind": "Lease", "metadata": {"name": format!("ip-10-0-0-{n}")}, "spec": {"leaseDurationSeconds": 40, "note": "x".repeat(300),
            "renewTime": format!("2026-11-29T10:02:{:02}.{:06}Z", scramble(n, 12), scramble(n, 999_999))}})
    };
    let mut leases: Vec<Value> = (0..300).map(lease).collect();
    leases[188]["spec"]["renewTime"] = json!("2026-11-29T09:02:11.000000Z");
    assert_shows("stale lease", &list(&leases), 1_600, &["ip-10-0-0-188: spec.renewTime=2026-11-29T09:02:11"]);
    let certificate = |n: usize| {
        json!({"kind": "Certificate", "metadata": {"name": format!("tls-{n}")}, "note": "x".repeat(300),
            "status": {"notAfter": format!("2027-0{}-{:02}T10:{:02}:00Z", 1 + n % 3, 1 + n % 28, n % 60)}})
    };
    let mut certificates: Vec<Value> = (0..300).map(certificate).collect();
    certificates[77]["status"]["notAfter"] = json!("2026-12-30T10:00:00Z");
    assert_shows("earliest", &list(&certificates), 1_600, &["2026-12-30T10:00:00Z (tls-77)"]);
}

#[test]
fn rare_events_come_first() {
    let event = |event_type: &str, reason: &str, message: &str, name: String| {
        json!({"kind": "Event", "involvedObject": {"kind": "Pod", "name": name, "namespace": "shop"}, "type": event_type,
            "reason": reason, "message": message, "count": 3, "lastTimestamp": "2026-11-29T10:00:00Z"})
    };
    let mut events: Vec<Value> = (0..400)
        .map(|n| event("Warning", "Unhealthy", "Readiness probe failed: status code 503", format!("web-{n}")))
        .collect();
    events[380] = event("Warning", "FailedScheduling", "12 Insufficient nvidia.com/gpu", "trainer-0".to_owned());
    events[390] = event("Normal", "NodeNotSchedulable", "Node is not schedulable", "node-21".to_owned());
    events[395] = event("Warning", "Unhealthy", "Liveness probe failed: dial tcp: no route", "odd-0".to_owned());
    let facts = ["Unhealthy ×398", "12 Insufficient nvidia.com/gpu", "NodeNotSchedulable", "dial tcp: no route"];
    assert_shows("events", &list(&events), 1_600, &facts);
}

#[test]
fn lines_around_tables_and_their_headings_are_read() {
    let pod = |n: usize| format!("pod/web-{n:04}    1/1     Running   0          5d");
    let pod_rows = rows(
        "NAME             READY   STATUS    RESTARTS   AGE",
        700,
        "pod/web-odd     1/1     Running   0          5d",
        pod,
    );
    for error in [
        "Error from server (Forbidden): secrets is forbidden: User \"x\" cannot list resource \"secrets\"",
        "Unable to connect to the server: net/http: TLS handshake timeout",
        "error: unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1: stale",
    ] {
        assert_shows("below", &format!("{pod_rows}{error}\n"), 1_600, &[error]);
        assert_shows("between", &format!("{pod_rows}{error}\n{pod_rows}"), 1_600, &[error]);
    }
    let mut many = String::new();
    for n in 0..60 {
        let ready = if n == 41 { "0/2" } else { "2/2" };
        let _ = writeln!(many, "NAME              READY   UP-TO-DATE   AVAILABLE");
        for app in ["cart", "geo", "web"] {
            let ready = if app == "geo" { ready } else { "2/2" };
            let _ = writeln!(many, "tenant-{n:02}/{app:<8} {ready}     2            2");
        }
        many.push('\n');
    }
    assert_shows("many tables", &many, 1_600, &["180 rows of 60 tables", "tenant-41/geo 0/2"]);
    let endpoint = |n: usize| {
        format!("{n:<10} Disabled           {:<10} k8s:app=web-{}   10.0.1.{}   ready", 1_000 + n, n % 9, n % 250)
    };
    let heading =
        "ENDPOINT   POLICY (ingress)   IDENTITY   LABELS (source:key[=value])   IPv4   STATUS\n           ENFORCEMENT";
    let odd = "3777       Disabled           5          reserved:init   10.0.1.9   not-ready";
    assert_shows("two lines of headings", &rows(heading, 400, odd, endpoint), 1_600, &["3777", "not-ready"]);
}

#[test]
fn what_decides_comes_before_what_is_only_different() {
    let age = |n: usize| {
        if n.is_multiple_of(7) { format!("{}d", 300 + scramble(n, 60)) } else { format!("{}m", 1 + scramble(n, 59)) }
    };
    let csr = |n: usize| {
        format!("csr-{:05}   {:<6}   system:node:ip-10-0-0-{n}   Approved,Issued", scramble(n, 99_999), age(n))
    };
    let text = rows(
        "NAME        AGE      REQUESTOR   CONDITION",
        600,
        "csr-odd99   5d       system:node:ip-10-0-9-9   Pending",
        csr,
    );
    assert_shows("age", &text, 1_600, &["system:node:ip-10-0-9-9 Pending"]);
    let faults = ["Unhealthy", "BackOff", "FailedMount", "Failed"];
    let event = |n: usize| {
        format!("{}m   Warning   {}   pod/web-{:05}   it failed to start", n % 59, faults[n % 4], scramble(n, 99_999))
    };
    let text = rows(
        "LAST SEEN   TYPE   REASON   OBJECT   MESSAGE",
        500,
        "8m   Warning   FailedCreate   replicaset/odd-1   exceeded quota",
        event,
    );
    assert_shows("a rare fault among common ones", &text, 1_600, &["replicaset/odd-1 exceeded quota"]);
    let set = |n: usize| format!("web-{n:04}   {0}         {0}         {0}       {1}d", [0, 2, 3][n % 3], 1 + n % 300);
    let text =
        rows("NAME       DESIRED   CURRENT   READY   AGE", 500, "odd-0001   3         3         2       9d", set);
    assert_shows("counts that differ", &text, 1_600, &["odd-0001 3 3 2"]);
}

#[test]
fn json_below_a_text_has_its_own_rule() {
    let pod = |n: usize| format!("shop   web-{n:04}   1/1   Running");
    let table = rows("NAMESPACE   NAME   READY   STATUS", 400, "shop   web-odd   0/1   Failed", pod);
    let mut items = pods(200);
    items[50]["spec"]["containers"][0]["image"] = json!("docker.io/evil:1");
    let text = format!("{table}\nstructured content:\n{}", list(&items));
    assert_shows("table and JSON", &text, 1_600, &["web-odd", "docker.io/evil:1", "web-0050"]);
}

#[test]
fn states_of_objects_are_not_lost() {
    let mut items = pods(300);
    items[30]["metadata"]["deletionTimestamp"] = json!("2026-11-28T02:00:00Z");
    assert_shows("terminating", &list(&items), 1_600, &["web-0030: metadata.deletionTimestamp=2026-11-28T02:00:00Z"]);
    let mut items = pods(150);
    items[100]["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "9 node(s) had untolerated taint {dedicated: gpu}."}]});
    assert_shows("why something is missing", &list(&items), 1_600, &["untolerated taint {dedicated: gpu}", "web-0100"]);
    let mut items = pods(160);
    items[61]["status"]["containerStatuses"][0]["imageID"] =
        json!(format!("docker.io/evil@sha256:{}", "cd".repeat(32)));
    assert_shows("image", &list(&items), 1_600, &["docker.io/evil", "web-0061"]);
    let panel = |n: usize| json!({"id": n, "title": format!("Panel {n}"), "datasource": {"uid": "prom-main"}, "note": "x".repeat(400)});
    let mut panels: Vec<Value> = (0..170).map(panel).collect();
    panels[99]["datasource"]["uid"] = json!("prom-old");
    assert_shows("titles", &json!({"panels": panels}).to_string(), 1_600, &["Panel 99: datasource.uid=prom-old"]);
    let series = |n: usize| {
        let points = if n == 44 { 30 } else { 60 };
        let values: Vec<Value> =
            (0..points).map(|at| json!([1_764_400_000 + 60 * at, format!("{}", scramble(n * 60 + at, 900))])).collect();
        json!({"metric": {"queue": format!("q-{n}")}, "values": values})
    };
    let text = json!({"data": {"result": (0..90).map(series).collect::<Vec<_>>()}}).to_string();
    assert_shows("series that ends early", &text, 1_600, &["\"q-44\"}} 30 points"]);
}

#[test]
fn yaml_below_a_heading_is_read() {
    let mut values = String::from("USER-SUPPLIED VALUES:\n");
    let mut broken = String::new();
    for n in 0..400 {
        let enabled = n != 200;
        let entry = format!("svc{n}:\n  enabled: {enabled}\n  image:\n    repository: r/svc{n}\n    tag: {n}.0\n");
        values.push_str(&entry);
        broken.push_str(&entry);
    }
    assert_shows("values", &values, 1_600, &["svc200: enabled=false"]);
    // What does not parse is shown with the lines that it belongs to.
    broken.push_str("  : : }{ not yaml\n\t- x");
    broken = broken.replace("tag: 123.0", "tag: 123.0\n    error: could not be pulled");
    assert_shows("not YAML", &broken, 1_600, &["svc123: ", "image:", "error: could not be pulled"]);
}

#[test]
fn silence_in_a_log_is_shown() {
    let line = |n: usize| {
        let second = n * 2 + if n > 700 { 2_700 } else { 0 };
        format!(
            "2026-11-29T{:02}:{:02}:{:02}Z INFO consumed batch {n} in {}ms",
            8 + second / 3_600,
            second / 60 % 60,
            second % 60,
            scramble(n, 40)
        )
    };
    let text: Vec<String> = (0..1_500).map(line).collect();
    assert_shows(
        "gap",
        &text.join("\n"),
        1_600,
        &["before 2702 s without a line", "2026-11-29T08:23:20Z", "2026-11-29T09:08:22Z"],
    );
}
