{{/* A secret in a value would be readable in a ConfigMap, in the Deployment, and in the release. */}}

{{/*
Regular expressions for the names of secrets; matching ignores case. The name of a header or of a URL parameter matches by any of
its words, or by its last word if the word is ambiguous elsewhere (`X-Auth-Mode`). The name of a variable or of an option matches
by its ending.
*/}}
{{- define "k8sops.secretNames" -}}
{{- $key := "(access|account|api|app|auth|client|encryption|master|private|secret|shared|signing|subscription)?key" }}
{{- $word := printf "([a-z0-9]*(token|secret|password|passwd|passphrase)|%s|authorization)" $key }}
{{- $last := "(auth|cookie|credentials?|jwt|pass|pwd|sig|signature)" -}}
([^=&#:\s]*[-_.])?({{ $word }}([-_.][^=&#:\s]*)?|{{ $last }})
{{- end }}
{{- define "k8sops.secretVariables" -}}
([a-z0-9_.-]*(token|key|secret|password|passwd|passphrase)|([a-z0-9_.-]*[_.-])?(pass|pwd|credentials))
{{- end }}

{{/* Replaces each reference ${NAME} and $(NAME) without a default value by \x01. $${NAME} is not a reference. */}}
{{- define "k8sops.markReferences" -}}
{{- regexReplaceAll "\\$(\\{[A-Za-z_][A-Za-z0-9_.]*(:-)?\\}|\\([A-Za-z_][A-Za-z0-9_.-]*\\))" (replace "$$" "" .) "\x01" }}
{{- end }}

{{/* Returns `true` if a value is not a secret in any case: it is empty, a boolean, or the path of a file. */}}
{{- define "k8sops.isNotSecret" -}}
{{- or (has . (list nil "")) (regexMatch "^((/[A-Za-z0-9._@-]+)+|true|false)$" (toString .)) }}
{{- end }}

{{/* Fails if an entry with the name of a secret holds a literal value. */}}
{{- define "k8sops.rejectLiteralSecrets" -}}
{{- range $name, $value := .entries | default dict }}
{{- $literal := not (regexMatch "(^|[^$])\\$\\{[A-Za-z_][A-Za-z0-9_.]*(:-)?\\}" (toString $value)) }}
{{- if and (regexMatch (printf "(?i)^(%s)$" $.names) $name) $literal (ne (include "k8sops.isNotSecret" $value) "true") }}
{{- fail (printf "%s.%s is a secret that would be readable in a ConfigMap: put it into a Secret, load it in extraEnv, and refer to it with ${NAME}" $.where $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Fails if a URL has a literal password, or a literal parameter with the name of a secret. A user without a password is taken for a
token if the scheme is http(s), but not if it is ssh.
*/}}
{{- define "k8sops.rejectSecretsInUrl" -}}
{{- $users := "https?://[^/?#:\\s\\x01]+:?@|://[^/?#:\\s]*:[^/?#\\s\\x01]+@" }}
{{- $parameter := printf "[?&](%s)=[^&#\\s\\x01]+([&#\\s]|$)" (include "k8sops.secretNames" .) }}
{{- if regexMatch (printf "(?i)%s|%s" $users $parameter) (include "k8sops.markReferences" (toString .url)) }}
{{- fail (printf "%s has a secret in it that would be readable in the %s: %s" .where (.in | default "ConfigMap") .instead) }}
{{- end }}
{{- end }}

{{/* Fails if a command line has a literal secret: in a URL, or as `--token x`, `--token=x`, `TOKEN=x` or `Authorization: x`. */}}
{{- define "k8sops.rejectSecretsInCommand" -}}
{{- $text := join "\n" .words }}
{{- include "k8sops.rejectSecretsInUrl" (dict "url" $text "where" .where "in" .in "instead" .instead) }}
{{- /* References that a shell expands. */}}
{{- $text = regexReplaceAll "(^|[\\s='\"])\\$[A-Z_][A-Z0-9_]*" (include "k8sops.markReferences" $text) "${1}\x01" }}
{{- $names := include "k8sops.secretVariables" . }}
{{- $assigned := "[a-z0-9_.-]*(token|secret|password|passwd|passphrase|[_-]key|apikey)=" }}
{{- $value := "['\"]?[^-/\\s'\"\\x01][^\\s\\x01]*(\\s|$)" }}
{{- $option := printf "(^|[\\s='\"])(--?%s(=|\\s+)|%s)%s" $names $assigned $value }}
{{- $named := "((proxy-)?authorization|cookie|(x-)?[a-z0-9-]*-(token|key|secret|auth|password))" }}
{{- $header := printf "(^|[\\s='\"])%s: *[^\\s/\\x01][^\\n\\x01]*(\\n|$)" $named }}
{{- if regexMatch (printf "(?i)%s|%s" $option $header) $text }}
{{- fail (printf "%s has a secret in it that would be readable in the %s: %s" .where (.in | default "ConfigMap") .instead) }}
{{- end }}
{{- end }}

{{- define "k8sops.rejectSecrets" -}}
{{- $v := .Values }}
{{- $headers := include "k8sops.secretNames" . }}
{{- $variables := printf "%s|otel_exporter_otlp_(traces_)?headers" (include "k8sops.secretVariables" .) }}
{{- $refer := "put it into a Secret, load it in extraEnv, and refer to it with ${NAME}" }}
{{- range $v.mcp.servers }}
{{- $where := printf "mcp.servers: %s: " .name }}
{{- include "k8sops.rejectLiteralSecrets" (dict "entries" .headers "names" $headers "where" (print $where "headers")) }}
{{- include "k8sops.rejectLiteralSecrets" (dict "entries" .env "names" $variables "where" (print $where "env")) }}
{{- range $name, $value := .env | default dict }}
{{- include "k8sops.rejectSecretsInUrl" (dict "url" $value "where" (print $where "env." $name) "instead" $refer) }}
{{- end }}
{{- include "k8sops.rejectSecretsInUrl" (dict "url" .url "where" (print $where "url") "instead" $refer) }}
{{- include "k8sops.rejectSecretsInCommand" (dict "words" (list .command) "where" (print $where "command") "instead" $refer) }}
{{- include "k8sops.rejectSecretsInCommand" (dict "words" .args "where" (print $where "args") "instead" $refer) }}
{{- end }}
{{- range $id, $provider := $v.settings.providers | default dict }}
{{- $where := printf "settings.providers.%s" $id }}
{{- with $provider }}
{{- $key := toString (.api_key | default "") }}
{{- if and $key (not (regexMatch "^\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-)?\\}$" $key)) }}
{{- fail (printf "%s.api_key is a secret that would be readable in a ConfigMap: put it into the Secret of providers.existingSecret" $where) }}
{{- end }}
{{- include "k8sops.rejectLiteralSecrets" (dict "entries" .headers "names" $headers "where" (print $where ".headers")) }}
{{- include "k8sops.rejectSecretsInUrl" (dict "url" .base_url "where" (print $where ".base_url") "instead" $refer) }}
{{- end }}
{{- end }}
{{- $telemetry := pick ($v.settings.telemetry | default dict) "otlp_headers" }}
{{- include "k8sops.rejectLiteralSecrets" (dict "entries" $telemetry "names" ".*" "where" "settings.telemetry") }}
{{- include "k8sops.rejectSecretsInUrl" (dict "url" $v.tracing.otlpEndpoint "where" "tracing.otlpEndpoint" "instead" $refer) }}
{{- $instead := "name a Secret that holds the URL in store.redis.existingSecret" }}
{{- if contains "@" $v.store.redis.url }}
{{- fail (printf "store.redis.url has a user or a secret in it, and ${NAME} is not expanded there: %s" $instead) }}
{{- end }}
{{- include "k8sops.rejectSecretsInUrl" (dict "url" $v.store.redis.url "where" "store.redis.url" "instead" $instead) }}
{{- $instead := "put it into a Secret, and load it in extraEnv" }}
{{- $listed := "list the server in mcp.servers, where ${NAME} refers to a variable that extraEnv loads from a Secret" }}
{{- range $name, $value := $v.env }}
{{- if and (regexMatch (printf "(?i)^(%s)$" $variables) $name) (ne (include "k8sops.isNotSecret" $value) "true") }}
{{- fail (printf "env.%s looks like a secret in a ConfigMap: put it into a Secret, and name the Secret in providers.existingSecret or extraEnv" $name) }}
{{- end }}
{{- include "k8sops.rejectSecretsInUrl" (dict "url" $value "where" (print "env." $name) "instead" $instead) }}
{{- if eq $name "MCP_SERVER_ARGS" }}
{{- $words := regexReplaceAll "[][\",]+" (toString $value) "\n" | list }}
{{- include "k8sops.rejectSecretsInCommand" (dict "words" $words "where" (print "env." $name) "instead" $listed) }}
{{- end }}
{{- end }}
{{- $instead := "load it from a Secret with valueFrom, as a whole or as a variable that $(NAME) refers to" }}
{{- range $where, $list := dict "extraEnv" $v.extraEnv "mcp.sidecar.env" $v.mcp.sidecar.env }}
{{- range $list }}
{{- $literal := not (regexMatch "\\$\\([A-Za-z_]" (toString .value)) }}
{{- if and (regexMatch (printf "(?i)^(%s)$" $variables) .name) $literal (ne (include "k8sops.isNotSecret" .value) "true") }}
{{- fail (printf "%s: %s looks like a secret, and its value would be readable in the Deployment: load it from a Secret with valueFrom" $where .name) }}
{{- end }}
{{- $entry := printf "%s: %s" $where .name }}
{{- include "k8sops.rejectSecretsInUrl" (dict "url" .value "where" $entry "in" "Deployment" "instead" $instead) }}
{{- if and (eq $where "extraEnv") (eq .name "MCP_SERVER_ARGS") }}
{{- $words := regexReplaceAll "[][\",]+" (toString .value) "\n" | list }}
{{- include "k8sops.rejectSecretsInCommand" (dict "words" $words "where" $entry "in" "Deployment" "instead" $listed) }}
{{- end }}
{{- end }}
{{- end }}
{{- $instead := "load it from a Secret in mcp.sidecar.env, and refer to it with $(NAME)" }}
{{- range $name := list "command" "args" }}
{{- $words := get $v.mcp.sidecar $name }}
{{- include "k8sops.rejectSecretsInCommand" (dict "words" $words "where" (print "mcp.sidecar." $name) "in" "Deployment" "instead" $instead) }}
{{- end }}
{{- end }}
