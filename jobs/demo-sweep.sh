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
run heads sweep jobs/demo-sweep.yaml ${EPOCHS:+--epochs "$EPOCHS"} ${SEEDS:+--seeds "$SEEDS"}
run heads ensemble --greedy --per-task --force --runs "$sweep" --name best "$sweep"
run heads report --out "$sweep/report.html" "$sweep"

printf '\nWritten:\n'
printf '  %s\n' "$sweep"/*
