# Helpers of the test bed's scripts; sourced, not run.
# shellcheck shell=bash

say() { printf 'testbed: %s\n' "$*" >&2; }
die() { printf 'testbed: %s\n' "$*" >&2; exit 1; }

# A step is done when its stamp holds the step's version; a changed version does the step again. The place counts as a
# part of the version: a Python environment and the wrappers hold absolute paths and do not survive a move.
stamp_is() { [ -f "$TESTBED/.stamps/$1" ] && [ "$(cat "$TESTBED/.stamps/$1")" = "$2 in $TESTBED" ]; }
stamp_set() { mkdir -p "$TESTBED/.stamps" && printf '%s in %s\n' "$2" "$TESTBED" > "$TESTBED/.stamps/$1"; }

checksum() { cat "$@" | sha256sum | cut -d' ' -f1; }

# install_packages PACKAGE...: installs Debian packages without starting what they bring.
install_packages() {
  command -v apt-get > /dev/null || die "missing: $*. Install them by hand; this script knows only apt."
  [ "$(id -u)" -eq 0 ] || die "missing: $*. Run as root: apt-get update && apt-get install $*"
  say "installing Debian packages: $*"

  # The tests start their own servers on their own ports. A package that starts its daemon, now or at the next boot,
  # would take a well-known port of the machine for nothing.
  local policy=/usr/sbin/policy-rc.d ours=""
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    ours=yes
  fi
  local result=0
  apt_install "$@" || result=$?
  [ -z "$ours" ] || rm -f "$policy"
  [ "$result" -eq 0 ] || die "apt could not install: $* (its messages are above)"
  local package
  for package in "$@"; do
    systemctl disable --quiet "$package" 2> /dev/null || true # most have no service, and a container has no systemd
  done
}

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2 &&
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" \
      > /dev/null < /dev/null
}

# Prints the path of the library that changes the wall clock of a process, or nothing.
faketime_library() { find /usr/lib -name libfaketime.so.1 -print -quit 2> /dev/null; }
