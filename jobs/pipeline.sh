#!/usr/bin/env bash
# From videos to a submission by SLURM: extraction, check, training over seeds, ensemble, submission; each step waits for
# the one before and is cancelled where that fails. `make pipeline` says what it takes.
#
#   BIN=.venv/bin OUT=FEATURES HEAD=multiscale_lstm SEEDS=0-2 bash jobs/pipeline.sh EXTRACTION...
#
# EXTRACTION submits the extraction and prints "Submitted job ID, ..." (jobs/extract.sh).
set -euo pipefail

jobs=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
site=$jobs/sites/${SITE:=generic}.env
[[ $SITE != */* ]] || site=$SITE
logs=${LOGS:-logs}

if [[ ${LOCAL:-0} = 1 || ${DRY_RUN:-0} = 1 ]] || ! command -v sbatch >/dev/null; then
    printf 'make pipeline chains jobs of SLURM, and there is none to chain here; jobs/demo.sh shows the same steps.\n' >&2
    exit 2
fi
# shellcheck source=jobs/sites/generic.env
source "$site"

# Jobs may start in a clean environment.
run=(env "EPIC_ANNOTATIONS=$EPIC_ANNOTATIONS" "EPIC_FEATURES=$OUT" "EPIC_RUNS=$EPIC_RUNS")

after() { # JOB NAME OPTIONS... -- COMMAND...: submit a command that waits for a job; print its id
    local job=$1 name=$2 options=()
    shift 2
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    job=$(sbatch --parsable "${SITE_OPTIONS[@]}" --job-name="$name" --dependency="afterok:$job" --kill-on-invalid-dep=yes \
        --output="$logs/%x-%A.log" "${options[@]}" "$jobs/run.sbatch" "$site" "${run[@]}" "$@")
    printf '%s' "${job%%;*}"
}

said=$("$@")
printf '%s\n' "$said"
extraction=$(sed -n 's/^Submitted job \([0-9]*\),.*/\1/p' <<<"$said")
verification=$(after "$extraction" verify -- "$BIN/features" verify "$OUT")
training=$(after "$verification" train --array="$SEEDS" --output="$logs/%x-%A_%a.log" -- "$BIN/heads" train --head "$HEAD")
ensemble=$(after "$training" ensemble -- "$BIN/heads" ensemble --force)
submission=$(after "$ensemble" submit -- "$BIN/heads" submit --force)

printf 'After it: verify %s, train %s (seeds %s), ensemble %s, submit %s.\n' \
    "$verification" "$training" "$SEEDS" "$ensemble" "$submission"
printf 'The submission will be in %s/ensemble/submission; where a step fails, those after it are cancelled.\n' "$EPIC_RUNS"
