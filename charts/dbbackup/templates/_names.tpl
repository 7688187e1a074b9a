{{/* One name for all objects of a release: dbbackup, or RELEASE-dbbackup. */}}
{{- define "dbbackup.name" -}}
{{- if .Values.nameOverride -}}
{{- .Values.nameOverride -}}
{{- else if contains "dbbackup" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-dbbackup" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "dbbackup.selector" -}}
app.kubernetes.io/name: dbbackup-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dbbackup.labels" -}}
{{ include "dbbackup.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: dbbackup
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* repository:tag; call with (list $ .Values.images.operator) */}}
{{- define "dbbackup.image" -}}
{{- $top := index . 0 -}}{{- $image := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default $top.Chart.AppVersion }}
{{- end -}}
