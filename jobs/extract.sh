#!/usr/bin/env bash
# Run an extraction: as an array of tasks where there is SLURM, else here.
#
#   bash jobs/extract.sh COMMAND...       such as .venv/bin/extract run --backbone videomae --out ...
#
#   SITE=generic      a file in jobs/sites/, or the path of your own: what a task asks for, and its modules
#   TASKS=8           tasks of the array; LIMIT=4: of which so many run at once
#   LOGS=logs         folder of the tasks' logs
#   LOCAL=1           here, even if there is SLURM
#   DRY_RUN=1         print the command, and do nothing
set -euo pipefail

jobs=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
site=$jobs/sites/${SITE:=generic}.env
[[ $SITE != */* ]] || site=$SITE
tasks=${TASKS:-8} logs=${LOGS:-logs}

fail() {
    printf '%s\n' "$*" >&2
    exit 2
}

[[ -f $site ]] || fail "SITE: no $site; there are: $(basename -s .env -a "$jobs"/sites/*.env | xargs)."
[[ $tasks =~ ^[1-9][0-9]*$ ]] || fail "TASKS: '$tasks' is not a number of tasks above 0."
[[ -z ${LIMIT:-} || $LIMIT =~ ^[1-9][0-9]*$ ]] || fail "LIMIT: '$LIMIT' is not a number of tasks above 0."

command=("$@")
if [[ ${LOCAL:-0} != 1 ]] && { [[ ${DRY_RUN:-0} = 1 && $SITE != generic ]] || command -v sbatch >/dev/null; }; then
    # shellcheck source=jobs/sites/generic.env
    source "$site"
    command=(
        sbatch --parsable "${SITE_OPTIONS[@]}" "--array=0-$((tasks - 1))${LIMIT:+%$LIMIT}"
        "--output=$logs/%x-%A_%a.log" "$jobs/extract.sbatch" "$site" "$tasks" "$@"
    )
fi

if [[ ${DRY_RUN:-0} = 1 ]]; then
    printf '%q ' "${command[@]}"
    printf '\n'
    exit
fi
[[ ${command[0]} = sbatch ]] || exec "$@"

mkdir -p "$logs"
job=$("${command[@]}") || {
    printf 'sbatch took nothing; LOCAL=1 runs the extraction here.\n' >&2
    exit 1
}
job=${job%%;*} # with --clusters: ID;CLUSTER
printf 'Submitted job %s, %s tasks. To watch it:\n' "$job" "$tasks"
printf '  squeue --jobs %s\n  tail -f %s/extract-%s_0.log\n  extract status FOLDER --slurm\n' "$job" "$logs" "$job"
