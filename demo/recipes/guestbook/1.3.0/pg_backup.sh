#!/bin/sh
# Called by the hooks in compose.postgres.yml.
set -eu

dump=/var/lib/postgresql/data/backup.sql

case "${1:-}" in
  backup)
    # A dump that stopped half-way must not be taken for a whole one: it gets its name last.
    pg_dump -U "$POSTGRES_USER" "$POSTGRES_DB" > "$dump.part"
    mv "$dump.part" "$dump"
    ;;
  restore)
    psql -qX -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres \
      -c "DROP DATABASE IF EXISTS $POSTGRES_DB WITH (FORCE)" -c "CREATE DATABASE $POSTGRES_DB"
    psql -qX -v ON_ERROR_STOP=1 -1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -f "$dump" > /dev/null
    ;;
  *)
    echo "usage: $0 backup|restore" >&2
    exit 2
    ;;
esac
