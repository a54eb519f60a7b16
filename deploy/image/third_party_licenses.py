#!/usr/bin/env python3
"""third_party_licenses.py [TARGET]: prints the licenses of everything that is compiled into the program.

Reads the dependencies of the `k8sops` binary from `cargo metadata` and their license texts from the sources that cargo
has downloaded. Equal texts are printed once, with the names of all crates that they belong to. Needs only Python.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys

FILES = re.compile(r"^(licen[cs]e|copying|notice|copyright|unlicense)", re.I)

# For crates that declare this license and ship no text of it.
MIT = """MIT License

Copyright (c) {authors}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def dependencies(target):
    """Returns the packages that the program is linked from, without those that only build or test it."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    reached, pending = set(), [metadata["resolve"]["root"]]
    while pending:
        node = pending.pop()
        if node in reached:
            continue
        reached.add(node)
        for dependency in nodes[node]["deps"]:
            is_linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            is_macro = any("proc-macro" in t["kind"] for t in packages[dependency["pkg"]]["targets"])
            if is_linked and not is_macro:
                pending.append(dependency["pkg"])
    return sorted((packages[i] for i in reached if packages[i]["source"]), key=lambda p: (p["name"], p["version"]))


def texts(package):
    """Returns the license texts of a package: its own files, or the standard text of what it declares."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(file for file in folder.iterdir() if file.is_file() and FILES.match(file.name))
    found = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    if found:
        return found
    declared = package["license"] or ""
    if "Apache-2.0" in declared:
        return [(pathlib.Path(__file__).resolve().parents[2] / "LICENSE").read_text(encoding="utf-8")]
    if "MIT" in declared:
        authors = ", ".join(re.sub(r"\s*<.*?>", "", author) for author in package["authors"])
        return [MIT.format(authors=authors or f"the authors of {package['name']}")]
    sys.exit(f"{package['name']} {package['version']} ({declared}) has no license text; add it to {__file__}")


def main():
    host = re.search(
        r"host: (\S+)", subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    )
    packages = dependencies(sys.argv[1] if len(sys.argv) > 1 else host.group(1))
    owners, originals = collections.defaultdict(list), {}
    for package in packages:
        for text in texts(package):
            key = re.sub(r"\s+", " ", text).strip()
            originals.setdefault(key, text.strip())
            owners[key].append(f"{package['name']} {package['version']}")

    print(
        "k8sops is licensed under the Apache License 2.0. It is linked from the packages below, with their licenses.\n"
    )
    for package in packages:
        source = package["repository"] or f"https://crates.io/crates/{package['name']}"
        print(f"{package['name']} {package['version']}: {package['license']} ({source})")
    print("\nThe console, the page that it serves, contains libraries, too; their licenses are at the end.")
    for key, names in sorted(owners.items(), key=lambda item: (-len(item[1]), item[1])):
        print(f"\n{'=' * 120}\n{', '.join(dict.fromkeys(names))}\n{'=' * 120}\n\n{originals[key]}")
    console = pathlib.Path(__file__).resolve().parents[2] / "console/vendor/licenses.txt"
    print(f"\n{'=' * 120}\nThe console\n{'=' * 120}\n\n{console.read_text(encoding='utf-8').strip()}")


if __name__ == "__main__":
    main()
