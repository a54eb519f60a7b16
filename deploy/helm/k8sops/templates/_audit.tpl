{{/* Of the mount that a file is under: whether its volume `stays` when the pod goes, and whether the pod has it for its `own`. */}}
{{- define "k8sops.mountOf" -}}
{{- $mounts := list (dict "path" "/data" "stays" (eq .root.Values.store.backend "filesystem")) }}
{{- if .root.Values.audit.existingClaim }}
{{- $mounts = append $mounts (dict "path" "/var/log/k8sops" "stays" true) }}
{{- end }}
{{- range $mount := .root.Values.extraVolumeMounts }}
{{- $stays := false }}
{{- range $volume := $.root.Values.extraVolumes }}
{{- if and (eq $volume.name $mount.name) (not $mount.readOnly) }}
{{- /* A volume of no kind is an emptyDir. */}}
{{- $stays = not (empty (omit $volume "name" "emptyDir" "ephemeral" "configMap" "secret" "projected" "downwardAPI")) }}
{{- end }}
{{- end }}
{{- $own := contains "$(" (replace "$$" "" (toString ($mount.subPathExpr | default ""))) }}
{{- $mounts = append $mounts (dict "path" (clean $mount.mountPath) "stays" $stays "own" $own) }}
{{- end }}
{{- $nearest := dict "path" "" }}
{{- range $mounts }}
{{- if and (hasPrefix (printf "%s/" .path) (clean $.file)) (gt (len .path) (len $nearest.path)) }}{{ $nearest = . }}{{ end }}
{{- end }}
{{- toJson $nearest }}
{{- end }}

{{/* A trail that cannot be opened, or goes with its pod, is none. */}}
{{- define "k8sops.refuseAudit" -}}
{{- $file := .Values.audit.log }}
{{- if and .Values.audit.existingClaim (not (hasPrefix "/var/log/k8sops/" $file)) }}
{{- fail "audit.existingClaim is mounted at /var/log/k8sops: name a file in there in audit.log" }}
{{- end }}
{{- if not (has $file (list "" "-")) }}
{{- $mount := include "k8sops.mountOf" (dict "root" . "file" $file) | fromJson }}
{{- if not $mount.stays }}
{{- fail (printf "audit.log: %s is on no volume that can be written and outlives the pod: name a PersistentVolumeClaim in audit.existingClaim (it is mounted at /var/log/k8sops), mount a volume of yours there, or write to standard output with `-`" $file) }}
{{- end }}
{{- /* Which variable tells the pods apart, only who wrote the values knows. */}}
{{- $own := or $mount.own (contains "${" (replace "$${" "" $file)) }}
{{- if and (eq .Values.store.backend "redis") (not $own) }}
{{- fail (printf "audit.log: %s would be opened by several pods, and each needs a file of its own: put ${HOSTNAME} into the name, mount the volume with a subPathExpr, or write to standard output with `-`" $file) }}
{{- end }}
{{- end }}
{{- end }}
