#!/usr/bin/env python3
"""Checks the include arrows of docs/architecture.md: a module sees only what stands below it."""

import os.path
import pathlib
import re
import sys

RANKS = {"base": 0, "tensor": 1, "hazard": 2, "plan": 2, "graph": 3, "formats": 3,
         "schedule": 4, "device": 5, "backends": 6}
HEADERS = {"base": "api status allocator log fault text", "tensor": "dtype shape view",
           "hazard": "range tracker", "plan": "plan plan_csv plan_report",
           "graph": "graph fusion kernel target", "formats": "gguf safetensors",
           "schedule": "schedule explain plan_file",
           "device": "device storage access pool session arena state shadow residency "
                     "program dlpack check", "backends": "vulkan"}
OWNERS = {header: module for module, headers in HEADERS.items() for header in headers.split()}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
ROOT = pathlib.Path(__file__).resolve().parent.parent


def module_of(path):
    """Returns the module of a file; what may use all of libweir is named by its folder."""
    parts = path.parts
    if parts[:2] == ("include", "weir"):
        return "weir.h" if path.name == "weir.h" else OWNERS.get(path.stem)
    if parts[0] == "src" and parts[1] != "llm":
        return parts[1] if parts[1] in RANKS else None
    return "llm" if parts[1] in ("llm", "weir-llm") else parts[0]


def target_of(path, mark, name):
    """Returns the file of the project that an include names, None for a system header."""
    public = pathlib.Path("include", name)
    if mark == "<":
        return public if name.startswith(("weir/", "weir-llm/")) else None
    inner = pathlib.Path("src", name)
    found = inner if (ROOT / inner).exists() else path.parent / name
    return pathlib.Path(os.path.normpath(found))


def backend_of(path):
    return path.parts[2] if path.parts[1] == "backends" and len(path.parts) > 3 else None


def complaint(path, target):
    """Says what is wrong with an include, None when it follows the arrows."""
    user, used = module_of(path), module_of(target)
    if user is None or used is None or not (ROOT / target).exists():
        return "no such file of a listed module"
    if user == "weir.h" or (user not in RANKS and target.parts[0] == "include"):
        return None if target.parts[1] == "weir" or user != "weir.h" else "not of libweir"
    if user not in RANKS:
        return None if used == user and path.parts[0] != "include" else "only public headers"
    if used != user and RANKS.get(used, len(RANKS)) >= RANKS[user]:
        return f"{used} does not stand below {user}"
    if path.parts[0] == "include" and target.parts[0] != "include":
        return "a public header includes an internal one"
    backend = backend_of(target)
    if backend and backend != backend_of(path) and path.name != "registry.c":
        return "only registry.c names a back end"
    return None


def main():
    files = [file.relative_to(ROOT) for folder in ("include", "src", "cli", "bench", "examples")
             for file in sorted((ROOT / folder).rglob("*.[ch]"))]
    bad = 0
    for path in files:
        if module_of(path) is None:
            print(f"{path}: scripts/check_layers.py does not list it", file=sys.stderr)
            bad += 1
        for mark, name in INCLUDE.findall((ROOT / path).read_text()):
            target = target_of(path, mark, name)
            error = target and complaint(path, target)
            if error:
                print(f"{path}: #include {name}: {error}", file=sys.stderr)
                bad += 1
    print(f"layers: {len(files)} files, {bad} wrong includes")
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main())
