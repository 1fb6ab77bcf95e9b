#!/bin/sh
# base.sh FILE: writes the root file system that all stand-ins share, with all their packages, as a tar archive. One
# base takes one run of apt, and the engine stores it once.
# shellcheck disable=SC2016 # $1 is mmdebstrap's
set -eu
out=$1

if ! command -v mmdebstrap >/dev/null 2>&1; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo 'please install mmdebstrap (on Debian: sudo apt-get install mmdebstrap)' >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -qq -y --no-install-recommends --dry-run mmdebstrap >/dev/null 2>&1 || apt-get update -qq
  apt-get install -qq -y --no-install-recommends mmdebstrap
fi

# The archive is the host's, in the host's way, if the host has that release.
set --
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  if [ -f "$file" ] && grep -qE '^[^#]*\bbookworm\b' "$file"; then set -- "$@" "$file"; fi
done
options=$(mktemp)
trap 'rm -f "$options"' EXIT
apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries)' >"$options" || :

# PostgreSQL's user has the number that the official image gives it, and no cluster is made at its installation. Files that
# no image uses, such as Perl and LLVM, are removed at the end: the engine reads the list of all files for each layer that it makes.
mmdebstrap --quiet --mode=root --variant=essential --aptopt="$options" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include=busybox,ca-certificates,caddy,git,postgresql-15 \
  --essential-hook='echo postgres:x:999:999::/var/lib/postgresql:/bin/bash >>"$1/etc/passwd"' \
  --essential-hook='echo postgres:x:999: >>"$1/etc/group"' \
  --essential-hook='mkdir -p "$1/etc/postgresql-common"' \
  --essential-hook='echo create_main_cluster = false >"$1/etc/postgresql-common/createcluster.conf"' \
  --customize-hook='rm -rf "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/apt/sources.list*' \
  --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/usr/share/perl* "$1"/usr/lib/*/perl*' \
  --customize-hook='rm -rf "$1"/usr/share/i18n "$1"/usr/lib/*/libLLVM* "$1"/usr/lib/postgresql/15/lib/bitcode "$1"/usr/lib/postgresql/15/lib/llvmjit*' \
  --customize-hook='rm -rf "$1"/etc/postgresql "$1"/var/lib/postgresql' \
  --customize-hook='chroot "$1" install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data' \
  --customize-hook='chroot "$1" install -d -o postgres -g postgres -m 3777 /var/run/postgresql' \
  --customize-hook='sed -ri "s!^#?(listen_addresses)\s*=\s*\S+.*!\1 = '"'*'"'!" "$1/usr/share/postgresql/15/postgresql.conf.sample"' \
  --customize-hook='mkdir -p "$1/docker-entrypoint-initdb.d" "$1/etc/nats" "$1/config/caddy" "$1/data/caddy" "$1/srv" && ln -s busybox "$1/bin/wget"' \
  bookworm "$out" "$@"
