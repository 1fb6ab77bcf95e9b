#!/bin/sh
# Runs every fuzz target of the module for some seconds each: FUZZTIME inputs, as 3000x, if it is not set. Not for a time:
# go test now and then takes the end of that for a failure ("context deadline exceeded", golang/go#75804).
set -eu
cd "$(dirname "$0")/.."
grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n 1 dirname | sort -u | while read -r dir; do
  sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' "$dir"/*_test.go | while read -r target; do
    go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-3000x}" -parallel 2 >/tmp/fuzz.$$ 2>&1 || {
      cat /tmp/fuzz.$$
      rm -f /tmp/fuzz.$$
      exit 1
    }
    rm -f /tmp/fuzz.$$
    echo "ok    $dir $target"
  done
done
