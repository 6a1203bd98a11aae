#!/usr/bin/env bash
# The tests that lend memory or share it between threads, under Miri. Takes minutes. Needs
# `rustup +nightly component add miri`.
set -euo pipefail
cd "$(dirname "$0")/.."

export MIRIFLAGS="-Zmiri-disable-isolation"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/miri"
cargo +nightly miri test -p airssys-integrity --test region -- \
    threads_see guards_lend keeps_its_bytes panics no_multiple busy
cargo +nightly miri test -p airssys-integrity --test faults -- \
    lent_is_told panics_poisons restored way_from_memory
# Words of 32 bits, the highest byte first.
cargo +nightly miri test -p airssys-integrity --target mips-unknown-linux-gnu --test region -- \
    keeps_its_bytes busy at_off a_new_region
