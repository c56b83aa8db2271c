#!/usr/bin/env bash
# A sweep on the miniature of jobs/demo.sh. The worse half of the variants is stopped early, twice; an ensemble is
# chosen from the runs that finish; a report shows them all. Files that `make demo` has written are used again.
#
#   bash jobs/demo-sweep.sh [FOLDER]        SIZE=demo|test EPOCHS=20 SEEDS=0-1
set -euo pipefail

# shellcheck source=jobs/demo-places.sh
source "$(dirname "${BASH_SOURCE[0]}")/demo-places.sh"

sweep=$EPIC_RUNS/sweep
make_features
kept "$out/sweep.txt" heads sweep jobs/demo-sweep.yaml ${EPOCHS:+--epochs "$EPOCHS"} ${SEEDS:+--seeds "$SEEDS"}
run heads ensemble --greedy --per-task --force --runs "$sweep" --name best "$sweep"
run heads report --out "$sweep/report.html" "$sweep"

printf '\nThe variants of the sweep, best first (also in %s):\n\n' "$out/sweep.txt"
cat "$out/sweep.txt"
printf '\nWhat to do next:\n'
two_columns <<END
$heads evaluate --runs $sweep|all scores of the variants that ran to their end, and of the ensemble
$heads submit $sweep/best|the files for the challenge's servers
END
printf '\nWhere things are:\n'
two_columns <<END
$sweep/report.html|a page about the sweep: open it in a browser
$sweep|a folder per run: metrics, weights, predictions
$sweep/best|the ensemble that was chosen from them
$sweep/halving.json|what was stopped, and when
END
