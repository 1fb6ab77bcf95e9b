#!/bin/bash
# build.sh [base]: builds stand-ins for the public images that Dockerfile and docker-compose.yml name, for machines whose Docker engine
# has no registry to pull from. The images have the same names and tags, and the same entry points, variables, users
# and paths as the official ones, as far as our files use them. They are for tests only. With "base" it builds only the root file
# system that they share, which is mostly apt's work: `make test` does that while the tests are compiled.
#
# What exists and is current is kept, and so is every image of that name that is not a stand-in. To remove them all:
#   docker image rm $(docker image ls -q --filter label=hark.standin)
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)

base=hark-standin-base:bookworm
label=hark.standin # its value is the hash of what the image was built from

say() { echo "standin: $*" >&2; }

docker version >/dev/null 2>&1 || { say 'no Docker engine answers'; exit 1; }

# keep IMAGE HASH: whether the image can stay as it is.
keep() {
  local have
  have=$(docker image inspect --format "{{index .Config.Labels \"$label\"}}|" "$1" 2>/dev/null) || return 1
  [ "$have" != '|' ] || { say "$1 is a real image and stays"; return 0; }
  [ "$have" = "$2|" ]
}

# hash FILE...: the hash of what the files hold.
hash() { cat -- "$@" | sha256sum | cut -c1-16; }

# run COMMAND...: quiet unless it fails.
run() { "$@" >"$tmp/log" 2>&1 </dev/null || { cat "$tmp/log" >&2; say "failed: $*"; exit 1; }; }

# golang_files: the toolchain, the modules of go.mod, and what hark imports: its sources, and its compiled packages. Those are in the
# build cache of this machine as a rule, because the programs of the tests are built with the flags of our Dockerfile. Layers of many
# files are slow, so they are those files alone that go build reads.
golang_files() {
  local image=$1 programs=(./cmd/hark) goroot cache
  goroot=$(go env GOROOT) cache=$(go env GOCACHE)
  mkdir -p "$image/usr/local/go" "$image/go/pkg/mod" "$image/root/.cache/go-build"
  (
    cd "$root"
    export CGO_ENABLED=0 GOFLAGS=-modcacherw GOMODCACHE=$tmp/modules GOSUMDB=off
    GOPROXY="file://$(GOMODCACHE='' go env GOMODCACHE)/cache/download,$(go env GOPROXY)" run go mod download

    run go list -trimpath -export -deps "${programs[@]}"
    go list -trimpath -export -deps -f '{{if not (and .Module .Module.Main)}}{{.Export}}{{end}}' "${programs[@]}" >"$tmp/exports"
    # An entry of the cache is "v1 ACTION OUTPUT size time", in the file xx/ACTION-a, where xx is its beginning.
    find "$cache" -name '*-a' -exec cat {} + | awk -v exports="$tmp/exports" '
      BEGIN { while ((getline path <exports) > 0) { sub(".*/", "", path); sub("-d$", "", path); wanted[path] = 1 } }
      $3 in wanted { print substr($2, 1, 2) "/" $2 "-a"; print substr($3, 1, 2) "/" $3 "-d" }' |
      sort -u | tar -C "$cache" -cf - -T - | tar -C "$image/root/.cache/go-build" --no-same-owner -xf -

    go list -deps -f '{{$dir := .Dir}}
      {{- range .GoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{range .SFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}
      {{- range .HFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$dir}}/{{.}}{{"\n"}}{{end -}}' "${programs[@]}" >"$tmp/sources"
    cd "$goroot"
    { sed -n "s,^$goroot/,,p" "$tmp/sources"; ls -d VERSION go.env bin pkg/include pkg/tool src/go.mod src/vendor/modules.txt; } |
      tar -cf - -T - | tar -C "$image/usr/local/go" --no-same-owner -xf -
    # A module that is not there would be unpacked; its folder is enough.
    cd "$GOMODCACHE"
    { sed -n "s,^$GOMODCACHE/,,p" "$tmp/sources"; echo cache; } | tar -cf - -T - | tar -C "$image/go/pkg/mod" --no-same-owner -xf -
    find . -type d -name '*@*' -prune -print0 | (cd "$image/go/pkg/mod" && xargs -0 mkdir -p)
  )
}

nats_files() {
  mkdir -p "$1/usr/local/bin"
  run env CGO_ENABLED=0 go build -C "$root" -trimpath -ldflags '-s -w' -o "$1/usr/local/bin/nats-server" github.com/nats-io/nats-server/v2
  cp nats-entrypoint.sh "$1/usr/local/bin/docker-entrypoint.sh"
}

postgres_files() {
  mkdir -p "$1/usr/local/bin"
  cp postgres-entrypoint.sh "$1/usr/local/bin/docker-entrypoint.sh"
}

caddy_files() { :; }

path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# config NAME: the configuration of an image, in the instructions of a Dockerfile. PostgreSQL's own programs are before Debian's of the
# same names, which are Perl.
config() {
  case $1 in
    golang) cat <<END ;;
ENV PATH=/go/bin:/usr/local/go/bin:$path GOPATH=/go GOTOOLCHAIN=local GOPROXY=file:///go/pkg/mod/cache/download GOSUMDB=off
WORKDIR /go
END
    nats) cat <<END ;;
ENV PATH=$path
EXPOSE 4222 8222 6222
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["nats-server", "--config", "/etc/nats/nats-server.conf"]
END
    postgres) cat <<END ;;
ENV PATH=/usr/lib/postgresql/15/bin:$path LANG=C.UTF-8 PG_MAJOR=15 PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
EXPOSE 5432
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
END
    caddy) cat <<END ;;
ENV PATH=$path XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
EXPOSE 80 443 443/udp 2019
WORKDIR /srv
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
END
  esac
}

# What an image is made of.
base_hash=$(hash base.sh)
go_hash=$({ hash base.sh build.sh "$root/go.sum"; go version; } | hash -)
nats_hash=$({ hash base.sh build.sh nats*; go list -C "$root" -m github.com/nats-io/nats-server/v2; } | hash -)
postgres_hash=$(hash base.sh build.sh postgres*)
caddy_hash=$(hash base.sh build.sh)

todo=()
keep golang:1.26-bookworm "$go_hash" || todo+=("golang:1.26-bookworm $go_hash")
keep nats:2.15-alpine "$nats_hash" || todo+=("nats:2.15-alpine $nats_hash")
keep postgres:15 "$postgres_hash" || todo+=("postgres:15 $postgres_hash")
keep caddy:2 "$caddy_hash" || todo+=("caddy:2 $caddy_hash")
[ ${#todo[@]} -gt 0 ] || exit 0

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

if ! keep "$base" "$base_hash"; then
  say "$base …"
  run ./base.sh "$tmp/base.tar"
  run docker import --change "LABEL $label=$base_hash" "$tmp/base.tar" "$base"
  rm "$tmp/base.tar"
fi
[ "${1-}" != base ] || exit 0

container=''
cleanup() {
  [ -z "$container" ] || docker rm -f -v "$container" >/dev/null 2>&1 || :
  container=''
  chmod -R u+w "$tmp"
  rm -rf "$tmp"
}
trap cleanup EXIT

# Each image is committed once, with its files and its configuration. docker build would commit it after each line of a Dockerfile, and
# an engine without overlayfs takes five seconds for each commit.
for entry in "${todo[@]}"; do
  read -r image hash <<<"$entry"
  name=${image%%:*}
  say "$image …"
  old=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || :)
  mkdir -p "$tmp/files"
  "${name}_files" "$tmp/files"
  signal=SIGTERM
  [ "$name" != postgres ] || signal=SIGINT # as in the official image; docker commit has no instruction for it
  container=$(docker create --stop-signal "$signal" "$base" /bin/true)
  run docker cp "$tmp/files/." "$container:/"
  changes=(--change "LABEL $label=$hash")
  while read -r line; do changes+=(--change "$line"); done < <(config "$name")
  run docker commit "${changes[@]}" "$container" "$image"
  cleanup
  mkdir "$tmp"
  # What it replaces goes, unless a container still uses it.
  [ -z "$old" ] || docker image rm "$old" >/dev/null 2>&1 || :
done
