#!/bin/bash
# Builds everything for 64-bit Arm with Debian's cross compiler and runs the tests of kernels,
# types, models and what depends on the system under QEMU, on a processor with SDOT and one without.
#
#     scripts/check_arm64.sh [BUILD FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/arm64}
scripts/need.sh gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user cmake ninja-build pkgconf

# cmocka of arm64 is unpacked beside the build. Lists of its own tell apt of that architecture: the
# machine is left as it is.
root=$PWD/$build/root
if [ ! -f "$root/usr/include/cmocka.h" ]; then
    mkdir -p "$root"/apt/{state/lists,cache/archives}/partial
    apt() {
        (cd "$root/apt" && apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
            -o Dir::State="$root/apt/state" -o Dir::State::status=/dev/null \
            -o Dir::Cache="$root/apt/cache" -o APT::Sandbox::User=root "$@" >/dev/null)
    }
    apt update
    apt download libcmocka-dev libcmocka0
    for package in "$root"/apt/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
fi

options=(-DWEIR_CROSS_ROOT="$root" -DCMAKE_BUILD_TYPE=Release -DWEIR_WERROR=ON -DWEIR_BENCH=ON
    -DWEIR_SHARED=OFF)
if command -v ccache >/dev/null; then
    options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
fi
toolchain=cmake/aarch64-linux-gnu.cmake
cmake -S . -B "$build" -G Ninja --toolchain "$toolchain" "${options[@]}" >/dev/null
cmake --build "$build" --parallel "$(nproc)"

# Programs that start the command are left out: nothing but QEMU can start that.
tests='^(test_(cpu_products|kernels|fused_kernels|dtype|dtype_blocks|demo_model|stories|
    generate|fault|cpu_lanes|session_threads|ticket|storage_memory)|conformance_cpu|
    example_(generate|five_parts))$'
scripts/run_tests.sh "$build" -R "$(tr -d ' \n' <<<"$tests")"
QEMU_CPU=cortex-a53 qemu-aarch64 -L /usr/aarch64-linux-gnu "$build/tests/test_cpu_products"
