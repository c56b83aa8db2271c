#!/usr/bin/env bash
# The whole path on a generated miniature of EPIC-KITCHENS-100: videos and annotations, features, heads, an ensemble,
# scores and a submission. Every command is one that a user would type.
#
#   bash jobs/demo.sh [FOLDER]        SIZE=demo|test EPOCHS=12 SEEDS=0-2
set -euo pipefail

# shellcheck source=jobs/demo-places.sh
source "$(dirname "${BASH_SOURCE[0]}")/demo-places.sh"

make_features
run features info "$out/features/tiny_cnn-seg16" --annotations "$out/annotations"
# There are fewer than a thousand segments, so batches are small; otherwise an epoch would have only a few steps.
options=(--device cpu --seeds "${SEEDS:-0-2}" --epochs "${EPOCHS:-12}" --batch-size 16)
run heads train --head logistic --device cpu
run heads train --head mean_pool "${options[@]}"
run heads train --head bilstm --set hidden=64 "${options[@]}"
run heads train --head multiscale_lstm --set hidden=64 "${options[@]}"
run heads ensemble --force
run heads ensemble --name multiscale_ensemble --force "$out"/runs/multiscale_lstm-seed*
run heads submit --force
kept "$out/scores.txt" heads evaluate

printf '\nThe scores of all runs on validation (more tables are in %s):\n\n' "$out/scores.txt"
sed '/^$/,$d' "$out/scores.txt"
printf '\nWhere things are:\n'
two_columns <<END
$out/annotations, $out/videos|the miniature of the dataset
$out/features/tiny_cnn-seg16|the feature set
$out/runs|a folder per run and ensemble: metrics, weights, predictions
$out/runs/multiscale_ensemble/submission|the files for the challenge's servers
END
printf '\nWhat to do next:\n'
two_columns <<END
$heads report --runs $out/runs --videos $out/videos --out $out/report.html|a page about these runs, with frames of their mistakes
$heads watch $out/runs/multiscale_ensemble $out/videos/P01/P01_07.mp4 -o $out/annotated.mp4|a video with what the ensemble sees in it
make demo-sweep|a sweep over heads and learning rates
END
