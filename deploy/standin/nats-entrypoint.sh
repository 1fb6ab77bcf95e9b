#!/bin/sh
# As in the official image: flags alone, or a configuration, are for nats-server.
set -e
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
  set -- nats-server "$@"
fi
exec "$@"
