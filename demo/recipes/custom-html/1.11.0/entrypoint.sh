#!/bin/sh
set -eu

if [ -z "$(ls -A /srv)" ]; then
  cp /usr/share/site/index.html /srv/index.html
fi

# The first process of a container ignores signals it has no handler for.
trap 'kill $!; exit 143' TERM INT
httpd -f -p 80 -h /srv &
wait $!
