{{- define "ridgeline.name" -}}
{{- $name := .Release.Name }}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end }}
{{- $name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "ridgeline.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ridgeline.labels" -}}
{{ include "ridgeline.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "ridgeline.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What would start and not work, or not be safe. */}}
{{- define "ridgeline.check" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.database.existingSecret) }}
{{- fail "replicas: more than one need database.existingSecret, or each would have keys and budgets of its own" }}
{{- end }}
{{- if and (gt (int .Values.replicas) 1) .Values.batches.enabled (not .Values.files.existingClaim) }}
{{- fail "replicas: more than one need files.existingClaim, a volume that all can write, or batches.enabled=false: a file that one pod has received would be missing at the others" }}
{{- end }}
{{- $ways := 0 }}
{{- if .Values.tls.existingSecret }}{{ $ways = add1 $ways }}{{ end }}
{{- if .Values.trustedProxies }}{{ $ways = add1 $ways }}{{ end }}
{{- if .Values.insecureHttp }}{{ $ways = add1 $ways }}{{ end }}
{{- if ne (int $ways) 1 }}
{{- fail "say how keys travel: exactly one of tls.existingSecret, trustedProxies and insecureHttp" }}
{{- end }}
{{- range $key := list "models" "host" "port" "trusted_proxy" "insecure_http" "tls_cert" "tls_key" "drain_s" "database" "no_auth" "files_dir" "batch_lines" }}
{{- if hasKey $.Values.config $key }}
{{- fail (printf "config.%s: the chart sets this itself; see its other values" $key) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ridgeline.environment" -}}
- name: RIDGE_HOME
  value: /var/lib/ridge
{{- with .Values.database.existingSecret }}
- name: RIDGE_DATABASE
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.database.key }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ridgeline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* From within the pod, as behind proxies nobody else is spoken to. */}}
{{- define "ridgeline.probe" -}}
exec:
  command: [ridge, ps, --check, --quiet]
timeoutSeconds: 5
{{- end }}
