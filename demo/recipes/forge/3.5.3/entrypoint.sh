#!/bin/sh
set -eu

token=$(sed -n 's/^INTERNAL_TOKEN = //p' /etc/forge/app.ini)
if [ "${#token}" -ne 40 ]; then
  echo "app.ini: INTERNAL_TOKEN needs 40 characters and has ${#token}" >&2
  exit 1
fi

mkdir -p /var/lib/forge/www
name=$(sed -n 's/^APP_NAME = //p' /etc/forge/app.ini)
echo "$name" > /var/lib/forge/www/index.html

# The first process of a container ignores signals it has no handler for.
trap 'kill $!; exit 143' TERM INT
httpd -f -p 80 -h /var/lib/forge/www &
wait $!
