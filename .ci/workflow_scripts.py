"""workflow_scripts.py WORKFLOW: prints the scripts of a workflow's steps, each as a function of its own."""

import re
import sys

lines = open(sys.argv[1], encoding="utf-8").read().splitlines()
at = number = 0
print("set -euo pipefail")
while at < len(lines):
    found = re.match(r"^(\s*)(?:- )?run: (.*)$", lines[at])
    at += 1
    if not found:
        continue
    script = [found.group(2)]
    if found.group(2) in {"|", ">"}:
        script = []
        while at < len(lines) and (not lines[at].strip() or lines[at].startswith(found.group(1) + " ")):
            script.append(lines[at])
            at += 1
    number += 1
    text = "\n".join(re.sub(r"\$\{\{.*?\}\}", "word", line) for line in script)
    print(f"step_{number}() {{\n{text}\n}}\nstep_{number}")
