#!/bin/sh
# Runs every fuzz target of the module for a few seconds each (FUZZTIME, 2s if it is not set).
set -eu
cd "$(dirname "$0")/.."
grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n 1 dirname | sort -u | while read -r dir; do
  sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' "$dir"/*_test.go | while read -r target; do
    go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-2s}" -parallel 2 >/tmp/fuzz.$$ 2>&1 || {
      cat /tmp/fuzz.$$
      rm -f /tmp/fuzz.$$
      exit 1
    }
    rm -f /tmp/fuzz.$$
    echo "ok    $dir $target"
  done
done
