#!/usr/bin/env bash
# The tests that lend memory or share it between threads, under Miri. Needs
# `rustup +nightly component add miri`.
set -euo pipefail
cd "$(dirname "$0")/.."

export MIRIFLAGS="-Zmiri-disable-isolation" PROPTEST_CASES=2
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/miri"
cargo +nightly miri test -p airssys-integrity --test region
cargo +nightly miri test -p airssys-integrity --test faults -- \
    lent panics poisons restored way_from_memory
