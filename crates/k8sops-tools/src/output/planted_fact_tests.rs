//! Outputs of many kinds, in each of which one thing is not as usual: it must be in what the model gets.

use serde_json::{Value, json};

use super::*;

const BUDGET: OutputBudget = OutputBudget { tokens: 3_200, bytes: 64 * 1024 };

/// An output and what of it must be shown.
struct PlantedFact {
    kind: &'static str,
    text: String,
    facts: Vec<&'static str>,
}

fn planted(kind: &'static str, text: String, facts: &[&'static str]) -> PlantedFact {
    PlantedFact { kind, text, facts: facts.to_vec() }
}

/// A number that looks random and is the same in each run.
fn scramble(n: usize, modulus: usize) -> usize {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17).wrapping_mul(31) % modulus
}

fn lines(count: usize, odd: &str, line: impl Fn(usize) -> String) -> String {
    let line = |n: usize| if n == count * 2 / 3 { odd.to_owned() } else { line(n) };
    (0..count).map(line).collect::<Vec<_>>().join("\n")
}

/// Objects of which one is changed by `plant`.
fn objects(count: usize, object: impl Fn(usize) -> Value, plant: impl Fn(&mut Value)) -> Vec<Value> {
    let mut items: Vec<Value> = (0..count).map(object).collect();
    plant(&mut items[count * 2 / 3]);
    items
}

fn custom_resource(n: usize) -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
        "metadata": {"name": format!("tls-{n}"), "namespace": format!("team-{}", n % 7), "uid": format!("{:032x}", scramble(n, 1 << 40))},
        "spec": {"dnsNames": [format!("tls-{n}.example.com")], "secretName": format!("tls-{n}"), "issuerRef": {"name": "public", "kind": "ClusterIssuer"}},
        "status": {"notAfter": format!("2027-02-{:02}T10:00:00Z", 1 + n % 27), "revision": 1 + n % 4,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "Certificate is up to date"}]},
    })
}

fn pod(n: usize) -> Value {
    let app = ["cart", "orders", "search"][n % 3];
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{app}-7d9f6c5b8-{:05}", scramble(n, 100_000)), "namespace": "shop", "labels": {"app": app}},
        "spec": {"nodeName": format!("node-{}", n % 9), "containers": [{"name": "app", "image": format!("registry.local/{app}:1.{}", n % 20),
            "env": [{"name": "REGION", "value": "eu"}], "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m"}}}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "app", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2026-11-20T10:00:00Z"}}}]},
    })
}

fn yaml(items: &[Value]) -> String {
    serde_saphyr::to_string(&json!({"apiVersion": "v1", "kind": "List", "items": items})).unwrap()
}

fn structured_outputs() -> Vec<PlantedFact> {
    let list = |items: Vec<Value>| json!({"kind": "List", "items": items}).to_string();
    let crash = |pod: &mut Value| {
        pod["status"]["containerStatuses"][0] = json!({"name": "app", "ready": false, "restartCount": 41,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}});
    };
    let series = |n: usize| {
        let values: Vec<Value> = (0..120)
            .map(|at| {
                json!([
                    1_764_400_000 + 60 * at,
                    if (n, at) == (17, 77) {
                        "17.29".to_owned()
                    } else {
                        format!("0.{}", 200 + scramble(n * 120 + at, 99))
                    }
                ])
            })
            .collect();
        json!({"metric": {"pod": format!("web-{n}"), "namespace": "shop"}, "values": values})
    };
    vec![
        planted("300 pods in JSON", list(objects(300, pod, crash)), &["OOMKilled", "CrashLoopBackOff", "137"]),
        planted("300 pods in YAML", yaml(&objects(300, pod, crash)), &["OOMKilled", "CrashLoopBackOff", "137"]),
        planted("image", list(objects(160, pod, |pod| pod["spec"]["containers"][0]["image"] = json!("docker.io/mine/miner:latest"))), &["mine/miner"]),
        planted("variable", list(objects(160, pod, |pod| pod["spec"]["containers"][0]["env"][0]["value"] = json!("legacy"))), &["legacy"]),
        planted(
            "no limits",
            list(objects(160, pod, |pod| pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}}))),
            &["no spec.containers[].resources.limits"],
        ),
        planted(
            "custom resource",
            yaml(&objects(120, custom_resource, |object| {
                object["status"]["conditions"][0] = json!({"type": "Ready", "status": "False", "reason": "IncorrectIssuer", "message": "issued by old-ca"});
            })),
            &["tls-80", "conditions{Ready}=False", "IncorrectIssuer", "old-ca"],
        ),
        planted(
            "early time",
            list(objects(120, custom_resource, |object| object["status"]["notAfter"] = json!("2026-11-30T03:00:00Z"))),
            &["tls-80", "2026-11-30T03:00:00Z"],
        ),
        planted("matrix", json!({"status": "success", "data": {"resultType": "matrix", "result": (0..40).map(series).collect::<Vec<_>>()}}).to_string(), &["17.29", "web-17"]),
        planted(
            "vector",
            json!({"data": {"result": (0..300).map(|n| json!({"metric": {"pod": format!("web-{n}")}, "value": [1_764_400_000, if n == 200 { "9663676416".to_owned() } else { (10_000_000 + scramble(n, 200_000_000)).to_string() }]})).collect::<Vec<_>>()}}).to_string(),
            &["9663676416", "web-200"],
        ),
    ]
}

fn printed_outputs() -> Vec<PlantedFact> {
    let top = |n: usize| {
        format!("shop        web-{n:06}-x2x1q        {}m          {}Mi", 1 + scramble(n, 90), 20 + scramble(n, 280))
    };
    let access = |n: usize| {
        format!(
            "10.0.0.{} - - [29/Nov/2026:10:{:02}:{:02} +0000] \"GET /api/pay HTTP/1.1\" 200 {}",
            n % 250,
            n / 60 % 60,
            n % 60,
            100 + scramble(n, 900)
        )
    };
    let job = |n: usize| {
        format!(
            "2026-11-29T10:{:02}:{:02}Z INFO job run-{n} finished with exit code 0 in {}ms",
            n / 60 % 60,
            n % 60,
            10 + scramble(n, 80)
        )
    };
    let json_line = |n: usize, duration: f64| {
        json!({"level": "info", "msg": "request done", "status": 200, "duration_ms": duration, "trace": format!("{:x}", scramble(n, 1 << 40))}).to_string()
    };
    let labels: String = lines(30, "            odd=1", |n| format!("            label-{n}.example.com/x={n}"));
    let node_pods = lines(200, "  data        big-0       6 (75%)      24Gi (77%)", |n| {
        format!("  shop        web-{n:04}    100m (1%)    128Mi (0%)")
    });
    vec![
        planted(
            "top",
            format!(
                "NAMESPACE   NAME                        CPU(cores)   MEMORY(bytes)\n{}",
                lines(600, "data        hungry-0-x2x1q          3871m        412Mi", top)
            ),
            &["hungry-0-x2x1q", "3871m"],
        ),
        planted(
            "access log",
            lines(9_000, r#"10.0.0.9 - - [29/Nov/2026:10:40:00 +0000] "GET /api/pay HTTP/1.1" 502 157"#, access),
            &[" 502 157", "200 ×8999"],
        ),
        planted(
            "exit code",
            lines(9_000, "2026-11-29T10:40:00Z INFO job run-7 finished with exit code 137 in 11ms", job),
            &["exit code 137"],
        ),
        planted(
            "JSON log",
            lines(3_000, &json_line(1, 30_012.5), |n| json_line(n, 2.0 + scramble(n, 600) as f64 / 10.0)),
            &["30012.5"],
        ),
        planted(
            "describe node",
            format!(
                "Name:       node-3\nRoles:      <none>\nLabels:     a=b\n{labels}\nConditions:\n  Type           Status  Reason\n  ----           ------  ------\n  DiskPressure   True    KubeletHasDiskPressure\n  Ready          True    KubeletReady\nNon-terminated Pods:  (200 in total)\n  Namespace   Name        CPU Requests  Memory Requests\n  ---------   ----        ------------  ---------------\n{node_pods}\nEvents:\n  Type     Reason                Message\n  ----     ------                -------\n  Warning  EvictionThresholdMet  Attempting to reclaim ephemeral-storage\n"
            ),
            &["DiskPressure   True", "big-0", "EvictionThresholdMet"],
        ),
        planted(
            "answers of a name server",
            lines(2_500, ";; ledger.pay.svc.cluster.local. NXDOMAIN", |n| {
                format!(";; web-{n}.shop.svc.cluster.local. 30 IN A 10.96.{}.{}", n % 250, scramble(n, 250))
            }),
            &["NXDOMAIN"],
        ),
        planted(
            "dry run",
            lines(1_500, "namespace/prod deleted (server dry run)", |n| {
                format!("service/web-{n} deleted (server dry run)")
            }),
            &["namespace/prod deleted"],
        ),
        planted(
            "colored table",
            format!(
                "\u{1b}[37mNAMESPACE   NAME          READY   STATUS\u{1b}[0m\n{}",
                lines(2_000, "\u{1b}[33mshop        web-odd       0/1     \u{1b}[31mRunning\u{1b}[0m", |n| format!(
                    "\u{1b}[32mshop        web-{n:05}     1/1     Running\u{1b}[0m"
                ))
            ),
            &["web-odd  0/1"],
        ),
        planted(
            "several tables",
            format!(
                "NAME              READY   STATUS\n{}\n\nNAME                    READY   AVAILABLE\n{}",
                lines(300, "pod/web-z         1/1     Running", |n| format!("pod/web-{n:04}      1/1     Running")),
                lines(200, "deployment.apps/odd     0/2     0", |n| format!("deployment.apps/w-{n:03}   2/2     2"))
            ),
            &["deployment.apps/odd  0/2"],
        ),
        planted(
            "progress bar",
            format!(
                "Pulling image\n{}\nfailed to pull odd: manifest unknown\n",
                lines(50_000, "\r80%", |n| format!("\r{}.{:02}%", n / 500, n % 100)).replace('\n', "")
            ),
            &["failed to pull odd"],
        ),
    ]
}

#[test]
fn planted_facts_are_shown() {
    let mut lost = Vec::new();
    for PlantedFact { kind, text, facts } in structured_outputs().into_iter().chain(printed_outputs()) {
        let fitted = fit_output(&text, None, BUDGET, Some("read_output shows more"));
        assert!(fitted.truncated && BUDGET.allows(&fitted.content), "{kind}: {} bytes", fitted.content.len());
        lost.extend(
            facts.into_iter().filter(|fact| !fitted.content.contains(fact)).map(|fact| format!("{kind}: {fact}")),
        );
    }
    assert!(lost.is_empty(), "lost: {lost:#?}");
}

#[test]
fn each_event_is_a_row() {
    let event = |n: usize| {
        let event_type = if n == 77 { "Warning" } else { "Normal" };
        json!({"InvolvedObject": {"Kind": "Pod", "Name": format!("web-{n}"), "apiVersion": "v1"}, "Type": event_type, "Reason": "Pulled",
            "Message": format!("Container image \"registry.local/web:1.{n}\" already present on machine and can be accessed by the pod"),
            "Namespace": "shop", "Timestamp": format!("2026-11-29 10:{:02}:00 +0000 UTC", n % 60)})
    };
    let events: Vec<Value> = (0..140).map(event).collect();
    let text =
        format!("# The following events (YAML format) were found:\n{}", serde_saphyr::to_string(&events).unwrap());
    let content = fit_output(&text, None, OutputBudget { tokens: 8_000, ..BUDGET }, None).content;
    assert!(content.contains("140 events: 1 Warning, 139 Normal; namespace shop"), "{content}");
    for n in 0..140 {
        assert!(content.contains(&format!("Pulled  Pod/web-{n}  ×1  Container image")), "{n}: {content}");
    }
}

#[test]
fn objects_without_a_status_get_no_verdict() {
    let manifest = |n: usize| json!({"kind": "Deployment", "metadata": {"name": format!("web-{n}")}, "spec": {"replicas": 2, "note": "x".repeat(400)}});
    let text = yaml(&(0..120).map(manifest).collect::<Vec<_>>());
    let content = fit_output(&text, None, BUDGET, None).content;
    assert!(
        content.contains("120 Deployment") && !content.contains("ready") && !content.contains("Unlike"),
        "{content}"
    );
}

#[test]
fn budget_is_spent_to_its_end() {
    let data = lines(2_000, "key=1", |n| format!("key.{n}={}", scramble(n, 1 << 30)));
    let map = |n: usize| json!({"kind": "ConfigMap", "metadata": {"name": format!("conf-{n}")}, "data": {"app.properties": data}});
    let text = json!({"kind": "List", "items": [map(1), map(2)]}).to_string();
    let content = fit_output(&text, None, BUDGET, None).content;
    assert!(k8sops_models::tokens::count(&content) * 10 > BUDGET.tokens * 9, "{content}");
}

#[test]
fn changes_in_a_diff_are_shown_before_unchanged_lines() {
    let unchanged = lines(1_200, "     - name: VAR", |n| format!("     - name: VAR_{n}"));
    let text = format!(
        "diff -u a/web b/web\n--- a/web\n+++ b/web\n@@ -1,900 +1,900 @@\n{unchanged}\n-  replicas: 3\n+  replicas: 0\n{unchanged}\n"
    );
    let content = fit_output(&text, None, OutputBudget { tokens: 2_000, ..BUDGET }, None).content;
    assert!(content.contains("-  replicas: 3\n+  replicas: 0"), "{content}");
}

#[test]
fn diffs_are_cut_at_whole_hunks() {
    let file = |name: &str, old: &str, new: &str| {
        format!("--- a/{name}\n+++ b/{name}\n@@ -1,2 +1,2 @@\n spec:\n-  limit: {old}\n+  limit: {new}")
    };
    let odd = file("ClusterRole..web", "get", "everything");
    let text = lines(240, &odd, |n| file(&format!("ConfigMap.shop.c{n}"), &n.to_string(), &(n + 1).to_string()));
    let budget = OutputBudget { tokens: 2_000, ..BUDGET };
    let content = fit_output(&text, None, budget, None).content;
    assert!(budget.allows(&content) && content.contains("+  limit: everything"), "{content}");
    assert!(content.contains(" lines are left out here]"), "{content}");
    let removed = content.matches("\n-  limit").count();
    assert!(removed > 20 && removed == content.matches("\n+  limit").count(), "{content}");
    let helm = text.lines().filter(|line| !line.starts_with(['@', '+', '-']) || line.contains("limit")).map(|line| {
        if line == " spec:" { "shop, web, Deployment (apps) has changed:\n  spec:".to_owned() } else { line.to_owned() }
    });
    let helm = helm.collect::<Vec<_>>().join("\n");
    assert!(fit_output(&helm, None, budget, None).content.contains("-  limit: get\n+  limit: everything"));
}
