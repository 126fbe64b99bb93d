# Sourced by run, test and bench: makes the virtual environment if it is not there or is stale, and sets $python.
#   environment run.txt     what the daemon needs
#   environment dev.txt     that, and what tests and benchmarks need
# It lies in .venv here; where this folder can't be written, in the user's cache. OPENDESK_VENV names another place.

root=$(cd "$(dirname "$0")/.." && pwd -P)

say() { printf '%s\n' "$*" >&2; }
die() { say "opendesk: $*"; exit 1; }

find_python() {
    for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        found=$(command -v "$name" 2>/dev/null) || continue
        "$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { printf '%s' "$found"; return; }
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
    if ! base=$(find_python); then
        install_from_debian python3 python3-venv || die "Python 3.11 or newer is missing (Debian: apt-get install python3 python3-venv)"
        base=$(find_python) || die "this system's Python is older than 3.11; set PYTHON to a newer one"
    fi
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        install_from_debian python3-venv || die "$base can't make virtual environments (Debian: apt-get install python3-venv)"
        "$base" -c 'import ensurepip, venv' 2>/dev/null || die "$base can't make virtual environments; set PYTHON to another one"
    fi
}

# What an environment was made for: this Python and these locked dependencies.
wanted_stamp() { printf '%s ' "$1"; cat "$root/requirements/$1" | cksum; "$base" -c 'import sys; print(sys.version, sys.executable)'; }

fresh() { [ -f "$venv/stamp-$1" ] && [ "$(cat "$venv/stamp-$1")" = "$(wanted_stamp "$1")" ] && "$venv/bin/python" -c '' 2>/dev/null; }

environment() {
    base_python
    venv=${OPENDESK_VENV:-$root/.venv}
    python=$venv/bin/python
    fresh "$1" && return
    if ! mkdir -p "$venv" 2>/dev/null || ! [ -w "$venv" ]; then
        venv=${XDG_CACHE_HOME:-$HOME/.cache}/opendesk/venv-$(printf '%s' "$root" | cksum | cut -d' ' -f1)
        python=$venv/bin/python
        fresh "$1" && return
        mkdir -p "$venv" || die "neither $root nor ${venv%/*} can be written; set OPENDESK_VENV"
    fi
    with_lock make_environment "$1"
}

make_environment() {
    fresh "$1" && return        # another run made it while this one waited
    say "opendesk: making the environment in $venv (once; under a minute)"
    rm -f "$venv"/stamp-*
    "$base" -m venv --clear "$venv" || die "$base -m venv failed"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
        -r "$root/requirements/$1" >&2 || die "installing requirements/$1 failed"
    printf '%s\n' "$root" > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/opendesk.pth"
    # Whoever has the developers' environment has the daemon's too.
    [ "$1" = dev.txt ] && wanted_stamp run.txt > "$venv/stamp-run.txt"
    wanted_stamp "$1" > "$venv/stamp-$1"
}

# Two runs at once must not build into one folder. The holder's process id tells a lock that its holder left behind.
with_lock() {
    waited=0
    until mkdir "$venv.lock" 2>/dev/null; do
        holder=$(cat "$venv.lock/pid" 2>/dev/null || true)
        if [ "$waited" -ge 5 ] && ! { [ -n "$holder" ] && kill -0 "$holder" 2>/dev/null; }; then rm -rf "$venv.lock"; continue; fi
        [ "$waited" -lt 300 ] || die "another process has been making $venv for 5 minutes; remove $venv.lock if it is gone"
        [ "$waited" -gt 0 ] || say "opendesk: waiting for another process that makes the environment"
        sleep 1; waited=$((waited + 1))
    done
    printf '%s' $$ > "$venv.lock/pid"
    trap 'rm -rf "$venv.lock"' EXIT INT TERM
    "$@"
    rm -rf "$venv.lock"
    trap - EXIT INT TERM
}
