# What the scripts that provide an engine share. `me` is the name that they speak under.
# shellcheck shell=bash disable=SC2154

say() { echo "$me: $1" >&2; }

fail() {
    say "$1"
    exit 3
}

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    say "installing $* with apt-get"
    local log
    log=$(mktemp)
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 </dev/null; then
        apt-get update >>"$log" 2>&1 </dev/null || true
        if ! DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1 </dev/null; then
            tail -n 15 "$log" >&2
            rm -f "$log"
            fail "apt-get could not install $*; its last words are above."
        fi
    fi
    rm -f "$log"
}

# need WHAT PACKAGE CHECK...: install PACKAGE unless CHECK succeeds.
need() {
    local what=$1 package=$2
    shift 2
    if "$@"; then return; fi
    can_install || fail "$what is missing. Install it (Debian: apt-get install $package), then run this again."
    apt_install "$package"
    "$@" || fail "$what is still missing after installing $package."
}

has() { command -v "$1" >/dev/null; }

# Fields of /proc/PID/stat after the name, into REPLY: state ppid pgrp session tty_nr tpgid ... It starts no program and no
# subshell: bash 5.2 takes a signal that comes while it reads a command substitution for a mistake in it, and drops the trap.
stat_field() {
    local stat fields
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    read -ra fields <<<"${stat##*) }"
    REPLY=${fields[$2 - 1]}
}

alive() { stat_field "$1" 1 && [ "$REPLY" != Z ]; }

# gone PID SECONDS: wait until the process has ended.
gone() {
    local end=$((SECONDS + $2))
    while alive "$1"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# ended PID SECONDS: ask the process to end, then make it.
ended() {
    kill "$1" 2>/dev/null || true
    gone "$1" "$2" || kill -KILL "$1" 2>/dev/null || true
}

at_terminal() {
    local group
    stat_field $$ 3 && group=$REPLY && stat_field $$ 6 && [ "$group" = "$REPLY" ]
}

# await PID: its exit status, however often a signal interrupts the waiting.
await() {
    local status=0
    while alive "$1"; do
        wait "$1" && status=0 || status=$?
    done
    wait "$1" && status=0 || status=$?
    return "$status"
}
