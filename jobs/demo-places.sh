# shellcheck shell=bash
# Sourced by both demos: the folder they work in, and the first steps, which they share.

out=${1:-demo}
export EPIC_ANNOTATIONS=$out/annotations EPIC_VIDEOS=$out/videos EPIC_FEATURES=$out/features EPIC_RUNS=$out/runs

# Heads this small gain nothing from several cores: on a busy machine two threads were ten times slower than one.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

make_features() { # skips whatever exists already
    printf 'Everything is written to %s. The commands below find it through EPIC_ANNOTATIONS, EPIC_VIDEOS, EPIC_FEATURES and EPIC_RUNS.\n' "$out"
    run python tests/support/miniature.py "$out" --size "${SIZE:-demo}"
    run extract run --backbone tiny_cnn --weights random:0 --device cpu --out "$out/features/tiny_cnn-seg16"
}

kept() { # FILE COMMAND...: runs a command whose output goes to a file, for the end to show
    printf '\n$ %s > %s\n' "${*:2}" "$1"
    "${@:2}" >"$1"
}

two_columns() { # lines "THING|WHAT IT IS", below each other
    awk -F '|' '{ thing[NR] = $1; what[NR] = $2; if (length($1) > width) width = length($1) }
        END { for (row = 1; row <= NR; row++) printf "  %-" width "s   %s\n", thing[row], what[row] }'
}

heads=$(command -v heads || echo heads)
heads=${heads#"$PWD/"} # as one types it here
