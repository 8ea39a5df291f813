#!/bin/bash
# Times weir beside MiniMalloc, in turns, on files named NAME.CAPACITY.csv, and prints CSV: the wall
# time of the whole program, reading and writing included, on one core where taskset is there. What
# either writes is checked by `weir plan --verify`.
#
#     bench/plan_peer.sh WEIR MINIMALLOC RUNS FILE.CAPACITY.csv...
set -euo pipefail
export LC_ALL=C

if [ $# -lt 4 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 64
fi
weir=$1 minimalloc=$2 runs=$3
shift 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
pin=()
if command -v taskset >/dev/null; then
    pin=(taskset -c 0)
fi

# Sets `microseconds` to what the command takes; its output is kept in a file for the case that it
# fails.
microseconds=0
time_of() {
    local begin=${EPOCHREALTIME/./}
    "${pin[@]}" "$@" >"$folder/log" 2>&1 || { cat "$folder/log" >&2; return 1; }
    microseconds=$((${EPOCHREALTIME/./} - begin))
}

# Prints median, least and most of its lines, in seconds.
spread() {
    sort -n | awk '{ t[NR] = $1 / 1e6 }
        END { printf "%.6f,%.6f,%.6f", t[int((NR + 1) / 2)], t[1], t[NR] }'
}

echo "instance,capacity,weir_median_s,weir_min_s,weir_max_s,minimalloc_median_s,minimalloc_min_s,\
minimalloc_max_s,times_faster,runs"
for file in "$@"; do
    capacity=${file%.csv}
    capacity=${capacity##*.}
    : >"$folder/weir"
    : >"$folder/minimalloc"
    for ((run = 0; run < runs; run++)); do
        time_of "$weir" plan "$file" --capacity "$capacity" -o "$folder/weir.csv"
        echo "$microseconds" >>"$folder/weir"
        time_of "$minimalloc" "--capacity=$capacity" "--input=$file" \
            "--output=$folder/minimalloc.csv"
        echo "$microseconds" >>"$folder/minimalloc"
        for made in weir minimalloc; do
            "$weir" plan "$folder/$made.csv" --verify --capacity "$capacity" >/dev/null
        done
    done
    ours=$(spread <"$folder/weir")
    theirs=$(spread <"$folder/minimalloc")
    faster=$(awk -v a="${ours%%,*}" -v b="${theirs%%,*}" 'BEGIN { printf "%.1f", b / a }')
    echo "$(basename "$file"),$capacity,$ours,$theirs,$faster,$runs"
done
