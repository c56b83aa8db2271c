#!/usr/bin/env bash
# From videos to a submission by SLURM: extraction, verification, training over seeds, ensemble, submission. Each step
# waits for the previous one and is cancelled if that fails. Weights are fetched first, on this machine, because compute
# nodes have no network. `make help` lists the options.
#
#   BIN=.venv/bin BACKBONE=videomae WEIGHTS=default OUT=FEATURES HEAD=multiscale_lstm SEEDS=0-2 bash jobs/pipeline.sh EXTRACTION...
#
# EXTRACTION submits the extraction and prints "Submitted job ID, ..." (jobs/extract.sh).
set -euo pipefail

# shellcheck source=jobs/site.sh
source "$(dirname "${BASH_SOURCE[0]}")/site.sh"
logs=${LOGS:-logs}

if [[ ${LOCAL:-0} = 1 || ${DRY_RUN:-0} = 1 ]] || ! command -v sbatch >/dev/null; then
    fail 'make pipeline chains jobs of SLURM, and there is none to chain here; jobs/demo.sh shows the same steps.'
fi

if [[ $WEIGHTS = default ]]; then
    "$BIN/extract" weights "$BACKBONE" ${EPIC_WEIGHTS:+--dest "$EPIC_WEIGHTS"} || {
        code=$?
        printf 'Nothing was submitted.\n' >&2
        exit "$code"
    }
fi

# Jobs may start in a clean environment.
run=(env "EPIC_ANNOTATIONS=$EPIC_ANNOTATIONS" "EPIC_FEATURES=$OUT" "EPIC_RUNS=$EPIC_RUNS")

after() { # JOB NAME OPTIONS... -- SCRIPT COMMAND...: submit a command that waits for a job; print its id
    local job=$1 name=$2 options=() script
    shift 2
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    script=$jobs/$2
    shift 2
    job=$(sbatch --parsable --job-name="$name" --dependency="afterok:$job" --kill-on-invalid-dep=yes \
        --output="$logs/%x-%A.log" "${options[@]}" "$script" "$site" "${run[@]}" "$@")
    printf '%s' "${job%%;*}"
}

output=$("$@")
printf '%s\n' "$output"
extraction=$(sed -n 's/^Submitted job \([0-9]*\),.*/\1/p' <<<"$output")
verification=$(after "$extraction" verify "${SITE_LIGHT_OPTIONS[@]}" -- run.sbatch "$BIN/features" verify "$OUT")
training=$(after "$verification" train "${SITE_TRAIN_OPTIONS[@]}" --array="$SEEDS" --output="$logs/%x-%A_%a.log" \
    -- train.sbatch "$BIN/heads" train --head "$HEAD")
ensemble=$(after "$training" ensemble "${SITE_LIGHT_OPTIONS[@]}" -- run.sbatch "$BIN/heads" ensemble --force)
submission=$(after "$ensemble" submit "${SITE_LIGHT_OPTIONS[@]}" -- run.sbatch "$BIN/heads" submit --force)

printf 'After it: verify %s, train %s (seeds %s), ensemble %s, submit %s.\n' \
    "$verification" "$training" "$SEEDS" "$ensemble" "$submission"
printf 'The submission will be in %s/ensemble/submission; where a step fails, those after it are cancelled.\n' "$EPIC_RUNS"
