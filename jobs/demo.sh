#!/usr/bin/env bash
# The whole path on a generated miniature of EPIC-KITCHENS-100: videos and annotations, features, heads, an ensemble,
# scores, a submission. Every command is one that a user types.
#
#   bash jobs/demo.sh [FOLDER]        SIZE=demo|test EPOCHS=30 SEEDS=0-2
set -euo pipefail

out=${1:-demo}
export EPIC_ANNOTATIONS=$out/annotations EPIC_VIDEOS=$out/videos EPIC_FEATURES=$out/features EPIC_RUNS=$out/runs

# Heads of this size are too small to share among cores: on a busy machine two threads were ten times slower than one.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

printf 'Working in %s; the commands below read these places from EPIC_ANNOTATIONS, EPIC_VIDEOS, EPIC_FEATURES and EPIC_RUNS.\n' "$out"
run python tests/miniature.py "$out" --size "${SIZE:-demo}"
run extract run --backbone tiny_cnn --weights random:0 --device cpu --out "$out/features/tiny_cnn-seg16"
run features info "$out/features/tiny_cnn-seg16" --annotations "$out/annotations"
run heads train --head mean_pool --device cpu --seeds "${SEEDS:-0-2}" --epochs "${EPOCHS:-30}"
run heads train --head bilstm --set hidden=64 --device cpu --seeds "${SEEDS:-0-2}" --epochs "${EPOCHS:-30}"
run heads train --head multiscale_lstm --set hidden=64 --device cpu --seeds "${SEEDS:-0-2}" --epochs "${EPOCHS:-30}"
run heads ensemble --force
run heads ensemble --name multiscale_ensemble --force "$out"/runs/multiscale_lstm-seed*
run heads submit --force
run heads evaluate

printf '\nWritten:\n'
printf '  %s\n' "$out"/annotations "$out"/videos "$out"/features/* "$out"/runs/* "$out"/runs/*/submission/*
