#!/usr/bin/env bash
# Makes everything ready for `make demo`, `make test` or `make bench`: Debian packages, then .venv.
#
#   scripts/setup.sh demo|test|bench
#
# Root gets the Debian packages installed; anybody else gets told what is missing, with the line that installs
# it, and an exit status of 1 only if nothing would work without. Each half is stamped in .venv with a checksum
# of what it was made from, so that a second run costs nothing.
set -euo pipefail
umask 022  # root's .venv must be of use to an ordinary user: tests run `netext` as one
cd "$(dirname "$0")/.."

readonly packages=scripts/debian-packages.txt venv=.venv
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf 'setup: %s\n' "$*" >&2; }

# The Python of the system, where there is one: the first on the PATH may live in a home that others cannot read.
base_python() {
    if [[ -x /usr/bin/python3 ]]; then echo /usr/bin/python3; else command -v python3 || true; fi
}

wanted_groups() {
    case $1 in
        demo) echo demo ;;
        test) echo demo test ;;
        bench) echo demo test bench ;;
        *) say "usage: scripts/setup.sh demo|test|bench"; exit 64 ;;
    esac
}

wanted_extras() {
    case $1 in
        demo) echo examples ;;
        *) echo test,lint,docs,examples,urlfilter,cluster ;;
    esac
}

present() {
    case $1 in
        # ensurepip is what Debian keeps out of python3 and puts into python3-venv
        python:venv) "$python" -c 'import ensurepip, venv' 2>/dev/null ;;
        python:*) "$python" -c "import ${1#python:}" 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# Fills the arrays missing_needed and missing_wanted with lines "package<TAB>reason" for the groups given.
find_missing() {
    missing_needed=() missing_wanted=()
    local group package program need reason
    while read -r group package program need reason; do
        [[ " $* " == *" $group "* ]] && ! present "$program" || continue
        if [[ $need == needed ]]; then
            missing_needed+=("$package"$'\t'"$reason")
        else
            missing_wanted+=("$package"$'\t'"$reason")
        fi
    done < <(grep -v '^#' "$packages")
}

names() { printf '%s\n' "$@" | cut -f1 | tr '\n' ' ' | sed 's/ $//'; }

install_packages() {
    local log missing
    missing=$(names "$@")
    say "installing from Debian: $missing"
    log=$(mktemp)
    # Lists from elsewhere on this machine may be out of reach; only the installation itself has to succeed.
    DEBIAN_FRONTEND=noninteractive apt-get -qq update >"$log" 2>&1 || true
    # shellcheck disable=SC2086  # one word for each package
    if ! DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
        -o Dpkg::Use-Pty=0 $missing >>"$log" 2>&1 </dev/null; then
        say "apt-get failed; the end of what it said:"
        tail -n 15 "$log" >&2
    fi
    rm -f "$log"
}

report_missing() {
    local line
    for line in "${missing_needed[@]}"; do say "needed: ${line/$'\t'/ - }"; done
    for line in "${missing_wanted[@]}"; do say "wanted: ${line/$'\t'/ - }"; done
    say "to install: sudo apt-get install $(names "${missing_needed[@]}" "${missing_wanted[@]}")"
}

debian_packages() {
    find_missing "$@"
    ((${#missing_needed[@]} + ${#missing_wanted[@]})) || return 0
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        install_packages "${missing_needed[@]}" "${missing_wanted[@]}"
        [[ -n $python ]] || python=$(base_python)
        find_missing "$@"
        ((${#missing_needed[@]} + ${#missing_wanted[@]})) || return 0
    fi
    report_missing
    if ((${#missing_needed[@]})); then exit 1; fi
}

require_python() {
    if [[ -z $python ]] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        say "Python 3.11 or newer is needed, found ${python:-none}; to install: sudo apt-get install python3"
        exit 1
    fi
}

python_environment() {
    local extras=$1 stamp=$venv/.stamp-$1 sum
    # The path counts as well: an editable installation knows where it lies.
    sum=$({ pwd; "$python" -VV; cat pyproject.toml "$0"; } | sha256sum)
    if [[ -x $venv/bin/netext && -f $stamp && $(<"$stamp") == "$sum" ]]; then return 0; fi
    if [[ -e $venv && ! -w $venv ]]; then
        say "$PWD/$venv is out of date and belongs to $(stat -c %U "$venv"): run this as that user, or remove it"
        exit 1
    fi
    say "making $venv with $python: the package itself and its extras $extras"
    # pip 23 of Debian 12 writes a `netext` that imports re, which costs 4 ms at each start; newer ones do not.
    [[ -x $venv/bin/pip && $(readlink -f "$venv/bin/python") == "$(readlink -f "$python")" ]] ||
        "$python" -m venv --clear "$venv"
    "$venv/bin/pip" install -qq --disable-pip-version-check --upgrade pip
    "$venv/bin/pip" install -qq --disable-pip-version-check --root-user-action=ignore -e ".[$extras]"
    printf '%s\n' "$sum" >"$stamp"
}

main() {
    local groups extras
    groups=$(wanted_groups "${1:-}")
    extras=$(wanted_extras "$1")
    python=$(base_python)
    # shellcheck disable=SC2086  # one word for each group
    debian_packages $groups
    require_python
    python_environment "$extras"
}

main "$@"
