#!/usr/bin/env bash
# Renders the plain manifests from the chart, one for each file of values.
#
#   bash deploy/manifests/render.sh [FOLDER]      HELM is the helm program to use
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
to=${1:-$here}
for values in "$here"/values/*.yaml; do
  name=$(basename "$values" .yaml)
  {
    echo "# Rendered by render.sh from the chart (deploy/helm/k8sops) and values/$name.yaml. Edit those instead."
    echo "#"
    sed -n '/^#/p; /^[^#]/q' "$values"
    # Removes what only says that Helm had installed the object.
    "${HELM:-helm}" template k8sops "$here/../helm/k8sops" --namespace k8sops --values "$values" \
      | sed '/^# Source: /d; /^ *app.kubernetes.io\/managed-by: /d; /^ *helm.sh\/chart: /d'
  } > "$to/$name.yaml"
done
