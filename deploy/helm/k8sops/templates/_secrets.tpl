{{/* A secret in a value stands for everybody to read in a ConfigMap, in the Deployment, and in the release. */}}

{{/*
Names of secrets, as expressions without regard to case. Of a header and of a URL's parameter: a word of it, or its last word where
others say less (`X-Auth-Mode`). Of a variable and of an option: how it ends.
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

{{/* Of a text: \x01 in place of each ${NAME} and $(NAME) that has nothing to fall back on. $${NAME} is no reference. */}}
{{- define "k8sops.marked" -}}
{{- regexReplaceAll "\\$(\\{[A-Za-z_][A-Za-z0-9_.]*(:-)?\\}|\\([A-Za-z_][A-Za-z0-9_.-]*\\))" (replace "$$" "" .) "\x01" }}
{{- end }}

{{/* `true` if a value is no secret, whatever its name: nothing, yes or no, or the path of a file. */}}
{{- define "k8sops.harmless" -}}
{{- or (has . (list nil "")) (regexMatch "^((/[A-Za-z0-9._@-]+)+|true|false)$" (toString .)) }}
{{- end }}

{{/* Entries with the name of a secret must refer to one. */}}
{{- define "k8sops.refuseLiterals" -}}
{{- range $name, $value := .entries | default dict }}
{{- $literal := not (regexMatch "(^|[^$])\\$\\{[A-Za-z_][A-Za-z0-9_.]*(:-)?\\}" (toString $value)) }}
{{- if and (regexMatch (printf "(?i)^(%s)$" $.names) $name) $literal (ne (include "k8sops.harmless" $value) "true") }}
{{- fail (printf "%s.%s is a secret that all who read the ConfigMap see: put it into a Secret, take it from there in extraEnv, and refer to it with ${NAME}" $.where $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Userinfo whose password is no reference, and a parameter with the name of a secret. A user without a password is a token where the
scheme is http(s), and not where it is ssh.
*/}}
{{- define "k8sops.refuseUrl" -}}
{{- $users := "https?://[^/?#:\\s\\x01]+:?@|://[^/?#:\\s]*:[^/?#\\s\\x01]+@" }}
{{- $parameter := printf "[?&](%s)=[^&#\\s\\x01]+([&#\\s]|$)" (include "k8sops.secretNames" .) }}
{{- if regexMatch (printf "(?i)%s|%s" $users $parameter) (include "k8sops.marked" (toString .url)) }}
{{- fail (printf "%s has a secret in it that all who read the %s see: %s" .where (.in | default "ConfigMap") .instead) }}
{{- end }}
{{- end }}

{{/* Words of a command line: URLs, `--token x`, `--token=x`, `TOKEN=x` and `Authorization: x`. */}}
{{- define "k8sops.refuseWords" -}}
{{- $text := join "\n" .words }}
{{- include "k8sops.refuseUrl" (dict "url" $text "where" .where "in" .in "instead" .instead) }}
{{- /* What a shell puts in. */}}
{{- $text = regexReplaceAll "(^|[\\s='\"])\\$[A-Z_][A-Z0-9_]*" (include "k8sops.marked" $text) "${1}\x01" }}
{{- $names := include "k8sops.secretVariables" . }}
{{- $assigned := "[a-z0-9_.-]*(token|secret|password|passwd|passphrase|[_-]key|apikey)=" }}
{{- $value := "['\"]?[^-/\\s'\"\\x01][^\\s\\x01]*(\\s|$)" }}
{{- $option := printf "(^|[\\s='\"])(--?%s(=|\\s+)|%s)%s" $names $assigned $value }}
{{- $named := "((proxy-)?authorization|cookie|(x-)?[a-z0-9-]*-(token|key|secret|auth|password))" }}
{{- $header := printf "(^|[\\s='\"])%s: *[^\\s/\\x01][^\\n\\x01]*(\\n|$)" $named }}
{{- if regexMatch (printf "(?i)%s|%s" $option $header) $text }}
{{- fail (printf "%s has a secret in it that all who read the %s see: %s" .where (.in | default "ConfigMap") .instead) }}
{{- end }}
{{- end }}

{{- define "k8sops.refuseSecrets" -}}
{{- $v := .Values }}
{{- $headers := include "k8sops.secretNames" . }}
{{- $variables := printf "%s|otel_exporter_otlp_(traces_)?headers" (include "k8sops.secretVariables" .) }}
{{- $refer := "put it into a Secret, take it from there in extraEnv, and refer to it with ${NAME}" }}
{{- range $v.mcp.servers }}
{{- $where := printf "mcp.servers: %s: " .name }}
{{- include "k8sops.refuseLiterals" (dict "entries" .headers "names" $headers "where" (print $where "headers")) }}
{{- include "k8sops.refuseLiterals" (dict "entries" .env "names" $variables "where" (print $where "env")) }}
{{- range $name, $value := .env | default dict }}
{{- include "k8sops.refuseUrl" (dict "url" $value "where" (print $where "env." $name) "instead" $refer) }}
{{- end }}
{{- include "k8sops.refuseUrl" (dict "url" .url "where" (print $where "url") "instead" $refer) }}
{{- include "k8sops.refuseWords" (dict "words" (list .command) "where" (print $where "command") "instead" $refer) }}
{{- include "k8sops.refuseWords" (dict "words" .args "where" (print $where "args") "instead" $refer) }}
{{- end }}
{{- range $id, $provider := $v.settings.providers | default dict }}
{{- $where := printf "settings.providers.%s" $id }}
{{- with $provider }}
{{- $key := toString (.api_key | default "") }}
{{- if and $key (not (regexMatch "^\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-)?\\}$" $key)) }}
{{- fail (printf "%s.api_key is a secret in a ConfigMap: put it into the Secret of providers.existingSecret" $where) }}
{{- end }}
{{- include "k8sops.refuseLiterals" (dict "entries" .headers "names" $headers "where" (print $where ".headers")) }}
{{- include "k8sops.refuseUrl" (dict "url" .base_url "where" (print $where ".base_url") "instead" $refer) }}
{{- end }}
{{- end }}
{{- $telemetry := pick ($v.settings.telemetry | default dict) "otlp_headers" }}
{{- include "k8sops.refuseLiterals" (dict "entries" $telemetry "names" ".*" "where" "settings.telemetry") }}
{{- include "k8sops.refuseUrl" (dict "url" $v.tracing.otlpEndpoint "where" "tracing.otlpEndpoint" "instead" $refer) }}
{{- $instead := "name a Secret that holds the URL in store.redis.existingSecret" }}
{{- if contains "@" $v.store.redis.url }}
{{- fail (printf "store.redis.url has a user or a secret in it, and not even ${NAME} is put in there: %s" $instead) }}
{{- end }}
{{- include "k8sops.refuseUrl" (dict "url" $v.store.redis.url "where" "store.redis.url" "instead" $instead) }}
{{- $instead := "put it into a Secret, and take it from there in extraEnv" }}
{{- $listed := "list the server in mcp.servers, where ${NAME} refers to a variable that extraEnv takes from a Secret" }}
{{- range $name, $value := $v.env }}
{{- if and (regexMatch (printf "(?i)^(%s)$" $variables) $name) (ne (include "k8sops.harmless" $value) "true") }}
{{- fail (printf "env.%s looks like a secret in a ConfigMap: put it into a Secret and name that in providers.existingSecret or extraEnv" $name) }}
{{- end }}
{{- include "k8sops.refuseUrl" (dict "url" $value "where" (print "env." $name) "instead" $instead) }}
{{- if eq $name "MCP_SERVER_ARGS" }}
{{- $words := regexReplaceAll "[][\",]+" (toString $value) "\n" | list }}
{{- include "k8sops.refuseWords" (dict "words" $words "where" (print "env." $name) "instead" $listed) }}
{{- end }}
{{- end }}
{{- $instead := "take it from a Secret with valueFrom, as a whole, or as a variable that $(NAME) refers to" }}
{{- range $where, $list := dict "extraEnv" $v.extraEnv "mcp.sidecar.env" $v.mcp.sidecar.env }}
{{- range $list }}
{{- $literal := not (regexMatch "\\$\\([A-Za-z_]" (toString .value)) }}
{{- if and (regexMatch (printf "(?i)^(%s)$" $variables) .name) $literal (ne (include "k8sops.harmless" .value) "true") }}
{{- fail (printf "%s: %s looks like a secret, and its value stands in the Deployment: take it from a Secret with valueFrom" $where .name) }}
{{- end }}
{{- $entry := printf "%s: %s" $where .name }}
{{- include "k8sops.refuseUrl" (dict "url" .value "where" $entry "in" "Deployment" "instead" $instead) }}
{{- if and (eq $where "extraEnv") (eq .name "MCP_SERVER_ARGS") }}
{{- $words := regexReplaceAll "[][\",]+" (toString .value) "\n" | list }}
{{- include "k8sops.refuseWords" (dict "words" $words "where" $entry "in" "Deployment" "instead" $listed) }}
{{- end }}
{{- end }}
{{- end }}
{{- $instead := "take it from a Secret in mcp.sidecar.env, and refer to it with $(NAME)" }}
{{- range $name := list "command" "args" }}
{{- $words := get $v.mcp.sidecar $name }}
{{- include "k8sops.refuseWords" (dict "words" $words "where" (print "mcp.sidecar." $name) "in" "Deployment" "instead" $instead) }}
{{- end }}
{{- end }}
