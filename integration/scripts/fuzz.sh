#!/bin/sh
# Runs each fuzz target for so many seconds (10 unless told). A finding ends it, and says how to see it again.
#
#   fuzz.sh [SECONDS]
#
# The targets are cargo-fuzz's (`cargo fuzz run --fuzz-dir integration/fuzz TARGET`); this asks for no tool but cargo, and
# for no nightly compiler: what libFuzzer needs to see of a program's course, the stable one puts in too.
set -eu
seconds=${1:-10}
cd "$(dirname "$0")/../fuzz"
triple=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-trace-compares"
echo "building the fuzz targets"
# Named, the target keeps the flags from build scripts and macros.
RUSTFLAGS="--cfg fuzzing $coverage" cargo build --quiet --locked --target "$triple"
for source in fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    corpus=corpus/$target artifacts=artifacts/$target/
    mkdir -p "$corpus" "$artifacts"
    log=$(mktemp)
    if ! "target/$triple/debug/$target" "$corpus" -artifact_prefix="$artifacts" -max_total_time="$seconds" \
        -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "fuzz target $target found something: see it again with" >&2
        echo "  integration/fuzz/target/$triple/debug/$target integration/fuzz/$artifacts..." >&2
        exit 1
    fi
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, nothing found"
    rm -f "$log"
done
