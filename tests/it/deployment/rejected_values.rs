//! Values that the chart rejects.

use std::collections::BTreeSet;

use k8sops::config::settings_catalog;

use super::chart::{as_list, config_map_data, pod_spec, render_chart, render_objects, settings_yaml, values_files};

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn invalid_values_are_rejected_with_a_remedy() {
    let good = values_files()["api-key-filesystem-values"].to_str().unwrap().to_owned();
    for (set, said) in [
        ("auth.mode=", "auth.mode is not set: choose api_key, jwt, proxy, or none"),
        ("auth.mode=none", "Set auth.allowInsecure: true if that is intended"),
        ("auth.mode=oidc", "auth/mode"),
        ("auth.mode=jwt", "set auth.jwt.issuer and auth.jwt.audience"),
        ("auth.mode=proxy", "set auth.proxy.userHeader and auth.proxy.sources"),
        ("auth.apiKeys.existingSecret=", "name the Secret with the file of keys in auth.apiKeys.existingSecret"),
        ("replicas=2", "store.backend is filesystem, which supports one replica only"),
        ("autoscaling.enabled=true", "store.backend is filesystem, which supports one replica only"),
        ("store.backend=redis", "set store.redis.url, or name a Secret"),
        ("store.backend=postgres", "store/backend"),
        ("store.redis.url=redis redis", "store/redis/url"),
        ("ingress.enabled=true", "name at least one host in ingress.hosts"),
        ("httpRoute.enabled=true", "name the Gateway in httpRoute.parentRefs"),
        (
            "ingress.enabled=true,ingress.hosts={ops.example.com},ingress.paths={/}",
            "ingress.paths: / exposes /metrics, which needs no authentication",
        ),
        (
            "httpRoute.enabled=true,httpRoute.parentRefs[0].name=public,httpRoute.paths={/v1,/metrics}",
            "httpRoute.paths: /metrics exposes /metrics, which needs no authentication",
        ),
        ("auth.metrics=everybody", "auth/metrics"),
        ("auth.metrics=admin,serviceMonitor.enabled=true", "in serviceMonitor.bearerTokenSecret.name"),
        (
            "serviceAccount.create=false,rbac.rules[0].verbs={get}",
            "rbac would grant its rules to the account `default`",
        ),
        ("serviceAccount.create=false,rbac.clusterRules[0].verbs={get}", "a dedicated account in serviceAccount.name"),
        ("mcp.sidecar.enabled=true", "set mcp.sidecar.image"),
        ("replica=2", "replica"),
        ("store.redis.ulr=redis://redis", "ulr"),
        ("runAsUser=0", "runAsUser"),
        ("service.port=http", "service/port"),
        (
            "settings.tools.approval_by=approver,settings.tools.approval=auto",
            "no approval would be requested: set the latter to ask",
        ),
        ("settings.tools.approval_by=approver,env.TOOL_APPROVAL=auto", "no approval would be requested"),
        ("env.TOOL_APPROVAL_BY=approver,settings.tools.approval=auto", "no approval would be requested"),
        (
            "env.TOOL_APPROVAL_BY=approver,extraEnv[0].name=TOOL_APPROVAL,extraEnv[0].value=auto",
            "no approval would be requested",
        ),
        (
            "env.TOOL_APPROVAL_BY=approver,auth.mode=none,auth.allowInsecure=true",
            "no other user could approve: choose another auth.mode",
        ),
        ("tracing.otlpEndpoint=collector:4318", "tracing/otlpEndpoint"),
        ("tracing.otlpEndpoint=http://$(HOST_IP):4318", "refer to a variable of extraEnv as ${NAME}"),
        (
            "autoscaling.enabled=true,autoscaling.maxReplicas=1,store.backend=redis,store.redis.url=redis://redis",
            "raise autoscaling.maxReplicas",
        ),
    ] {
        for variable in ["K8SOPS_TEST_HELM", "K8SOPS_TEST_HELM3"] {
            let refused = render_chart(variable, &["--values", &good, "--set", set]).await;
            let refused = refused.expect_err(set);
            // Helm 3 and 4 write the path of a value differently.
            assert!(refused.replace('.', "/").contains(&said.replace('.', "/")), "{set}: {refused}");
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn approver_rule_is_accepted_unless_approval_is_auto() {
    let good = values_files()["api-key-filesystem-values"].to_str().unwrap().to_owned();
    for set in [
        "settings.tools.approval_by=approver",
        "settings.tools.approval_by=approver,settings.tools.approval=ask",
        "settings.tools.approval_by=owner,settings.tools.approval=auto",
        "settings.tools.approval_by=approver,settings.tools.approval=auto,env.TOOL_APPROVAL=ask",
        "env.TOOL_APPROVAL_BY=approver,env.TOOL_APPROVAL=auto,extraEnv[0].name=TOOL_APPROVAL,extraEnv[0].value=deny",
    ] {
        render_chart("K8SOPS_TEST_HELM", &["--values", &good, "--set", set]).await.expect(set);
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn literal_secrets_are_rejected() {
    let good = values_files()["api-key-filesystem-values"].to_str().unwrap().to_owned();
    let server = |rest: &str| format!("mcp.servers[0].name=one,mcp.servers[0].transport=http,mcp.servers[0].{rest}");
    let args = |words: &[&str]| {
        let all = words.iter().enumerate();
        all.fold(server("command=serve"), |set, (at, word)| format!("{set},mcp.servers[0].args[{at}]={word}"))
    };
    for (set, said) in [
        (server("headers.Authorization=Bearer hunter2"), "mcp.servers: one: headers.Authorization is a secret"),
        (server("headers.cookie=hunter2"), "mcp.servers: one: headers.cookie is a secret"),
        (server("headers.X-Api-Key=hunter2"), "mcp.servers: one: headers.X-Api-Key is a secret"),
        (server("env.GITHUB_TOKEN=hunter2"), "mcp.servers: one: env.GITHUB_TOKEN is a secret"),
        (server("env.GITHUB_TOKEN=${NAME:-hunter2}"), "mcp.servers: one: env.GITHUB_TOKEN is a secret"),
        (server("env.GITHUB_TOKEN=$${NAME}"), "mcp.servers: one: env.GITHUB_TOKEN is a secret"),
        (server("url=https://mcp/mcp?api_key=hunter2"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://me:hunter2@mcp/mcp"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://me:$hunter2@mcp/mcp"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://${USER}:hunter2@mcp/mcp"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://hunter2@mcp/mcp"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://mcp/mcp?sig=hunter2&a=b"), "mcp.servers: one: url has a secret in it"),
        (server("url=https://mcp/mcp?a=b&auth=hunter2"), "mcp.servers: one: url has a secret in it"),
        (server("headers.X-Auth=hunter2"), "mcp.servers: one: headers.X-Auth is a secret"),
        (server("headers.Passphrase=hunter2"), "mcp.servers: one: headers.Passphrase is a secret"),
        (server("headers.X-AccessToken=hunter2"), "mcp.servers: one: headers.X-AccessToken is a secret"),
        (args(&["--password", "hunter2"]), "mcp.servers: one: args has a secret in it"),
        (args(&["--verbose", "--token=hunter2"]), "mcp.servers: one: args has a secret in it"),
        (args(&["--header", "Authorization: Bearer hunter2"]), "mcp.servers: one: args has a secret in it"),
        (args(&["-e", "GITHUB_TOKEN=hunter2"]), "mcp.servers: one: args has a secret in it"),
        (args(&["postgres://me:hunter2@db/ops"]), "mcp.servers: one: args has a secret in it"),
        (args(&["-c", "serve --password hunter2 --port 80"]), "mcp.servers: one: args has a secret in it"),
        ("mcp.sidecar.args={--password,hunter2}".into(), "mcp.sidecar.args has a secret in it"),
        ("env.MCP_SERVER_ARGS=--token hunter2".into(), "env.MCP_SERVER_ARGS has a secret in it"),
        ("env.HTTPS_PROXY=http://me:hunter2@proxy:3128".into(), "env.HTTPS_PROXY has a secret in it"),
        (
            "extraEnv[0].name=HTTPS_PROXY,extraEnv[0].value=http://me:hunter2@proxy:3128".into(),
            "extraEnv: HTTPS_PROXY has a secret in it",
        ),
        ("tracing.otlpEndpoint=http://me:hunter2@collector:4318".into(), "tracing.otlpEndpoint has a secret in it"),
        ("store.redis.url=redis://:hunter2@redis:6379".into(), "store.redis.url has a user or a secret in it"),
        ("settings.providers.openai.api_key=hunter2".into(), "settings.providers.openai.api_key is a secret"),
        ("settings.providers.own.headers.api-key=hunter2".into(), "settings.providers.own.headers.api-key is a secret"),
        ("settings.telemetry.otlp_headers=a=hunter2".into(), "settings.telemetry.otlp_headers is a secret"),
        ("env.OPENAI_API_KEY=hunter2".into(), "env.OPENAI_API_KEY looks like a secret in a ConfigMap"),
        ("env.OTEL_EXPORTER_OTLP_HEADERS=a=hunter2".into(), "env.OTEL_EXPORTER_OTLP_HEADERS looks like a secret"),
        ("store.redis.url=redis://h?password=hunter2".into(), "store.redis.url has a secret in it"),
        ("extraEnv[0].name=GH_TOKEN,extraEnv[0].value=hunter2".into(), "extraEnv: GH_TOKEN looks like a secret"),
        (
            "mcp.sidecar.env[0].name=GH_TOKEN,mcp.sidecar.env[0].value=hunter2".into(),
            "mcp.sidecar.env: GH_TOKEN looks like a secret",
        ),
    ] {
        for variable in ["K8SOPS_TEST_HELM", "K8SOPS_TEST_HELM3"] {
            let refused = render_chart(variable, &["--values", &good, "--set", &set]).await.expect_err(&set);
            assert!(refused.contains(said) && !refused.contains("hunter2"), "{set}: {refused}");
        }
    }
    for set in [
        server("headers.Authorization=Bearer ${MCP_TOKEN}"),
        server("headers.Authorization=Bearer ${user.token}"),
        server("headers.Accept-Language=en"),
        server("env.GITHUB_TOKEN=${GITHUB_TOKEN:-}"),
        server("url=https://mcp/mcp?api_key=${MCP_TOKEN}"),
        server("url=https://me:${MCP_TOKEN}@mcp/mcp"),
        server("url=https://${MCP_TOKEN}@mcp:8443/@ops/mcp?compass=1"),
        server("headers.X-Keyspace=ops"),
        server("headers.X-Portkey-Provider=openai"),
        server("headers.X-Auth-Mode=oauth"),
        server("env.TLS_KEY=/certs/tls.key"),
        args(&[
            "--password",
            "${PASSWORD}",
            "--token=${TOKEN}",
            "--token-file",
            "/etc/token",
            "--key",
            "/certs/tls.key",
        ]),
        args(&["--header", "Authorization: Bearer ${TOKEN}", "git+ssh://git@github.com/ops/mcp", "--max-tokens", "5"]),
        args(&["-c", "serve --token $TOKEN --scope secret:read"]),
        "mcp.sidecar.args={--password,$(PASSWORD)}".into(),
        "env.K8SOPS_TLS_KEY=/certs/tls.key".into(),
        "extraEnv[0].name=K8SOPS_TLS_KEY,extraEnv[0].value=/certs/tls.key".into(),
        "extraEnv[0].name=HTTPS_PROXY,extraEnv[0].value=http://me:$(PASSWORD)@proxy:3128".into(),
        "tracing.otlpEndpoint=http://me:${PASSWORD}@collector:4318".into(),
        "settings.providers.own.headers.api-key=${OWN_KEY}".into(),
        "env.LLM_MAX_TOKENS=4096".into(),
        "extraEnv[0].name=GH_TOKEN,extraEnv[0].valueFrom.secretKeyRef.name=gh".into(),
        "extraEnv[0].name=GH_TOKEN,extraEnv[0].value=$(GITHUB_TOKEN)".into(),
    ] {
        render_chart("K8SOPS_TEST_HELM", &["--values", &good, "--set", &set]).await.unwrap();
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn managed_settings_are_rejected_elsewhere() {
    let mut own = BTreeSet::from(["AUDIT_LOG", "OTEL_EXPORTER_OTLP_ENDPOINT", "REDIS_URL"].map(str::to_owned));
    for values in values_files().values() {
        own.extend(config_map_data(&render_objects(values, &[]).await, "-env").keys().cloned());
    }
    // These come from `env` of an example.
    assert!(own.remove("MAX_SESSIONS") && own.remove("MEMORY_SHALLOW"), "{own:?}");
    let good = values_files()["api-key-filesystem-values"].to_str().unwrap().to_owned();
    let settings = settings_catalog().entries_with_variable();
    for variable in own {
        let setting = settings.iter().find(|entry| entry.descriptor.variable == variable);
        let places = [
            Some((format!("env.{variable}=x"), format!("env.{variable}"))),
            Some((format!("extraEnv[0].name={variable},extraEnv[0].value=x"), format!("extraEnv: {variable}"))),
            setting.map(|setting| (format!("settings.{}=x", setting.path), format!("settings.{}", setting.path))),
        ];
        for (set, place) in places.into_iter().flatten() {
            let refused = render_chart("K8SOPS_TEST_HELM", &["--values", &good, "--set", &set]).await.expect_err(&set);
            assert!(refused.contains(&format!("{place} is set by the chart: ")), "{set}: {refused}");
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn audit_trail_is_durable_and_per_pod() {
    let files = values_files();
    let objects = render_objects(&files["redis-jwt-values"], &[]).await;
    assert!(
        settings_yaml(&objects).contains("log: /var/log/k8sops/${HOSTNAME}.jsonl\n"),
        "{}",
        settings_yaml(&objects)
    );
    let mounts = as_list(&as_list(&pod_spec(&objects)["containers"])[0]["volumeMounts"]);
    let mount = mounts.iter().find(|mount| mount["mountPath"] == "/var/log/k8sops").unwrap();
    let volume = as_list(&pod_spec(&objects)["volumes"]).iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    assert_eq!(volume["persistentVolumeClaim"]["claimName"], "k8sops-audit");
    let own = "extraVolumeMounts[0].name=own,extraVolumeMounts[0].mountPath=/srv,extraVolumes[0].name=own";
    let nfs = format!("{own},extraVolumes[0].nfs.server=nfs,extraVolumes[0].nfs.path=/");
    for (name, set) in [
        ("api-key-filesystem-values", "audit.log=-"),
        ("api-key-filesystem-values", "audit.log=/data/audit.jsonl"),
        ("api-key-filesystem-values", &format!("audit.log=/srv/audit.jsonl,{nfs}")),
        ("try-out-values", "audit.log=/var/log/k8sops/audit.jsonl,audit.existingClaim=audit"),
        ("redis-jwt-values", "audit.log=-,audit.existingClaim="),
        ("redis-jwt-values", &format!("audit.existingClaim=,audit.log=/srv/${{HOSTNAME}}.jsonl,{nfs}")),
        ("redis-jwt-values", "audit.log=/var/log/k8sops/${POD_NAME}.jsonl"),
        (
            "redis-jwt-values",
            &format!(
                "audit.existingClaim=,audit.log=/srv/audit.jsonl,{nfs},extraVolumeMounts[0].subPathExpr=$(POD_NAME)"
            ),
        ),
    ] {
        assert!(
            settings_yaml(&render_objects(&files[name], &["--set", set]).await).contains("audit:\n  log: "),
            "{name}: {set}"
        );
    }
    let (nowhere, shared) = ("is not on a writable volume that outlives the pod", "put ${HOSTNAME} into the name");
    for (name, set, said) in [
        ("api-key-filesystem-values", "audit.log=/var/log/k8sops/audit.jsonl", nowhere),
        ("api-key-filesystem-values", "audit.log=/data/../tmp/audit.jsonl", nowhere),
        ("api-key-filesystem-values", "audit.log=/dev/stdout", nowhere),
        ("api-key-filesystem-values", &format!("audit.log=/srv/audit.jsonl,{own}"), nowhere),
        (
            "api-key-filesystem-values",
            &format!("audit.log=/srv/audit.jsonl,{nfs},extraVolumeMounts[0].readOnly=true"),
            nowhere,
        ),
        ("api-key-filesystem-values", "audit.log=audit.jsonl", "audit"),
        ("try-out-values", "audit.log=/data/audit.jsonl", nowhere),
        ("try-out-values", "audit.existingClaim=audit", "set audit.log to a file in that folder"),
        ("redis-jwt-values", "audit.existingClaim=,audit.log=/data/${HOSTNAME}.jsonl", nowhere),
        ("redis-jwt-values", "audit.log=/var/log/k8sops/audit.jsonl", shared),
        ("redis-jwt-values", "autoscaling.enabled=false,audit.log=/var/log/k8sops/audit.jsonl", shared),
        ("redis-jwt-values", "audit.log=/var/log/k8sops/$${HOSTNAME}.jsonl", shared),
        (
            "redis-jwt-values",
            &format!("audit.existingClaim=,audit.log=/srv/audit.jsonl,{nfs},extraVolumeMounts[0].subPathExpr=audit"),
            shared,
        ),
    ] {
        let args = ["--values", files[name].to_str().unwrap(), "--set", set];
        let refused = render_chart("K8SOPS_TEST_HELM", &args).await.expect_err(set);
        assert!(refused.contains(said), "{name}: {set}: {refused}");
    }
}
