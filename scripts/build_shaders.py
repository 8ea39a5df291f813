#!/usr/bin/env python3
"""Compiles the kernels of the Vulkan back end, and those of its tests, to words that are built in.

    scripts/build_shaders.py           # writes the *.inc beside each folder of shaders; needs glslc
    scripts/build_shaders.py --check   # says whether they match their sources

The words are part of the repository so that a build needs no compiler of shaders; CI checks them
with the glslc of Debian 12, whose words these are.
"""

import pathlib
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = {"src/backends/vulkan/shaders": "src/backends/vulkan/spirv",
           "tests/shaders": "tests/shaders"}
WORDS_PER_LINE = 8


def compile_shader(source):
    """Returns the text of an array of words: "0x07230203, ..."."""
    command = ["glslc", "-O", "--target-env=vulkan1.2", str(source), "-o", "-"]
    code = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    words = [f"0x{word:08x}" for word, in struct.iter_unpack("<I", code)]
    lines = (", ".join(words[i:i + WORDS_PER_LINE]) + ",\n"
             for i in range(0, len(words), WORDS_PER_LINE))
    return "".join(lines)


def main():
    check = sys.argv[1:] == ["--check"]
    bad = 0
    sources = [source for folder in FOLDERS for source in sorted((ROOT / folder).glob("*.comp"))]
    for source in sources:
        folder = source.parent.relative_to(ROOT).as_posix()
        target = ROOT / FOLDERS[folder] / (source.stem + ".inc")
        text = compile_shader(source)
        if not check:
            target.write_text(text)
        elif not target.exists() or target.read_text() != text:
            print(f"{target} does not match {source}: run scripts/build_shaders.py",
                  file=sys.stderr)
            bad += 1
    print(f"shaders: {len(sources)} {'checked' if check else 'compiled'}, {bad} differ")
    return 1 if bad or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
