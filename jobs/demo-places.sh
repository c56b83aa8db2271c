# shellcheck shell=bash
# Sourced by both demos: the folder they work in, and the first steps, which they share.

out=${1:-demo}
export EPIC_ANNOTATIONS=$out/annotations EPIC_VIDEOS=$out/videos EPIC_FEATURES=$out/features EPIC_RUNS=$out/runs

# Heads this small gain nothing from several cores: on a busy machine two threads were ten times slower than one.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

make_features() { # skips whatever exists already
    printf 'Everything is written to %s. The commands below find it through EPIC_ANNOTATIONS, EPIC_VIDEOS, EPIC_FEATURES and EPIC_RUNS.\n' "$out"
    run python tests/support/miniature.py "$out" --size "${SIZE:-demo}"
    run extract run --backbone tiny_cnn --weights random:0 --device cpu --out "$out/features/tiny_cnn-seg16"
}
