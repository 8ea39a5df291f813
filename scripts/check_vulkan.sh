#!/bin/bash
# Runs on a Vulkan device what holds on any device, watched by the validation layers of Khronos: the
# kernels, the demo model and the reference models. Fails without a device, and on anything that the
# layers say. On lavapipe the kernels are run for three sizes of subgroups.
#
#     scripts/check_vulkan.sh build/dev [DEVICE]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?build folder}
logs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$logs"' EXIT
export WEIR_TEST_DEVICE=${2:-vulkan} WEIR_SOURCE_DIR=$PWD WEIR_BINARY_DIR=$build
export ASAN_OPTIONS=detect_leaks=0 # drivers leave memory behind when they are unloaded
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}

"$build/weir" devices
"$build/weir" devices --json | grep -q '"name": "vulkan:0"[^}]*"available": true' ||
    { echo "no Vulkan device" >&2 && exit 1; }
if command -v glslc >/dev/null; then
    scripts/build_shaders.py --check
fi

# Runs a test program; whatever a validation layer prints fails it.
run() {
    local begin=$SECONDS log=$logs/$1
    "$build/tests/$1" >"$log" 2>&1 || { cat "$log" && exit 1; }
    ! grep -m 5 -A 3 "Validation \(Error\|Warning\|Performance\)" "$log" || exit 1
    echo "$WEIR_TEST_DEVICE $1${LP_NATIVE_VECTOR_WIDTH:+ $LP_NATIVE_VECTOR_WIDTH bits}:" \
        "$(grep -c '^\[ *OK \]' "$log") passed, $(grep -c '^\[ *SKIPPED \] [a-z]' "$log" || true)" \
        "skipped, $((SECONDS - begin)) s"
}

# Runs a test program under the layer that checks what is submitted.
run_watched() {
    VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation VK_LAYER_SETTINGS_PATH=$PWD/tests/layers/queue \
        run "$1"
}

run_watched test_stories & # as long as all others, in one thread for most of the time
stories=$!
WEIR_ORACLE_PROGRAMS=${WEIR_ORACLE_PROGRAMS:-10000} run test_vulkan_oracle
"$build/weir" check models/*.gguf --device "$WEIR_TEST_DEVICE"
for width in 128 512; do
    LP_NATIVE_VECTOR_WIDTH=$width run test_kernels
done
run test_vulkan_layers
for program in test_vulkan test_vulkan_card test_vulkan_device test_vulkan_files \
    test_vulkan_memory test_vulkan_instance test_vulkan_products test_vulkan_tiles test_kernels \
    test_fused_kernels test_generate test_demo_model; do
    run_watched "$program"
done
WEIR_TEST_CARD=1 run_watched test_snapshot
WEIR_TEST_CARD=1 run_watched test_generate # with arena and caches where the host does not reach
wait "$stories"

echo "best practices, for information:"
VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation VK_LAYER_SETTINGS_PATH=$PWD/tests/layers/advice \
    "$build/tests/test_generate" >"$logs/advice" 2>&1 || true
grep -o "^UNASSIGNED-BestPractices-[A-Za-z-]*" "$logs/advice" | sort | uniq -c || true
