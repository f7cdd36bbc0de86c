#!/bin/sh
# Runs each fuzz target for so many seconds (10 unless told). A finding ends it, and says how to see it again.
#
#   fuzz.sh [SECONDS]
set -eu
seconds=${1:-10}
cd "$(dirname "$0")/.."
# Without a sanitizer the stable compiler does; there is no unsafe code of ours that one would watch.
options="--dev --sanitizer none"
echo "building the fuzz targets"
cargo fuzz build $options
for target in $(cargo fuzz list); do
    echo "fuzzing $target for $seconds s"
    log=$(mktemp)
    if ! cargo fuzz run $options "$target" -- -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 \
        -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "fuzz target $target found something; the whole log is $log" >&2
        exit 1
    fi
    grep -E 'stat::number_of_executed_units|stat::peak_rss_mb' "$log"
    rm -f "$log"
done
