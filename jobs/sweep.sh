#!/usr/bin/env bash
# Run a sweep: as a SLURM job array where SLURM is installed, otherwise on this machine.
#
#   bash jobs/sweep.sh COMMAND...       such as env EPIC_RUNS=runs .venv/bin/heads sweep sweep.yaml
#
#   SITE=generic      a file in jobs/sites/, or the path of your own: resources and modules of a task
#   TASKS=4           number of tasks in the array, which share the runs
#   LIMIT=2           how many of them may run at the same time
#   AFTER=12:13       jobs that have to end well before it begins
#   LOGS=logs         folder for the logs of the tasks
#   LOCAL=1           run on this machine even if SLURM is installed
#   DRY_RUN=1         only print the command, the set-up of a task, and which task trains which runs
set -euo pipefail

# shellcheck source=jobs/site.sh
source "$(dirname "${BASH_SOURCE[0]}")/site.sh"

tasks=${TASKS:-4} logs=${LOGS:-logs} command=("$@")
need_counts "$tasks"

if is_submitted; then
    command=(
        sbatch --parsable "${SITE_TRAIN_OPTIONS[@]}" "${dependency[@]}" "--array=0-$((tasks - 1))${LIMIT:+%$LIMIT}"
        "--output=$logs/%x-%A_%a.log" "$jobs/sweep.sbatch" "$site" "$tasks" "$@"
    )
elif [[ ${DRY_RUN:-0} = 1 ]]; then
    tasks=1
else
    exec "$@"
fi

# Refuse here what no task could do. The last task is tried, because there may be more tasks than runs.
dealt=$("$@" --dry-run --shard "$((tasks - 1))/$tasks") || {
    code=$?
    printf 'Nothing was submitted.\n' >&2
    exit "$code"
}
if [[ ${DRY_RUN:-0} = 1 ]]; then
    show "${command[@]}"
    printf '\nHow the runs are dealt to tasks:\n%s\n' "$dealt"
    exit 0
fi

submit_array sweep "$tasks" "$logs" "${command[@]}"
printf '  '
printf '%q ' "$@"
printf -- '--dry-run\n'
