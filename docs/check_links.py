#!/usr/bin/env python3
"""Checks the links in all Markdown files of the repository. Uses no network.

    python3 docs/check_links.py [ROOT]

Reports, with file and line:
- links to files or headings that do not exist
- links that leave the book (docs/src), because they are broken in the built book
- pages of the book that SUMMARY.md does not list
- names of files of the repository in code style (`deploy/nginx/k8sops.conf`) that do not exist
"""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

# What a repository path in code style begins with.
FOLDERS = [
    ".ci", "benches", "config", "console", "crates", "deploy", "docs", "examples", "fuzz", "openapi", "src", "tests",
]
# Files that describe the past, and may name what no longer exists.
HISTORY = ("CHANGELOG.md",)

FENCE = re.compile(r"^\s*(```+|~~~+)")
CODE = re.compile(r"(`+)(.+?)\1")
INLINE = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\s{0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)")
HTML = re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)=\"([^\"]+)\"")
ANCHOR = re.compile(r"<(?:a|\w+)\b[^>]*?\b(?:id|name)=\"([^\"]+)\"")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")
PATH = re.compile(rf"^(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./@-]*$")


def markdown_files(root):
    """All Markdown files that are tracked by Git or would be."""
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "*.md"],
        check=True, capture_output=True, text=True,
    ).stdout
    return sorted({root / name for name in listed.split("\0") if name and (root / name).is_file()})


def lines_of(path):
    """The lines outside of code blocks, with their numbers."""
    fence = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark = FENCE.match(line)
        if fence:
            if mark and mark.group(1).startswith(fence):
                fence = None
        elif mark:
            fence = mark.group(1)
        else:
            yield number, line


def slug(heading):
    """The id that both mdBook and GitHub give a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"[`*]|<[^>]+>", "", text).strip().lower()
    return "".join("-" if c.isspace() else c for c in text if c.isalnum() or c in "_-" or c.isspace())


@functools.cache
def anchors_of(path):
    """The ids in a file that a link may name."""
    found = {}
    ids = set()
    for _, line in lines_of(path):
        ids.update(ANCHOR.findall(line))
        heading = HEADING.match(line)
        if heading:
            name = slug(heading.group(1))
            count = found.get(name, 0)
            found[name] = count + 1
            ids.add(f"{name}-{count}" if count else name)
    return ids


def problems_of(path, root, book):
    """The problems of one file, each with its line."""
    in_book = book in path.parents
    for number, line in lines_of(path):
        text = CODE.sub(lambda found: " " * len(found.group(0)), line)
        reference = REFERENCE.match(text)
        targets = INLINE.findall(text) + HTML.findall(text)
        targets += [reference.group(1)] if reference else []
        for target in targets:
            if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
                continue
            file, _, anchor = unquote(target).partition("#")
            there = Path(os.path.normpath(path.parent / file)) if file else path
            if not there.exists() or root not in [there, *there.parents]:
                yield number, f"broken link: {target}"
            elif in_book and book not in [there, *there.parents]:
                yield number, f"link leaves the book, name the file in code style instead: {target}"
            elif anchor and there.suffix == ".md" and anchor not in anchors_of(there):
                yield number, f"no such heading: {target}"
        if path.name not in HISTORY:
            for _, code in CODE.findall(line):
                name = code.strip()
                if PATH.match(name) and ".." not in name and not (root / name).exists():
                    yield number, f"no such file: {name}"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    book = root / "docs/src"
    files = markdown_files(root)
    failures = 0
    for path in files:
        for number, problem in problems_of(path, root, book):
            failures += 1
            print(f"{path.relative_to(root)}:{number}: {problem}")
    summary = " ".join(line for _, line in lines_of(book / "SUMMARY.md"))
    listed = {os.path.normpath(book / target) for target in INLINE.findall(summary)}
    for path in files:
        if book in path.parents and path.name != "SUMMARY.md" and str(path) not in listed:
            failures += 1
            print(f"{path.relative_to(root)}: not listed in docs/src/SUMMARY.md")
    print(f"{len(files)} Markdown files, {failures} problems")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
