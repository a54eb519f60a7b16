{{- define "k8sops.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "k8sops.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "k8sops.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "k8sops.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "k8sops.selector" -}}
app.kubernetes.io/name: {{ include "k8sops.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "k8sops.labels" -}}
{{ include "k8sops.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "k8sops.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "k8sops.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "k8sops.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "k8sops.claim" -}}
{{- .Values.store.filesystem.existingClaim | default (include "k8sops.fullname" .) }}
{{- end }}

{{/* The security context that the restricted Pod Security Standard requires of every container. */}}
{{- define "k8sops.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* settings.yaml: the value `settings`, with the MCP servers, and with the values in which references are expanded. */}}
{{- define "k8sops.settings" -}}
{{- $settings := deepCopy .Values.settings }}
{{- $servers := .Values.mcp.servers }}
{{- with .Values.mcp.sidecar }}
{{- if .enabled }}
{{- $own := dict "name" .name "transport" "http" "url" (printf "http://127.0.0.1:%d%s" (int .port) .path) }}
{{- $servers = append $servers $own }}
{{- end }}
{{- end }}
{{- if $servers }}
{{- $_ := set $settings "mcp" (merge (dict "servers" $servers) (get $settings "mcp" | default dict)) }}
{{- end }}
{{- with .Values.audit.log }}{{ $_ := set $settings "audit" (dict "log" .) }}{{ end }}
{{- with .Values.tracing.otlpEndpoint }}
{{- $_ := set $settings "telemetry" (merge (dict "otlp_endpoint" .) (get $settings "telemetry" | default dict)) }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{/* The variables that are not secret, as a dictionary. Managed settings come last, so that they cannot be overridden. */}}
{{- define "k8sops.env" -}}
{{- $env := dict
  "LOG_LEVEL" .Values.log.level
  "LOG_FORMAT" .Values.log.format
}}
{{- with .Values.cors.origins }}{{ $_ := set $env "K8SOPS_CORS_ORIGINS" (join "," .) }}{{ end }}
{{- range $name, $value := .Values.env }}
{{- /* Helm parses whole numbers as floats, and would write large ones as 1e+06. */}}
{{- if kindIs "float64" $value }}
{{- if eq $value (floor $value) }}{{ $value = int64 $value }}{{ end }}
{{- end }}
{{- $_ := set $env $name (toString $value) }}
{{- end }}
{{- $_ := set $env "K8SOPS_CONFIG" "/etc/k8sops/settings.yaml" }}
{{- $_ := set $env "K8SOPS_HOST" "0.0.0.0" }}
{{- $_ := set $env "K8SOPS_PORT" "8080" }}
{{- $_ := set $env "K8SOPS_SHUTDOWN_TIMEOUT" (printf "%ds" (int .Values.shutdownTimeoutSeconds)) }}
{{- $_ := set $env "MEMORY_BACKEND" .Values.store.backend }}
{{- $_ := set $env "MEMORY_FILESYSTEM_PATH" "/data" }}
{{- with .Values.store.redis }}
{{- if eq $.Values.store.backend "redis" }}
{{- with .url }}{{ $_ := set $env "REDIS_URL" . }}{{ end }}
{{- $_ := set $env "REDIS_TOPOLOGY" .topology }}
{{- $_ := set $env "REDIS_PREFIX" (.prefix | default (printf "%s:%s" $.Release.Namespace $.Release.Name | trunc 64)) }}
{{- with .sentinelMaster }}{{ $_ := set $env "REDIS_SENTINEL_MASTER" . }}{{ end }}
{{- if .caSecret }}{{ $_ := set $env "REDIS_CA_FILE" "/etc/k8sops-redis/ca.crt" }}{{ end }}
{{- end }}
{{- end }}
{{- with .Values.auth }}
{{- $_ := set $env "AUTH_MODE" .mode }}
{{- $_ := set $env "AUTH_METRICS" .metrics }}
{{- if eq .mode "none" }}{{ $_ := set $env "AUTH_ALLOW_INSECURE" "true" }}{{ end }}
{{- if eq .mode "api_key" }}{{ $_ := set $env "AUTH_API_KEYS_FILE" (printf "/etc/k8sops-auth/%s" .apiKeys.key) }}{{ end }}
{{- if eq .mode "jwt" }}{{ $_ := set $env "AUTH_JWT_ISSUER" .jwt.issuer }}{{ $_ := set $env "AUTH_JWT_AUDIENCE" .jwt.audience }}{{ end }}
{{- if eq .mode "proxy" }}
{{- $_ := set $env "AUTH_PROXY_USER_HEADER" .proxy.userHeader }}
{{- $_ := set $env "AUTH_PROXY_SOURCES" (join "," .proxy.sources) }}
{{- end }}
{{- end }}
{{- toYaml $env }}
{{- end }}

{{/* The Secret with the file of hashed keys. */}}
{{- define "k8sops.apiKeysSecret" -}}
{{ .Values.auth.apiKeys.existingSecret | default (printf "%s-generated-key" (include "k8sops.fullname" .)) }}
{{- end }}
