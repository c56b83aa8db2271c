#!/usr/bin/env bash
# Run a sweep: as an array of tasks where there is SLURM, else here.
#
#   bash jobs/sweep.sh COMMAND...       such as env EPIC_RUNS=runs .venv/bin/heads sweep sweep.yaml
#
#   SITE=generic      a file in jobs/sites/, or the path of your own: what a task asks for, and its modules
#   TASKS=4           tasks of the array, which share its runs; LIMIT=2: of which so many run at once
#   LOGS=logs         folder of the tasks' logs
#   LOCAL=1           here, even if there is SLURM
#   DRY_RUN=1         print the command, what a task does first, and how the runs are dealt to the tasks; nothing else
set -euo pipefail

# shellcheck source=jobs/site.sh
source "$(dirname "${BASH_SOURCE[0]}")/site.sh"

tasks=${TASKS:-4} logs=${LOGS:-logs} command=("$@")
need_counts "$tasks"

if is_submitted; then
    command=(
        sbatch --parsable "${SITE_TRAIN_OPTIONS[@]}" "--array=0-$((tasks - 1))${LIMIT:+%$LIMIT}"
        "--output=$logs/%x-%A_%a.log" "$jobs/sweep.sbatch" "$site" "$tasks" "$@"
    )
elif [[ ${DRY_RUN:-0} = 1 ]]; then
    tasks=1
else
    exec "$@"
fi

# What no task could do is refused here; asked of the last one, because there may be more tasks than runs.
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

submit sweep "$tasks" "$logs" "${command[@]}"
printf '  '
printf '%q ' "$@"
printf -- '--dry-run\n'
