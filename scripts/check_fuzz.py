#!/usr/bin/env python3
"""Checks that fuzz targets call every public function that reads foreign bytes, and the internal
ones that it lists.

Such functions of the public headers take bytes or a text with its length, or a file that was
parsed. Each target must be built by
tests/fuzz/CMakeLists.txt and have a corpus."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FUZZ = ROOT / "tests/fuzz"
COPIED = {  # bytes that are copied and never looked into
    "weir_arena_write_bytes",
    "weir_program_write",
    "weir_session_upload",
}
IN_STRUCTURES = {"weir_gguf_parse_parts", "weir_plan_csv_create"}
INTERNAL = {"vulkan_cache_read"}


def readers():
    """Returns the functions that read bytes from outside."""
    found = set()
    for path in sorted((ROOT / "include").rglob("*.h")):
        text = re.sub(r"//.*", "", path.read_text())
        for name, parameters in re.findall(r"WEIR_API\s[^;(]*?(\w+)\(([^;]*)\);", text):
            foreign = re.search(r"const (?:void|char)\* \w+,\s+\w+ (?:byte_size|length)\b",
                                parameters)
            if foreign or "const weir_gguf* gguf, weir_" in re.sub(r"\s+", " ", parameters):
                found.add(name)
    return found - COPIED | IN_STRUCTURES | INTERNAL


def main():
    """Compares readers with what the targets call."""
    targets = {path.stem[len("fuzz_"):]: path.read_text() for path in FUZZ.glob("fuzz_*.c")}
    del targets["driver"]
    called = {name for text in targets.values()
              for name in re.findall(r"\b(?:weir|vulkan)_\w+(?=\()", text)}
    built = set(re.findall(r"^ *weir_fuzz\((\w+)", (FUZZ / "CMakeLists.txt").read_text(), re.M))
    wanted = readers()
    bad = [f"no target calls {name}" for name in sorted(wanted - called)]
    for name in sorted(targets):
        if name not in built:
            bad.append(f"fuzz_{name} is not built")
        if not any((FUZZ / "corpus" / name).glob("*")):
            bad.append(f"fuzz_{name} has no corpus")
    for line in bad:
        print(f"fuzz: {line}", file=sys.stderr)
    print(f"fuzz: {len(wanted)} functions read foreign bytes, {len(targets)} targets")
    return 1 if bad or not wanted else 0


sys.exit(main())
