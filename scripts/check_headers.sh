#!/bin/bash
# Checks the public headers: each compiles alone as C11 and as C++17 without a warning, and weir.h
# includes all of libweir's.
set -euo pipefail
cd "$(dirname "$0")/.."

flags=(-Iinclude -fsyntax-only -Wall -Wextra -Wpedantic -Wundef -Werror)
compile() {
    "$@" "${flags[@]}" - <<<"#include <$header>" || { echo "$header fails: $*" >&2 && exit 1; }
}

count=0
for file in include/*/*.h; do
    header=${file#include/}
    compile "${CC:-gcc}" -std=c11 -x c
    compile "${CXX:-g++}" -std=c++17 -x c++
    count=$((count + 1))
    if [[ $header == weir/* && $header != weir/weir.h ]] &&
        ! grep -qF "#include <$header>" include/weir/weir.h; then
        echo "weir/weir.h does not include <$header>" >&2
        exit 1
    fi
done
[ "$count" -gt 0 ]
echo "headers: $count compile alone as C11 and as C++17"
