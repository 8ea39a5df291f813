#!/bin/bash
# Installs a build folder to a prefix of its own, moves that elsewhere, and builds and runs the
# project tests/consumer against it: by find_package and by pkg-config, shared and static.
#
#     scripts/check_install.sh build/release
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?build folder}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/installed" >/dev/null
mv "$work/installed" "$work/moved"
cp -r tests/consumer "$work/consumer"

cmake -S "$work/consumer" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/moved" >/dev/null
cmake --build "$work/build" >/dev/null
for program in consumer consumer-static consumer-llm consumer-llm-static; do
    "$work/build/$program"
done

export PKG_CONFIG_LIBDIR
PKG_CONFIG_LIBDIR=$(dirname "$(find "$work/moved" -name weir.pc)")
library_path=$(pkg-config --variable=libdir weir)
read -ra shared <<<"$(pkg-config --cflags --libs weir)"
read -ra static <<<"$(pkg-config --static --cflags --libs weir)"
${CC:-gcc} -std=c11 tests/consumer/consumer.c -o "$work/pc-shared" "${shared[@]}"
${CC:-gcc} -std=c11 tests/consumer/consumer.c -o "$work/pc-static" -static "${static[@]}"
LD_LIBRARY_PATH=$library_path "$work/pc-shared"
"$work/pc-static"
read -ra llm <<<"$(pkg-config --cflags --libs weir-llm)"
${CXX:-g++} -std=c++17 tests/consumer/consumer_llm.cpp -o "$work/pc-llm" "${llm[@]}"
LD_LIBRARY_PATH=$library_path "$work/pc-llm"
LD_LIBRARY_PATH=$library_path "$work/moved/bin/weir" --version
echo "install: six programs and the command line run from a moved prefix"
