#!/bin/bash
# Checks what a tool can check of docs/style.md: format, line and file lengths, function lengths
# (where universal-ctags is installed), and notes to oneself left in the text.
set -euo pipefail
cd "$(dirname "$0")/.."

bad=0
complain() {
    echo "$1" >&2
    bad=1
}
# Prints the files of the tree that match the patterns; new ones count too, ignored ones do not.
files() {
    git ls-files -z --cached --others --exclude-standard -- "$@" |
        while IFS= read -r -d '' file; do [ ! -f "$file" ] || printf '%s\0' "$file"; done
}

files '*.c' '*.h' | xargs -0 "${CLANG_FORMAT:-clang-format}" --style=file --dry-run -Werror ||
    complain "format: run make format"

code=('*.c' '*.h' '*.py' '*.sh' '*.cmake' '*CMakeLists.txt' Makefile .ci/run)
while IFS= read -r -d '' file; do
    long=$(awk 'length > 100 { print FILENAME ":" FNR ": " length " columns" }' "$file")
    [ -z "$long" ] || complain "$long"
    lines=$(wc -l <"$file")
    [ "$lines" -le 1000 ] || complain "$file: $lines lines, split it at 1000"
    [[ $file != examples/* ]] || [ "$lines" -lt 100 ] ||
        complain "$file: $lines lines, examples have fewer than 100"
done < <(files "${code[@]}")

# The words are put together here so that this file does not find itself.
words='TO''DO|FIX''ME|X''XX|HA''CK'
found=$(files | xargs -0 grep -nwIE "$words" --exclude='*.gguf' || true)
[ -z "$found" ] || complain "$found"

if command -v ctags >/dev/null && ctags --version | grep -q Universal; then
    long=$(files '*.c' | tr '\0' '\n' | ctags --fields=+ne --kinds-C=f -o - -L - | awk -F'\t' '{
        for (i = 4; i <= NF; i++) {
            if ($i ~ /^line:/) begin = substr($i, 6)
            if ($i ~ /^end:/) end = substr($i, 5)
        }
        if (end - begin >= 100) print $2 ":" begin ": " $1 " has " end - begin + 1 " lines"
    }')
    [ -z "$long" ] || complain "$long"
fi

[ "$bad" = 0 ] && echo "style: ok"
exit "$bad"
