#!/usr/bin/env bash
# A private PostgreSQL cluster for comparisons.
#
#   postgres.sh install              installs PostgreSQL's programs unless they are there
#   postgres.sh start DIR bulk       makes and starts it in DIR, with memory for a
#                                    bulk load; prints its socket directory
#   postgres.sh start DIR defaults   the same with the settings it comes with
#   postgres.sh stop DIR             stops it and removes DIR
#
# It listens on a socket inside DIR only, so it meets no other server. As root
# it runs under another user, because PostgreSQL refuses root; DIR has to lie
# where that user may go. When the server's programs are missing and this is
# root on Debian or Ubuntu, they are installed from the distribution's
# packages; otherwise the script says what to install.
set -euo pipefail

die() { echo "postgres.sh: $*" >&2; exit 1; }

# The programs lie outside PATH on Debian.
find_programs() {
  local dir
  for dir in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -rn) \
             "$(dirname "$(command -v initdb 2>/dev/null || echo /nowhere/initdb)")"; do
    if [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/postgres" ]; then echo "$dir"; return; fi
  done
}

install_programs() {
  local what="the packages postgresql and postgresql-client (apt-get install postgresql postgresql-client)"
  command -v apt-get >/dev/null || die "PostgreSQL's server programs are missing: install PostgreSQL 15 or newer, then run this again"
  [ "$(id -u)" = 0 ] || die "PostgreSQL's server programs are missing: install $what as root, then run this again"
  echo "postgres.sh: installing PostgreSQL from the distribution's packages" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -q postgresql-common >&2 || { apt-get update -q >&2; apt-get install -y -q postgresql-common >&2; }
  # Without this the package would make and start a cluster of its own.
  mkdir -p /etc/postgresql-common/createcluster.d
  echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.d/kiln-bench.conf
  apt-get install -y -q postgresql postgresql-client >&2 || die "cannot install $what"
}

# as_owner runs a command as the user that the cluster belongs to.
as_owner() {
  if [ "$(id -u)" != 0 ]; then "$@"; return; fi
  runuser -u "$owner" -- "$@"
}

# need_programs finds the programs, and installs them if need be.
need_programs() {
  programs=$(find_programs)
  if [ -z "$programs" ] || ! command -v psql >/dev/null; then install_programs; programs=$(find_programs); fi
  [ -n "$programs" ] || die "PostgreSQL's server programs are still missing"
}

start() {
  need_programs
  mkdir -p "$dir"
  if [ "$(id -u)" = 0 ]; then chown "$owner" "$dir"; fi
  chmod 0700 "$dir"
  as_owner test -w "$dir" || die "user $owner may not reach $dir: choose another place (bench --work DIR)"
  cd "$dir"
  as_owner "$programs/initdb" --no-sync -D "$dir/cluster" -U postgres -A trust -E UTF8 --no-locale > "$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; die "initdb failed"; }
  cat >> "$dir/cluster/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$dir'
CONF
  # Durable as it comes (fsync and synchronous_commit stay on), with the memory
  # and the checkpoint distance that a bulk load wants.
  if [ "$settings" = bulk ]; then cat >> "$dir/cluster/postgresql.conf" <<CONF
shared_buffers = 1GB
maintenance_work_mem = 512MB
max_wal_size = 16GB
checkpoint_timeout = 30min
autovacuum = off
CONF
  fi
  as_owner "$programs/pg_ctl" -D "$dir/cluster" -l "$dir/server.log" -w -t 60 start > "$dir/start.log" 2>&1 || { cat "$dir/start.log" "$dir/server.log" >&2; die "the server did not start"; }
  echo "$dir"
}

stop() {
  programs=$(find_programs)
  cd "$dir"
  as_owner "$programs/pg_ctl" -D "$dir/cluster" -m immediate -w stop
  cd /
  rm -rf "$dir"
}

usage="usage: postgres.sh install, postgres.sh start DIR bulk|defaults, or postgres.sh stop DIR"
if [ "${1:-}" = install ]; then need_programs; exit; fi
[ $# -ge 2 ] || die "$usage"
settings=${3:-}
dir=$(realpath -m "$2")
owner=nobody
if id postgres >/dev/null 2>&1; then owner=postgres; fi
case "$1" in
  start) case "$settings" in bulk | defaults) start ;; *) die "$usage" ;; esac ;;
  stop) stop ;;
  *) die "$usage" ;;
esac
