#!/usr/bin/env python3
"""Compares the table "Map" of ARCHITECTURE.md with the code.

    python3 docs/check_map.py

The column "Uses" of a crate must list the k8sops crates in its [dependencies], and that of a module of src/ the crates and
modules that it names outside of its tests. The modules of src/ must not form a cycle.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| `((?:crates/k8sops-|src/)([\w-]+))` \|.*\| ([^|]*) \|$")


def documented():
    """The parts of the table, each with what it uses."""
    rows = {}
    for line in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines():
        found = ROW.match(line.replace("| |", "|  |"))
        if found:
            rows[found.group(1)] = set(found.group(3).replace(",", " ").split())
    return rows


def uses_of_crate(folder):
    manifest = tomllib.loads((folder / "Cargo.toml").read_text(encoding="utf-8"))
    return {name.removeprefix("k8sops-") for name in manifest.get("dependencies", {}) if name.startswith("k8sops-")}


def first_names(group):
    """The first path segments of the items in a `use` group."""
    depth, item = 0, ""
    for char in group + ",":
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            yield item.strip().split("::")[0]
            item = ""
        else:
            item += char


def uses_of_module(name, modules):
    files = [file for file in (ROOT / "src").rglob("*.rs") if file.relative_to(ROOT / "src").parts[0].removesuffix(".rs") == name]
    used = set()
    for file in files:
        if file.name == "tests.rs" or "tests" in file.parts:
            continue
        code = re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", file.read_text(encoding="utf-8"))[0]
        code = re.sub(r"//.*", "", code)
        used.update(re.findall(r"\bcrate::(\w+)", code))
        for group in re.findall(r"\bcrate::\{(.*?)\};", code, re.DOTALL):
            used.update(first_names(group))
        used.update(f"crate {crate}" for crate in re.findall(r"\bk8sops_(\w+)::", code))
    crates = {entry.removeprefix("crate ") for entry in used if entry.startswith("crate ")}
    return crates | (used & modules - {name})


def cycle_in(graph):
    done, open_ = set(), []

    def visit(node):
        if node in open_:
            return open_[open_.index(node):] + [node]
        if node in done:
            return None
        open_.append(node)
        for other in sorted(graph.get(node, ())):
            found = visit(other)
            if found:
                return found
        open_.pop()
        done.add(node)
        return None

    return next(filter(None, map(visit, sorted(graph))), None)


def main():
    rows = documented()
    crates = {f"crates/{folder.name}": uses_of_crate(folder) for folder in sorted((ROOT / "crates").iterdir())}
    modules = {file.name.removesuffix(".rs") for file in (ROOT / "src").iterdir()} - {"main", "lib"}
    sources = {f"src/{name}": uses_of_module(name, modules) for name in sorted(modules)}
    problems = []
    for part, uses in (crates | sources).items():
        if part not in rows:
            problems.append(f"{part} is not in the table")
        elif rows[part] != uses:
            problems.append(f"{part} uses {', '.join(sorted(uses)) or 'nothing'}; the table says {', '.join(sorted(rows[part])) or 'nothing'}")
    problems += [f"{part} is in the table and does not exist" for part in rows if part not in crates | sources]
    cycle = cycle_in({part.removeprefix("src/"): uses & modules for part, uses in sources.items()})
    if cycle:
        problems.append(f"modules form a cycle: {' → '.join(cycle)}")
    for problem in problems:
        print(f"ARCHITECTURE.md: {problem}")
    print(f"{len(crates)} crates and {len(sources)} modules, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
