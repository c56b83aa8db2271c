# shellcheck shell=bash
# For the demos: the folder that they are given, where in it they keep things, and the steps that they begin with.

out=${1:-demo}
export EPIC_ANNOTATIONS=$out/annotations EPIC_VIDEOS=$out/videos EPIC_FEATURES=$out/features EPIC_RUNS=$out/runs

# Heads of this size are too small to share among cores: on a busy machine two threads were ten times slower than one.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

make_features() { # nothing is made twice
    printf 'Working in %s; the commands below read these places from EPIC_ANNOTATIONS, EPIC_VIDEOS, EPIC_FEATURES and EPIC_RUNS.\n' "$out"
    run python tests/support/miniature.py "$out" --size "${SIZE:-demo}"
    run extract run --backbone tiny_cnn --weights random:0 --device cpu --out "$out/features/tiny_cnn-seg16"
}
