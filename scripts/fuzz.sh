#!/bin/sh
# Runs every fuzz target of the module, two at a time, with FUZZTIME inputs each. Defaults to 3000x.
# FUZZTIME is a number and not a time, since go test sometimes reports the end of a time as a failure ("context deadline
# exceeded", golang/go#75804). With a folder and a target, such as ./jobs FuzzKindCheck, it runs only that target.
# Coverage of other modules leads a fuzzer nowhere: they are compiled without its counters, in half the time. Each package is
# compiled once, and not for each of its targets. FUZZGUIDE=off fuzzes without coverage: for some hundred inputs that finds as
# much, and it needs no module compiled for the fuzzer, which takes minutes on a new machine.
set -eu
cd "$(dirname "$0")/.."
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
trap 'exit 1' HUP INT TERM # which runs the one above

# program DIR: the path of the test program of a folder.
program() { echo "$programs/$(echo "$1" | tr / _).test"; }

build() {
  if [ "${FUZZGUIDE:-on}" = off ]; then
    CGO_ENABLED=0 go test -trimpath -ldflags='-s -w' -c -o "$(program "$1")" "$1" # as the programs of the tests
  else
    go test -c -fuzz . -gcflags=all=-d=libfuzzer=0 -gcflags=std= -gcflags=./...= -o "$(program "$1")" "$1"
  fi
}

if [ $# = 2 ]; then
  folders=$1
  targets="$1 $2"
else
  folders=$(grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n 1 dirname | sort -u)
  targets=$(for dir in $folders; do sed -n "s,^func \(Fuzz[A-Za-z0-9]*\)(.*,$dir \1,p" "$dir"/*_test.go; done)
fi
for dir in $folders; do build "$dir"; done

# What xargs runs: a folder, a target, and the program. Exit code 255 makes xargs start no more.
# shellcheck disable=SC2016 # the variables are those of that shell
run='
  cd "$0"
  out=$("$2" -test.run "^\$" -test.fuzz "^$1\$" -test.fuzztime "$FUZZTIME" -test.fuzzcachedir "$2.$1" -test.parallel 1 2>&1) || {
    echo "$out"
    exit 255
  }
  echo "ok    $0 $1"'
export FUZZTIME="${FUZZTIME:-3000x}"
echo "$targets" | while read -r dir target; do
  echo "$dir $target $(program "$dir")"
done | xargs -n 3 -P 2 sh -c "$run"
