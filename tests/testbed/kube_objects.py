"""Reads Kubernetes manifests (YAML documents) and writes their objects as a JSON array, if an API server would take them.

    kube_objects.py VERSION... < manifests.yaml

Objects of Kubernetes are held against the strict schemas of each VERSION (1.30, ...): a field that is none is refused.
Objects of others (HTTPRoute, ServiceMonitor) are written with the rest; kube_models.mjs looks at those.
"""

import json
import sys

import kubernetes_validate
import yaml

objects = [o for o in yaml.safe_load_all(sys.stdin) if o]
faults = []
for o in objects:
    where = f"{o['kind']}/{o['metadata']['name']}"
    if o["apiVersion"].split("/")[0] in ("gateway.networking.k8s.io", "monitoring.coreos.com"):
        continue
    for version in sys.argv[1:]:
        try:
            kubernetes_validate.validate(o, version, strict=True)
        except kubernetes_validate.ValidationError as fault:
            faults.append(f"{where} ({version}): {'.'.join(map(str, fault.path))}: {fault.message}")
        except kubernetes_validate.SchemaNotFoundError as fault:
            faults.append(f"{where}: {fault.message}")
names = [(o["apiVersion"], o["kind"], o["metadata"]["name"]) for o in objects]
faults += [f"{name} is there twice" for name in set(names) if names.count(name) > 1]
if faults:
    sys.exit("\n".join(faults))
json.dump(objects, sys.stdout)
