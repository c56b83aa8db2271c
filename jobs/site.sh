# shellcheck shell=bash disable=SC2034
# Sourced by the scripts that submit jobs: reads the file that SITE names, and holds the functions that they share.
# Sets `site` (the path of that file), `jobs` (this folder) and `dependency` (options about the jobs in AFTER).

fail() {
    printf '%s\n' "$*" >&2
    exit 2
}

need_counts() { # TASKS: check TASKS and LIMIT
    [[ $1 =~ ^[1-9][0-9]*$ ]] || fail "TASKS: '$1' is not a number of tasks above 0."
    [[ -z ${LIMIT:-} || $LIMIT =~ ^[1-9][0-9]*$ ]] || fail "LIMIT: '$LIMIT' is not a number of tasks above 0."
}

is_submitted() { # whether the command goes to SLURM, or would on a site that has it (DRY_RUN)
    [[ ${LOCAL:-0} != 1 ]] && { [[ ${DRY_RUN:-0} = 1 && $SITE != generic ]] || command -v sbatch >/dev/null; }
}

show() { # COMMAND...: print the command and the set-up of a task
    printf '%q ' "$@"
    printf '\n'
    [[ $1 != sbatch ]] || printf '\nFirst, each task runs this:\n%s\n' "$(declare -f site_setup)"
}

submit() { # SBATCH...: submit a job; sets `job`, and `cluster` if one is named. Fails where SLURM takes no job
    local answer
    answer=$("$@") || return
    answer=${answer##*$'\n'}
    # With --clusters sbatch prints ID;CLUSTER, and squeue and scancel need the cluster as well.
    cluster=
    [[ $answer != *';'* ]] || cluster=${answer#*;}
    job=${answer%%;*}
    [[ $job =~ ^[0-9]+$ ]] || {
        printf "sbatch: answers '%s', which is not the number of a job.\n" "$answer" >&2
        return 1
    }
}

submit_array() { # NAME TASKS LOGS SBATCH...: submit an array and print how to watch it; sets `job` and `cluster`
    local name=$1 tasks=$2 logs=$3
    shift 3
    mkdir -p "$logs"
    submit "$@" || {
        printf '%s: SLURM takes no such job; nothing was submitted. LOCAL=1 runs it here.\n' "$name" >&2
        exit 1
    }
    printf 'Submitted job %s, %s tasks. To watch it:\n' "$job" "$tasks"
    printf '  squeue%s --jobs %s\n' "${cluster:+ --clusters=$cluster}" "$job"
    printf '  tail -f %q/%s-%s_0.log\n' "$logs" "$name" "$job"
}

jobs=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
site=$jobs/sites/${SITE:=generic}.env
[[ $SITE != */* ]] || site=$SITE
[[ -f $site ]] || fail "SITE: no $site; there are: $(basename -s .env -a "$jobs"/sites/*.env | xargs)."
# shellcheck source=jobs/sites/generic.env
source "$site"

# A job whose predecessors fail is cancelled, and does not wait for ever.
dependency=()
if [[ ${AFTER:-} ]]; then
    [[ $AFTER =~ ^[0-9]+(:[0-9]+)*$ ]] || fail "AFTER: '$AFTER' is not a list of jobs such as 12:13."
    dependency=("--dependency=afterok:$AFTER" --kill-on-invalid-dep=yes)
fi
