{{/* Checks that a JSON schema cannot express. Each message says what to do. */}}
{{- define "k8sops.validate" -}}
{{- $v := .Values }}
{{- if not $v.auth.mode }}
{{- fail "auth.mode is not set: choose api_key, jwt, proxy, or none (which needs auth.allowInsecure: true)" }}
{{- end }}
{{- if and (eq $v.auth.mode "none") (not $v.auth.allowInsecure) }}
{{- fail "auth.mode is none: everyone who can reach the pod could use it. Set auth.allowInsecure: true if that is intended" }}
{{- end }}
{{- if and (eq $v.auth.mode "api_key") (not $v.auth.apiKeys.existingSecret) (not $v.auth.apiKeys.generateFor) }}
{{- fail "auth.mode is api_key: name the Secret with the file of keys in auth.apiKeys.existingSecret, or a user in auth.apiKeys.generateFor" }}
{{- end }}
{{- if and $v.auth.apiKeys.existingSecret $v.auth.apiKeys.generateFor }}
{{- fail "auth.apiKeys: existingSecret and generateFor exclude each other" }}
{{- end }}
{{- if and (eq $v.auth.mode "jwt") (not (and $v.auth.jwt.issuer $v.auth.jwt.audience)) }}
{{- fail "auth.mode is jwt: set auth.jwt.issuer and auth.jwt.audience" }}
{{- end }}
{{- if and (eq $v.auth.mode "proxy") (not (and $v.auth.proxy.userHeader $v.auth.proxy.sources)) }}
{{- fail "auth.mode is proxy: set auth.proxy.userHeader and auth.proxy.sources" }}
{{- end }}
{{- $many := or $v.autoscaling.enabled (gt (int $v.replicas) 1) }}
{{- if and $many (ne $v.store.backend "redis") }}
{{- fail (printf "store.backend is %s, which supports one replica only: set replicas: 1 without autoscaling, or store.backend: redis" $v.store.backend) }}
{{- end }}
{{- if and $v.autoscaling.enabled (lt (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas)) }}
{{- fail "autoscaling.maxReplicas is less than autoscaling.minReplicas: raise autoscaling.maxReplicas, or lower autoscaling.minReplicas" }}
{{- end }}
{{- with $v.store.redis }}
{{- if and (eq $v.store.backend "redis") (not .url) (not .existingSecret) }}
{{- fail "store.backend is redis: set store.redis.url, or name a Secret that holds it in store.redis.existingSecret" }}
{{- end }}
{{- if and .url .existingSecret }}
{{- fail "store.redis.url and store.redis.existingSecret are both set: keep one" }}
{{- end }}
{{- end }}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) }}
{{- fail "ingress.enabled: name at least one host in ingress.hosts" }}
{{- end }}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) }}
{{- fail "httpRoute.enabled: name the Gateway in httpRoute.parentRefs" }}
{{- end }}
{{- range $kind, $route := dict "ingress" $v.ingress "httpRoute" $v.httpRoute }}
{{- range $route.paths }}
{{- if and $route.enabled (eq $v.auth.metrics "open") (has (trimSuffix "/" .) (list "" "/metrics")) }}
{{- fail (printf "%s.paths: %s exposes /metrics, which needs no authentication: list the paths that clients need, or set auth.metrics: admin" $kind .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $v.serviceMonitor.enabled (eq $v.auth.metrics "admin") (not $v.serviceMonitor.bearerTokenSecret.name) }}
{{- fail "auth.metrics is admin: name a Secret with the key or token of an admin in serviceMonitor.bearerTokenSecret.name" }}
{{- end }}
{{- if and (or $v.rbac.rules $v.rbac.clusterRules) (not $v.serviceAccount.create) (not $v.serviceAccount.name) }}
{{- fail "rbac would grant its rules to the account `default`, and so to every pod of the namespace without a service account: set serviceAccount.create: true, or name a dedicated account in serviceAccount.name" }}
{{- end }}
{{- include "k8sops.validateAudit" . }}
{{- if contains "$(" $v.tracing.otlpEndpoint }}
{{- fail "tracing.otlpEndpoint: refer to a variable of extraEnv as ${NAME}, with braces" }}
{{- end }}
{{- with $v.mcp.sidecar }}
{{- if and .enabled (not .image) }}
{{- fail "mcp.sidecar.enabled: set mcp.sidecar.image" }}
{{- end }}
{{- end }}
{{- if get ($v.settings.mcp | default dict) "servers" }}
{{- fail "settings.mcp.servers: list MCP servers in mcp.servers instead" }}
{{- end }}
{{- include "k8sops.rejectManagedSettings" . }}
{{- $approval := include "k8sops.effectiveSetting" (dict "root" . "variable" "TOOL_APPROVAL" "path" "tools.approval") }}
{{- $by := include "k8sops.effectiveSetting" (dict "root" . "variable" "TOOL_APPROVAL_BY" "path" "tools.approval_by") }}
{{- if and (eq $by "approver") (eq $approval "auto") }}
{{- fail "settings.tools.approval_by (TOOL_APPROVAL_BY) is approver, but with settings.tools.approval (TOOL_APPROVAL) auto no approval would be requested: set the latter to ask, and use settings.tools.rules for the tools that may run without approval" }}
{{- end }}
{{- if and (eq $by "approver") (eq $v.auth.mode "none") }}
{{- fail "settings.tools.approval_by (TOOL_APPROVAL_BY) is approver, but with auth.mode none there is only one user, and no other user could approve: choose another auth.mode, or set it to owner" }}
{{- end }}
{{- include "k8sops.rejectSecrets" . }}
{{- end }}
