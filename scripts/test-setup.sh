#!/bin/sh
# Installs what the tests need besides Go: Chromium with fonts for text and emoji, Node.js, PostgreSQL's and MariaDB's
# server programs, PgBouncer; LibreOffice and openpyxl, which read workbooks; nginx, Caddy, Apache and systemd's tools, which read
# the files of deploy/ and docs/proxies.md; and strace, which shows syncs. With a Docker engine also Compose; the test of
# docker-compose.yml makes the images itself that are missing. It does nothing if everything is installed. Without the right to
# install, it prints what to install.
# It starts no server: the tests run servers of their own (internal/pgtest, internal/mariatest), and proxies.
set -eu

need=''

found=''
for program in chromium chromium-browser google-chrome google-chrome-stable; do
  if command -v "$program" >/dev/null 2>&1; then found=yes; fi
done
[ "$found" ] || need="$need chromium chromium-headless-shell" # the tests make do with the first

command -v gcc >/dev/null 2>&1 || need="$need gcc libc6-dev" # for the race detector

command -v node >/dev/null 2>&1 || need="$need nodejs"
command -v curl >/dev/null 2>&1 || need="$need curl" # for README's commands

found=''
for initdb in "$(command -v initdb 2>/dev/null || :)" /usr/lib/postgresql/*/bin/initdb; do
  if [ -x "$initdb" ]; then found=yes; fi
done
[ "$found" ] || need="$need postgresql"

[ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null 2>&1 || need="$need pgbouncer"

[ -x /usr/sbin/mariadbd ] || command -v mariadbd >/dev/null 2>&1 || need="$need mariadb-server"

# The variant without a user interface, which installs in under a minute.
command -v soffice >/dev/null 2>&1 || need="$need libreoffice-calc-nogui"
/usr/bin/python3 -c 'import openpyxl' >/dev/null 2>&1 || need="$need python3-openpyxl"

# On Debian nginx is only in root's PATH.
[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null 2>&1 || need="$need nginx-light"
command -v caddy >/dev/null 2>&1 || need="$need caddy"
[ -x /usr/sbin/apache2 ] || command -v apache2 >/dev/null 2>&1 || need="$need apache2-bin" # the program without its service
command -v systemd-analyze >/dev/null 2>&1 || need="$need systemd"
command -v strace >/dev/null 2>&1 || need="$need strace"

if docker version >/dev/null 2>&1; then
  docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null 2>&1 || need="$need docker-compose"
fi

# has_font FILE: whether the font is installed, in any folder of fonts.
has_font() {
  [ -n "$(find /usr/share/fonts /usr/local/share/fonts /Library/Fonts /System/Library/Fonts \
    -iname "$1" 2>/dev/null | head -n 1)" ]
}
has_font 'DejaVuSans.ttf' || has_font 'Arial*.ttf' || need="$need fonts-dejavu-core"
has_font '*Color*Emoji*.tt[fc]' || need="$need fonts-noto-color-emoji"

[ "$need" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "The tests need these programs and fonts, please install them:$need (on Debian: sudo apt-get install$need)" >&2
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
made=''
trap 'rm -f "$log" ${made:+"$policy"}' EXIT
trap 'exit 1' HUP INT TERM # runs the trap above

# run COMMAND...: quiet unless it fails.
run() {
  "$@" >"$log" 2>&1 </dev/null || { cat "$log" >&2; echo "Installing$need failed: $*" >&2; exit 1; }
}

# Debian's package would create a cluster for the whole machine and start it; this prevents it.
case $need in *postgresql*)
  mkdir -p /etc/postgresql-common/createcluster.d
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/hark-tests.conf
esac

# Packages start their servers, for instance on ports 80 and 2019; this prevents it.
if [ ! -e "$policy" ]; then
  made=yes
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

# shellcheck disable=SC2086 # $need is a list of words
if ! apt-get install -qq -y --no-install-recommends --dry-run $need >/dev/null 2>&1; then
  run apt-get update -qq
fi
# shellcheck disable=SC2086
run apt-get install -qq -y --no-install-recommends $need

# They must not start at boot either.
for service in nginx caddy mariadb pgbouncer; do
  case $need in *"$service"*)
    ! command -v systemctl >/dev/null 2>&1 || run systemctl disable "$service"
  esac
done
