#!/usr/bin/env python3
"""Checks that what docs/coverage.md names exists, and that it names every case of conformance."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def words(pattern, paths):
    """Returns every match of a pattern in the files."""
    return {word for path in paths for word in re.findall(pattern, path.read_text())}


def main():
    """Looks up everything between backticks that is a name of C or of a file."""
    page = (ROOT / "docs/coverage.md").read_text()
    public = words(r"\b(?:weir|WEIR)_\w+", (ROOT / "include").rglob("*.h"))
    tests = sorted((ROOT / "tests").glob("*.c"))
    run = words(r"\(\s*(\w+)\)?[,)]", tests)  # what the tables of the programs, or others, call
    functions = run & words(r"\bstatic void (\w+)\(void\*\* \w+\)", tests)
    cases = words(r"conformance_case\((\w+)\)", tests) - {"test"}

    bad = []
    named = set(re.findall(r"`([^`\n]+)`", page))
    for name in sorted(named):
        if re.fullmatch(r"(?:weir|WEIR)_\w+", name):
            if name not in public:
                bad.append(f"{name} is not in the public headers")
        elif re.fullmatch(r"[\w./]+/[\w./]*", name):
            if not (ROOT / name).exists():
                bad.append(f"{name} does not exist")
        elif re.fullmatch(r"[a-z][a-z0-9]*_\w+", name) and name not in functions:
            bad.append(f"{name} is no test that is run")
    bad += [f"{case} is not named" for case in sorted(cases - named)]
    for line in bad:
        print(f"docs/coverage.md: {line}", file=sys.stderr)
    print(f"coverage: {len(named & functions)} tests, {len(named & public)} public names")
    return 1 if bad or not cases else 0


sys.exit(main())
