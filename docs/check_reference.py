#!/usr/bin/env python3
"""Checks that the reference pages of the book are complete.

    python3 docs/check_reference.py

- api/endpoints.md names every path of the OpenAPI document
- api/errors.md names every error code
- api/events.md has a row for every event type
- operate/metrics.md has every metric that the code registers, and no other
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The metrics of the Prometheus client's process collector.
PROCESS_METRICS = {
    f"process_{name}"
    for name in (
        "cpu_seconds_total", "max_fds", "open_fds", "resident_memory_bytes", "start_time_seconds", "threads",
        "virtual_memory_bytes",
    )
}
METRIC = re.compile(r"\b(?:k8sops|process)_[a-z0-9_]+")


def page(name):
    return (ROOT / "docs/src" / name).read_text(encoding="utf-8")


def event_types(schemas):
    """The values of `type` in the variants of events."""
    for name, schema in schemas.items():
        if name.startswith(("Event", "Transient")):
            text = json.dumps(schema)
            yield from re.findall(r'"type": \{[^}]*"enum": \["([a-z_]+)"\]', text)


def main():
    document = json.loads((ROOT / "openapi/openapi.json").read_text(encoding="utf-8"))
    schemas = document["components"]["schemas"]
    endpoints, errors, events = page("api/endpoints.md"), page("api/errors.md"), page("api/events.md")

    paths = [re.sub(r"\{(?:session|memory)_id\}", "{id}", path) for path in document["paths"]]
    missing = [f"api/endpoints.md: {path}" for path in paths if path not in endpoints]
    missing += [f"api/errors.md: {code}" for code in schemas["Code"]["enum"] if f"`{code}`" not in errors]
    types = set(event_types(schemas))
    missing += [f"api/events.md: {name}" for name in sorted(types) if f"| `{name}` |" not in events]

    sources = (ROOT / "crates/k8sops-telemetry/src/metrics").rglob("*.rs")
    literals = re.findall(r'"([a-z0-9_]+)"', "\n".join(file.read_text(encoding="utf-8") for file in sources))
    registered = {name for name in literals if METRIC.fullmatch(name)} | PROCESS_METRICS
    documented = {name for row in re.findall(r"(?m)^\| (`[^|]*`) \|", page("operate/metrics.md"))
                  for name in METRIC.findall(row)}
    missing += [f"operate/metrics.md: {name}" for name in sorted(registered - documented)]
    unknown = [f"operate/metrics.md: {name}" for name in sorted(documented - registered)]

    for name in missing:
        print(f"docs/src/{name} is missing")
    for name in unknown:
        print(f"docs/src/{name} does not exist")
    found = f"{len(paths)} paths, {len(schemas['Code']['enum'])} error codes, {len(types)} events, {len(registered)} metrics"
    print(f"{found}: {len(missing) + len(unknown)} problems")
    return 1 if missing or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
