#!/bin/sh
set -eu

echo "$WELCOME_TEXT" > /srv/index.html

# The first process of a container ignores signals it has no handler for.
trap 'kill $voice $web; exit 143' TERM INT
nc -ll -p 64738 -e cat &
voice=$!
httpd -f -p 80 -h /srv &
web=$!
wait $web
