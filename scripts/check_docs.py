#!/usr/bin/env python3
"""Checks the reference that `make docs` made: each public function has a description of its own."""

import pathlib
import sys
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    """Reads what Doxygen found and prints each function without a first sentence."""
    described = set()
    bare = set()
    for path in sorted((ROOT / "build/docs/xml").glob("*_8h.xml")):
        for member in xml.etree.ElementTree.parse(path).iter("memberdef"):
            name = member.findtext("name")
            if member.get("kind") == "function" and name.startswith("weir_"):
                brief = "".join(member.find("briefdescription").itertext()).strip()
                (described if brief else bare).add(name)
    for name in sorted(bare):
        print(f"{name} is not documented", file=sys.stderr)
    print(f"docs: {len(described)} functions documented, {len(bare)} not")
    return 1 if bare or not described else 0


sys.exit(main())
