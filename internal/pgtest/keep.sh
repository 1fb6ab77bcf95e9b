# Keeps one PostgreSQL cluster for pgtest: obeys the words on its standard input, answers each with one
# line, and, when the input ends, stops the server and removes the folder. The input ends when the test
# process does, however it does: the kernel closes the pipe even after a SIGKILL.
#
# $1 is the folder of the programs, $2 the cluster's folder, and $3, if given, a port of 127.0.0.1 to listen on with TLS.
# $4 is PgBouncer's program, if it is installed.
bin=$1 dir=$2 port=$3 pgbouncer=$4 pooler=

# Connections come over the socket in the folder alone: no port, so nothing to clash with. Tests throw
# the data away, so nothing waits for the disk.
# In one line: pg_ctl hands it to a shell, which would end the command at a line end.
options="-c unix_socket_directories='$dir' -c port=${port:-5432} -c max_connections=200"
options="$options -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c timezone=UTC"
if [ "$port" ]; then
  options="$options -c listen_addresses=127.0.0.1 -c ssl=on -c ssl_cert_file='$dir/cert.pem' -c ssl_key_file='$dir/key.pem'"
else
  options="$options -c listen_addresses=''"
fi

while read -r word; do
  case $word in
  init)
    "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 &&
      # Over TCP only with TLS.
      { [ -z "$port" ] || printf 'local all all trust\nhostssl all all 127.0.0.1/32 trust\n' >"$dir/data/pg_hba.conf"; }
    ;;
  start) "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -o "$options" -w -t 120 start >/dev/null 2>&1 ;;
  pool)
    # In transaction mode, with few connections to the server that take turns: what a client has left in one, it does
    # not find in the next.
    {
      echo '[databases]'
      echo "* = host=$dir port=${port:-5432} user=postgres"
      echo '[pgbouncer]'
      printf '%s\n' "unix_socket_dir = $dir" 'listen_addr =' 'listen_port = 6432' \
        'auth_type = any' 'pool_mode = transaction' 'default_pool_size = 3' 'server_round_robin = 1' 'max_client_conn = 500'
    } >"$dir/pgbouncer.ini"
    "$pgbouncer" -q "$dir/pgbouncer.ini" >>"$dir/log" 2>&1 &
    pooler=$!
    ;;
  stop) "$bin/pg_ctl" -D "$dir/data" -m fast -w -t 120 stop >/dev/null 2>&1 ;;
  esac
  echo $?
done

if [ "$pooler" ]; then
  kill "$pooler"
  wait "$pooler"
fi
"$bin/pg_ctl" -D "$dir/data" -m immediate -w -t 30 stop >/dev/null 2>&1
rm -rf "$dir"
