#!/bin/sh
# The front page; it answers 200 only when the database does.
. /usr/share/guestbook/answer.sh

if count=$(ask "SELECT count(*) FROM entries" 2>&1); then
  answer "200 OK" "Guestbook: $count entries"
else
  answer "503 Service Unavailable" "the database does not answer: $count"
fi
