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
# Runs of another set or head have other folders, so they are neither in the way nor in the ensemble.
runs=$EPIC_RUNS/$HEAD-$(basename "$OUT")

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

submitted=()
cancel_submitted() { # whatever ends this script before the chain is whole: a step that SLURM refuses, or Ctrl-C
    ((${#submitted[@]})) || return 0
    if scancel ${cluster:+--clusters="$cluster"} "${submitted[@]}"; then
        printf 'The jobs before it are cancelled: %s.\n' "${submitted[*]}" >&2
    else
        printf 'Nor does it cancel the jobs before it. Do so yourself: scancel%s %s\n' \
            "${cluster:+ --clusters=$cluster}" "${submitted[*]}" >&2
    fi
}
trap cancel_submitted EXIT

refused() { # STEP
    printf '%s: SLURM does not take this step; why is said above.\n' "$1" >&2
    exit 1
}

# Jobs may start in a clean environment.
run=(env "EPIC_ANNOTATIONS=$EPIC_ANNOTATIONS" "EPIC_RUNS=$runs")

after() { # JOB NAME OPTIONS... -- SCRIPT COMMAND...: submit a command that waits for a job; sets `job`
    local before=$1 name=$2 options=() script
    shift 2
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    script=$jobs/$2
    shift 2
    submit sbatch --parsable --job-name="$name" --dependency="afterok:$before" --kill-on-invalid-dep=yes \
        --output="$logs/%x-%A.log" "${options[@]}" "$script" "$site" "${run[@]}" "$@" || refused "$name"
    submitted+=("$job")
}

output=$("$@") || refused extract
printf '%s\n' "$output"
extraction=$(sed -n 's/^Submitted job \([0-9]*\),.*/\1/p' <<<"$output")
cluster=$(sed -n 's/^  squeue --clusters=\(.*\) --jobs .*/\1/p' <<<"$output")
[[ $extraction ]] || refused extract
submitted+=("$extraction")

after "$extraction" verify "${SITE_LIGHT_OPTIONS[@]}" -- run.sbatch "$BIN/features" verify "$OUT"
verification=$job
after "$verification" train "${SITE_TRAIN_OPTIONS[@]}" --array="$SEEDS" --output="$logs/%x-%A_%a.log" \
    -- train.sbatch "$BIN/heads" train --features "$OUT" --head "$HEAD"
training=$job
after "$training" ensemble "${SITE_LIGHT_OPTIONS[@]}" -- run.sbatch "$BIN/heads" ensemble --force
ensemble=$job
after "$ensemble" submit "${SITE_LIGHT_OPTIONS[@]}" -- run.sbatch "$BIN/heads" submit --force
submission=$job
trap - EXIT

printf 'After it: verify %s, train %s (seeds %s), ensemble %s, submit %s.\n' \
    "$verification" "$training" "$SEEDS" "$ensemble" "$submission"
printf 'The submission will be in %s/ensemble/submission; where a step fails, those after it are cancelled.\n' "$runs"
