#!/bin/bash
# Checks the shared libraries of a build folder: what they export is exactly what the public headers
# declare, libweir needs only the C library, and libweir-llm uses libweir by its headers alone.
#
#     scripts/check_symbols.sh build/release
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
build=${1:?build folder}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "symbols: $1" >&2
    exit 1
}
exported() {
    nm -D --defined-only "$1" | awk '{ print $NF }' | sort -u
}
# Prints the functions that headers mark WEIR_API.
declared() {
    cat "$@" | sed 's|//.*||; /^ *#/d' | tr '\n' ' ' | grep -oE 'WEIR_API [^;(]*\(' |
        grep -oE '\w+ *\($' | tr -d ' (' | sort -u
}
needed() {
    readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort
}

for name in weir weir-llm; do
    library=$build/lib$name.so
    [ -f "$library" ] || fail "$library is missing"
    exported "$library" >"$work/exported"
    declared include/$name/*.h >"$work/declared"
    [ -s "$work/declared" ] || fail "found no declarations in include/$name"
    diff "$work/declared" "$work/exported" >"$work/diff" ||
        fail "$library: < is declared only, > is exported only"$'\n'"$(cat "$work/diff")"
    allowed='libc\.so\.6|libm\.so\.6|ld-linux.*'
    [ "$name" = weir ] || allowed+='|libweir\.so\.[0-9]+'
    other=$(needed "$library" | grep -vxE "$allowed" || true)
    [ -z "$other" ] || fail "$library needs $other"
    echo "symbols: $library exports $(wc -l <"$work/exported") functions, needs" \
        "$(needed "$library" | tr '\n' ' ')"
done

# The linker has bound what libweir-llm takes from libweir to exported functions, and those are
# the public ones; what is left must come from the C library.
exported "$build/libweir.so" >"$work/public"
nm -D --undefined-only "$build/libweir-llm.so" | awk '$1 == "U" { print $2 }' |
    grep -v '@GLIBC_' | sort -u | comm -23 - "$work/public" >"$work/foreign"
[ ! -s "$work/foreign" ] || fail "libweir-llm uses $(tr '\n' ' ' <"$work/foreign")"
