{{- define "kernspan.name" -}}
{{- if contains "kernspan" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-kernspan" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "kernspan.selector" -}}
app.kubernetes.io/name: kernspan
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "kernspan.labels" -}}
{{ include "kernspan.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "kernspan.account" -}}
{{- .Values.serviceAccount.name | default (ternary (include "kernspan.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "kernspan.priority" -}}
{{- .Values.priorityClass.name | default (ternary (include "kernspan.name" .) "" .Values.priorityClass.create) }}
{{- end }}
