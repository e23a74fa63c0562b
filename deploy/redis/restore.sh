#!/bin/sh
# Put a backup (RDB, from `redis-cli --rdb`) in the place of the state of the stack's Redis, which must not run:
#   docker compose run --rm --no-deps -T -v "$PWD/deploy/redis:/backup:ro" redis sh /backup/restore.sh <backup.rdb
# A server with `appendonly yes` reads its append-only files alone, and starts empty without them: so a server
# without them reads the backup here, and writes them.
set -eu
data=${1:-/data}
socket=$(mktemp -d)/redis
cat >"$data/restored.rdb"
redis-check-rdb "$data/restored.rdb" >/dev/null || { echo "not a whole backup: nothing was changed" >&2; exit 1; }
ask() { redis-cli -s "$socket" "$@"; }

rm -rf "$data/appendonlydir"
redis-server --dir "$data" --dbfilename restored.rdb --save '' --port 0 --unixsocket "$socket" \
  --daemonize yes --logfile "$data/restore.log" >/dev/null
until [ "$(ask ping 2>/dev/null)" = PONG ]; do sleep 0.1; done  # until then it answers LOADING
ask config set appendonly yes >/dev/null
until ask info persistence | grep -q '^aof_rewrite_in_progress:0' \
  && ask info persistence | grep -q '^aof_last_bgrewrite_status:ok' \
  && ask info persistence | grep -q '^aof_base_size:[1-9]'; do sleep 0.1; done
echo "keys restored: $(ask dbsize)"
ask shutdown nosave
rm -f "$data/restored.rdb" "$data/restore.log"
