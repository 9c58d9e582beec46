#!/bin/sh
set -eu

PGPASSWORD=$(cat "$DB_PASSWORD_FILE")
export PGPASSWORD

exec "$@"
