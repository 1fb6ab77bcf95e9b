#!/bin/sh
# Makes the secrets of docker-compose.yml at the first start, each into the volume of the service that reads it. What
# exists stays. A file appears whole or not at all, so this may be stopped at any moment and run again.
#
#   /secrets/notifier  jwt-secret, nats-password, database-url     for hark, user 65532
#   /secrets/worker    nats-password                               for hark, user 65532
#   /secrets/nats      auth.conf, routes.conf                      for nats-server, root
#   /secrets/postgres  password                                    for PostgreSQL, user 999
set -eu
umask 077
dir=${1:-/secrets}

# random: 256 bits that need no quoting in a URL or a configuration.
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }

# put OWNER FILE TEXT: writes the file unless it exists.
put() {
  file=$dir/$2
  [ ! -e "$file" ] || return 0
  printf '%s\n' "$3" >"$file.new"
  chmod 0400 "$file.new"
  chown "$1:$1" "$file.new"
  sync "$file.new"
  mv "$file.new" "$file"
  echo "made $2"
}

put 65532 notifier/jwt-secret "$(random)"

put 65532 notifier/nats-password "$(random)"
nats_password=$(cat "$dir/notifier/nats-password")
put 65532 worker/nats-password "$nats_password"
put 0 nats/auth.conf "user: hark, password: \"$nats_password\""

route_password=$(random)
put 0 nats/routes.conf "authorization { user: route, password: \"$route_password\" }
routes: [
  nats://route:$route_password@nats-1:6222
  nats://route:$route_password@nats-2:6222
  nats://route:$route_password@nats-3:6222
]"

put 999 postgres/password "$(random)"
put 65532 notifier/database-url "postgres://hark:$(cat "$dir/postgres/password")@postgres:5432/hark?sslmode=disable"

# The folders are their readers' as well.
chown 65532:65532 "$dir/notifier" "$dir/worker"
chown 999:999 "$dir/postgres"
chmod 0500 "$dir/notifier" "$dir/worker" "$dir/nats" "$dir/postgres"
