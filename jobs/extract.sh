#!/usr/bin/env bash
# Run an extraction: as a SLURM job array where SLURM is installed, otherwise on this machine.
#
#   bash jobs/extract.sh COMMAND...       such as .venv/bin/extract run --backbone videomae --out ...
#
#   SITE=generic      a file in jobs/sites/, or the path of your own: resources, modules and local disk of a task
#   TASKS=8           number of tasks in the array
#   LIMIT=4           how many of them may run at the same time
#   LOGS=logs         folder for the logs of the tasks
#   STAGE=1           copy each video to the node's local disk before reading it
#   LOCAL=1           run on this machine even if SLURM is installed
#   DRY_RUN=1         only print the command, the set-up of a task, and which task gets which videos
set -euo pipefail

# shellcheck source=jobs/site.sh
source "$(dirname "${BASH_SOURCE[0]}")/site.sh"

value_of() { # OPTION COMMAND...: print the value of an option in a command
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
    # Videos may be missing here and present on the cluster; but a command with a usage error fails everywhere.
    ((code != 2)) || exit 2
    ((code == 0)) || printf 'That cannot be told here; the command above is what would run.\n'
    exit 0
fi
[[ ${command[0]} = sbatch ]] || exec "${command[@]}"

submit_array extract "$tasks" "$logs" "${command[@]}"
printf '  %s%q status %q --annotations %q --slurm\n' "${cluster:+SLURM_CLUSTERS=$cluster }" "$1" \
    "$(value_of --out "$@")" "$(value_of --annotations "$@")"
