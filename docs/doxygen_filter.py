#!/usr/bin/env python3
"""Turns the plain comments of a public header into ones that Doxygen reads, line for line.

The head of a file documents the file; a comment right above a declaration that one, and the
functions that follow without a blank line; a comment behind a field or an enumerator that one.
Label lines ("Errors:  ...") get a title. Text is taken as it stands: what Doxygen or Markdown would
read as a command is escaped, and what is set in by four more spaces is code.
"""

import re
import sys

LABEL = re.compile(r"(Shapes|Types|Units|Ownership|Aliasing|Errors|Threads):\s+")
FUNCTION = re.compile(r"\b(weir_\w+)\s*\(")
BEHIND = re.compile(r'^((?:[^"/]|"[^"]*"|/(?!/))*\S\s+)//(.*)$')
CODE = "     "


def escape(text):
    """Escapes commands, tags, references and emphasis outside of `code`."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\@<>#*&])", r"\\\1", part) for part in parts[::2]]
    # The first sentence does not end in "et al.".
    return re.sub(r"\bal\.( |$)", r"al.\\ ", "`".join(parts))


def convert(comment, after_gap):
    """Returns the text of a comment line; code begins after an empty line or more code."""
    if after_gap and comment.startswith(CODE):
        return comment
    label = LABEL.match(comment.strip())
    if label:
        return f" @labelled{{{label.group(1)}}} {escape(comment.strip()[label.end():])}"
    return " " + escape(comment.strip())


def is_comment(line):
    """Tells whether a line is a comment and nothing else."""
    return line.lstrip().startswith("//")


def convert_block(block, mark):
    """Yields the lines of a comment above a declaration, or of the head of the file."""
    gap = False
    for line in block:
        space, comment = line.split("//", 1)
        yield f"{space}///{mark}{convert(comment, gap)}"
        mark = ""
        gap = comment == "" or (gap and comment.startswith(CODE))


def main():
    """Writes one header, converted, to standard output."""
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = file.read().split("\n")
    first = None  # function of the comment above, for those that follow it
    described = False  # the line above ends a comment for this one
    at = 0
    while at < len(lines):
        line = lines[at]
        if is_comment(line):
            end = at
            while is_comment(lines[end]):
                end += 1
            described = lines[end].strip() != "" and at > 0
            plain = not described and at > 0
            block = lines[at:end]
            print("\n".join(block if plain else
                            convert_block(block, " @thisfile" if at == 0 else "")))
            at = end
            continue
        behind = BEHIND.match(line)
        if line.startswith("WEIR_API"):
            function = FUNCTION.search(" ".join(lines[at:at + 4]))
            if described:
                first = function.group(1)
            elif first:
                line = f"/** @copydoc {first} */ {line}"
                behind = BEHIND.match(line)
        elif line == "":
            first = None
        if behind:
            print(f"{behind.group(1)}///<{convert(behind.group(2), False)}")
            column = line.index("//", len(behind.group(1)))
            while is_comment(lines[at + 1]) and lines[at + 1].index("//") == column:
                at += 1
                print(f"{' ' * column}///<{convert(lines[at][column + 2:], False)}")
        else:
            print(line)
        described = False
        at += 1


main()
