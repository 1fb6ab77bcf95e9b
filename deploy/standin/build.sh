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

# golang_context: the toolchain, the modules of go.mod, and what hark and the NATS server import: its sources, and its compiled
# packages. Those are in the build cache of this machine as a rule, because the programs of the tests are built with the flags of
# our Dockerfile. Layers of many files are slow, so it is one layer, with those files alone that go build reads.
golang_context() {
  local image=$tmp/image programs=(./cmd/hark github.com/nats-io/nats-server/v2) goroot cache
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
  rm -rf "$tmp/modules" # the engine would be sent it
}

# nats_context: the server of go.mod, built by golang's image, which may be a stand-in or real.
nats_context() {
  container=$(docker create --workdir /src --env CGO_ENABLED=0 golang:1.26-bookworm \
    go build -trimpath -ldflags '-s -w' -o /nats-server github.com/nats-io/nats-server/v2)
  mkdir "$tmp/src"
  cp "${go_mod[@]}" "$tmp/src"
  run docker cp "$tmp/src/." "$container:/src"
  run docker start --attach "$container"
  run docker cp "$container:/nats-server" "$tmp/nats-server"
}

# What an image is built from: of go.mod only what go.sum has of it, because that is what is in the image.
go_mod=("$root/go.mod" "$root/go.sum")
base_hash=$(hash base.sh)
go_hash=$({ hash base.sh golang.Dockerfile "$root/go.sum"; declare -f golang_context; go version; } | hash -)
nats_hash=$({ hash base.sh nats*; declare -f nats_context; (cd "$root" && go list -m github.com/nats-io/nats-server/v2); } | hash -)
postgres_hash=$(hash base.sh postgres*)
caddy_hash=$(hash base.sh caddy*)

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
  [ -z "$container" ] || docker rm -f "$container" >/dev/null 2>&1 || :
  container=''
  chmod -R u+w "$tmp"
  rm -rf "$tmp"
}
trap cleanup EXIT

for entry in "${todo[@]}"; do
  read -r image hash <<<"$entry"
  name=${image%%:*}
  say "$image …"
  old=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || :)
  case $name in golang | nats) "${name}_context" ;; esac
  for file in "$name.Dockerfile" "$name"-entrypoint.sh; do
    if [ -e "$file" ]; then cp "$file" "$tmp"; fi
  done
  run docker build --force-rm --file "$tmp/$name.Dockerfile" --label "$label=$hash" --tag "$image" "$tmp"
  cleanup
  mkdir "$tmp"
  # What it replaces goes, unless a container still uses it.
  [ -z "$old" ] || docker image rm "$old" >/dev/null 2>&1 || :
done
