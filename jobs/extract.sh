#!/usr/bin/env bash
# Run an extraction: as an array of tasks where there is SLURM, else here.
#
#   bash jobs/extract.sh COMMAND...       such as .venv/bin/extract run --backbone videomae --out ...
#
#   SITE=generic      a file in jobs/sites/, or the path of your own: what a task asks for, its modules and its own disk
#   TASKS=8           tasks of the array; LIMIT=4: of which so many run at once
#   LOGS=logs         folder of the tasks' logs
#   STAGE=1           copy each video to the node's own disk before it is read
#   LOCAL=1           here, even if there is SLURM
#   DRY_RUN=1         print the command, what a task does first, and how the videos are dealt to the tasks; nothing else
set -euo pipefail

# shellcheck source=jobs/site.sh
source "$(dirname "${BASH_SOURCE[0]}")/site.sh"

value_of() { # OPTION COMMAND...: what a command has after an option
    local option=$1
    shift
    while [[ $# -gt 1 && $1 != "$option" ]]; do shift; done
    printf '%s' "${2:-}"
}

tasks=${TASKS:-8} logs=${LOGS:-logs} stage=${STAGE:-0}

need_counts "$tasks"
[[ $stage =~ ^[01]$ ]] || fail "STAGE: '$stage' is not 1 or 0."

if is_submitted; then
    command=(
        sbatch --parsable "${SITE_EXTRACT_OPTIONS[@]}" "--array=0-$((tasks - 1))${LIMIT:+%$LIMIT}"
        "--output=$logs/%x-%A_%a.log" "$jobs/extract.sbatch" "$site" "$tasks" "$stage" "$@"
    )
else
    command=("$@") tasks=1
    if [[ $stage = 1 ]]; then
        scratch=$(site_scratch)
        command+=(--stage "$scratch")
    fi
fi

if [[ ${DRY_RUN:-0} = 1 ]]; then
    show "${command[@]}"
    printf '\nHow the videos are dealt to tasks:\n'
    code=0
    "$@" --dry-run --shard "0/$tasks" || code=$?
    # What is not on this machine may be on another; but a command that is wrong here is wrong everywhere.
    ((code != 2)) || exit 2
    ((code == 0)) || printf 'That cannot be told here; the command above is what would run.\n'
    exit 0
fi
[[ ${command[0]} = sbatch ]] || exec "${command[@]}"

submit extract "$tasks" "$logs" "${command[@]}"
printf '  %s%q status %q --annotations %q --slurm\n' "${cluster:+SLURM_CLUSTERS=$cluster }" "$1" \
    "$(value_of --out "$@")" "$(value_of --annotations "$@")"
