# Sourced by run, test and bench: makes the virtual environment if it is not there or is stale, and sets $python.
#   environment run.txt     what the daemon needs
#   environment dev.txt     that, and what tests and benchmarks need
# It lies in .venv here; where this folder can't be written, in the user's cache. OPENDESK_VENV names another place, PYTHON
# the Python to make it with.

# The folder above this script's own, also when it was called through a link.
root=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && pwd -P)

say() { printf '%s\n' "$*" >&2; }
die() { say "opendesk: $*"; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        found=$(command -v "$name" 2>/dev/null) || continue
        is_new_enough "$found" && { printf '%s' "$found"; return; }
    done
    return 1
}

# A fresh machine may have Python without the module that makes environments, or no Python at all.
install_from_debian() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then return 1; fi
    say "opendesk: installing $* from Debian"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; } >&2
}

base_python() {
    if [ -n "${PYTHON:-}" ]; then
        base=$(command -v "$PYTHON" 2>/dev/null) || die "PYTHON is set to $PYTHON, which is not there"
        is_new_enough "$base" || die "PYTHON is set to $PYTHON, which is not Python 3.11 or newer"
    elif ! base=$(find_python); then
        install_from_debian python3 python3-venv || die "Python 3.11 or newer is missing (Debian: apt-get install python3 python3-venv)"
        base=$(find_python) || die "this system's Python is older than 3.11; set PYTHON to a newer one"
    fi
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        install_from_debian python3-venv || die "$base can't make virtual environments (Debian: apt-get install python3-venv)"
        "$base" -c 'import ensurepip, venv' 2>/dev/null || die "$base can't make virtual environments; set PYTHON to another one"
    fi
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# What an environment was made for: this checkout, these locked dependencies, this version of Python. Not which Python made it:
# the same command from another shell, or from systemd, must not pull the environment from under a daemon that runs on it.
stamp() { printf '%s ' "$root" "$1"; cksum < "$root/requirements/$1"; version_of "$python"; }

fresh() {
    python=$venv/bin/python
    [ -f "$venv/stamp-$1" ] && [ "$(cat "$venv/stamp-$1")" = "$(stamp "$1")" ] || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$python")" ]
}

environment() {
    venv=${OPENDESK_VENV:-$root/.venv}
    fresh "$1" && return
    base_python
    if ! mkdir -p "$venv" 2>/dev/null || ! [ -w "$venv" ] || ! [ -w "$(dirname -- "$venv")" ]; then
        venv=${XDG_CACHE_HOME:-${HOME:-}/.cache}/opendesk/venv-$(printf '%s' "$root" | cksum | cut -d' ' -f1)
        fresh "$1" && return
        mkdir -p "$venv" 2>/dev/null || die "neither $root nor ${venv%/*} can be written; set OPENDESK_VENV"
    fi
    with_lock make_environment "$1"
}

# It is made beside the old one and then takes its place, so that a daemon that runs on the old one, and its PostgreSQL, find their
# files at every moment.
make_environment() {
    fresh "$1" && return        # another run made it while this one waited
    # Whoever develops here keeps what that takes.
    [ ! -f "$venv/stamp-dev.txt" ] || set -- dev.txt
    say "opendesk: making the environment in $venv (once; under a minute)"
    new=$venv.new
    python=$new/bin/python
    rm -rf "$new" "$venv.old"
    "$base" -m venv --clear "$new" || die "$base -m venv failed"
    # What sends pip's installations elsewhere would send these too.
    env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX "$python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --require-hashes --only-binary :all: -r "$root/requirements/$1" >&2 || die "installing requirements/$1 failed"
    printf '%s\n' "$root" > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/opendesk.pth"
    # Whoever has the developers' environment has the daemon's too.
    [ "$1" = run.txt ] || stamp run.txt > "$new/stamp-run.txt"
    stamp "$1" > "$new/stamp-$1"
    "$python" -c "$name_its_place" "$new" "$venv"
    mv "$venv" "$venv.old"
    mv "$new" "$venv"
    python=$venv/bin/python
    rm -rf "$venv.old"
}

# The programs in it name their Python by its whole path.
name_its_place='
import pathlib, sys
made, place = sys.argv[1:]
for program in pathlib.Path(made, "bin").iterdir():
    if program.is_file() and not program.is_symlink() and program.read_bytes().startswith(b"#!"):
        program.write_bytes(program.read_bytes().replace(made.encode(), place.encode()))
'

# Two runs at once must not build into one folder. The holder's process id tells a lock that its holder left behind.
with_lock() {
    waited=0
    until mkdir "$venv.lock" 2>/dev/null; do
        holder=$(cat "$venv.lock/pid" 2>/dev/null || true)
        # Who has just taken it has 5 s to say who it is.
        if [ -n "$holder" ] || [ "$waited" -ge 5 ]; then is_running "$holder" || { rm -rf "$venv.lock"; continue; }; fi
        [ "$waited" -lt 300 ] || die "another process has been making $venv for 5 minutes; remove $venv.lock if it is gone"
        [ "$waited" -gt 0 ] || say "opendesk: waiting for another process that makes the environment"
        sleep 1; waited=$((waited + 1))
    done
    trap 'rm -rf "$venv.lock"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '%s' $$ > "$venv.lock/pid"
    "$@"
    rm -rf "$venv.lock"
    trap - EXIT INT TERM
}

# `kill -0` alone says no to a process of another user's.
is_running() { [ -n "$1" ] && { kill -0 "$1" 2>/dev/null || ps -p "$1" >/dev/null 2>&1; }; }
