#!/usr/bin/env bash
# Submit a command that needs no GPU as a job of SLURM, or run it where there is none.
#
#   bash jobs/run.sh NAME COMMAND...       such as verify .venv/bin/features verify data/features/videomae-seg16
#
#   SITE=generic      a file in jobs/sites/, or the path of your own: resources and modules of a job
#   AFTER=12:13       jobs that have to end well before it
#   LOGS=logs         folder for the log
#   LOCAL=1           run on this machine even if SLURM is installed
#   DRY_RUN=1         only print the command and the set-up of the job
set -euo pipefail

# shellcheck source=jobs/site.sh
source "$(dirname "${BASH_SOURCE[0]}")/site.sh"

name=$1 logs=${LOGS:-logs}
shift
command=("$@")
if is_submitted; then
    command=(
        sbatch --parsable "--job-name=$name" "${SITE_LIGHT_OPTIONS[@]}" "${dependency[@]}" "--output=$logs/%x-%A.log"
        "$jobs/run.sbatch" "$site" "$@"
    )
fi
if [[ ${DRY_RUN:-0} = 1 ]]; then
    show "${command[@]}"
    exit 0
fi
[[ ${command[0]} = sbatch ]] || exec "${command[@]}"

mkdir -p "$logs"
submit "${command[@]}" || fail "$name: SLURM takes no such job; nothing was submitted."
printf 'Submitted job %s, %s. To watch it:\n' "$job" "$name"
printf '  squeue%s --jobs %s\n' "${cluster:+ --clusters=$cluster}" "$job"
printf '  tail -f %q/%s-%s.log\n' "$logs" "$name" "$job"
