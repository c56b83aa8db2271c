# shellcheck shell=bash disable=SC2034
# For extract.sh and pipeline.sh: read the file that SITE names. `site` is its path, `jobs` this folder.

fail() {
    printf '%s\n' "$*" >&2
    exit 2
}

jobs=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
site=$jobs/sites/${SITE:=generic}.env
[[ $SITE != */* ]] || site=$SITE
[[ -f $site ]] || fail "SITE: no $site; there are: $(basename -s .env -a "$jobs"/sites/*.env | xargs)."
# shellcheck source=jobs/sites/generic.env
source "$site"
