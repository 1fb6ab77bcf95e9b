# Keeps one PostgreSQL cluster for pgtest: obeys the words on its standard input, answers each with one
# line, and, when the input ends, stops the server and removes the folder. The input ends when the test
# process does, however it does: the kernel closes the pipe even after a SIGKILL.
#
# $1 is the folder of the programs, $2 the cluster's folder.
bin=$1 dir=$2

# Connections come over the socket in the folder alone: no port, so nothing to clash with. Tests throw
# the data away, so nothing waits for the disk.
options="-c listen_addresses='' -c unix_socket_directories='$dir' -c port=5432 -c max_connections=200
  -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c timezone=UTC"

while read -r word; do
  case $word in
  init) "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 ;;
  start) "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -o "$options" -w -t 120 start >/dev/null 2>&1 ;;
  stop) "$bin/pg_ctl" -D "$dir/data" -m fast -w -t 120 stop >/dev/null 2>&1 ;;
  esac
  echo $?
done

"$bin/pg_ctl" -D "$dir/data" -m immediate -w -t 30 stop >/dev/null 2>&1
rm -rf "$dir"
