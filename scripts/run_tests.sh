#!/bin/sh
# Runs the tests of a build folder and ends with one plain line "N passed, N failed", in programs.
#
#     scripts/run_tests.sh build/dev [OPTION OF CTEST...]
set -u
build=${1:?build folder}
shift
log=$build/tests.log
report=$build/tests.xml
rm -f "$log" "$report"

ctest --test-dir "$build" --output-on-failure --no-tests=error --parallel "$(nproc)" \
    --output-log "$log" --output-junit tests.xml --test-output-size-passed 1000000 "$@"
code=$?

# Test cases are counted by what cmocka printed, programs by ctest's closing line, which takes those
# that were skipped for passed.
cases() {
    grep -c "^\[ *$1 *\] [a-z]" "$report"
}
closing=$(sed -n 's/.*tests passed, \([0-9]*\) tests failed out of \([0-9]*\).*/\1 \2/p' "$log")
if [ -z "$closing" ] || [ ! -f "$report" ]; then
    echo "0 passed, 0 failed"
    exit 1
fi
failed=${closing% *}
skipped=$(grep -cE '^[[:space:]]+[0-9]+ - .* \((Skipped|Disabled)\)$' "$log")
echo
echo "test cases: $(cases OK) passed, $(cases FAILED) failed, $(cases SKIPPED) skipped"
[ "$skipped" = 0 ] || echo "programs skipped: $skipped"
echo "$((${closing#* } - failed - skipped)) passed, $failed failed"
exit $code
