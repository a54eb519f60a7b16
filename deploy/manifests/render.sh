#!/usr/bin/env bash
# Writes the plain manifests anew from the chart, one for each file of values; for those who do not use Helm.
#
#   bash deploy/manifests/render.sh [FOLDER]      HELM names the helm to use
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
to=${1:-$here}
for values in "$here"/values/*.yaml; do
  name=$(basename "$values" .yaml)
  {
    echo "# Written by render.sh from the chart (deploy/helm/k8sops) and values/$name.yaml: change those."
    echo "#"
    sed -n '/^#/p; /^[^#]/q' "$values"
    # What only says that Helm had installed it.
    "${HELM:-helm}" template k8sops "$here/../helm/k8sops" --namespace k8sops --values "$values" \
      | sed '/^# Source: /d; /^ *app.kubernetes.io\/managed-by: /d; /^ *helm.sh\/chart: /d'
  } > "$to/$name.yaml"
done
