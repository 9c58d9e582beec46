# Sourced by the pages.

# ask SQL [NAME=VALUE...]: run it with values quoted by psql, as :'NAME'.
ask() {
  sql=$1
  shift
  for value in "$@"; do
    set -- "$@" -v "$value"
    shift
  done
  # From standard input: psql does not put variables into the text of -c.
  echo "$sql" | PGCONNECT_TIMEOUT=2 psql -qXAt -F "$(printf '\t')" -v ON_ERROR_STOP=1 "$@" -f -
}

# answer STATUS TEXT
answer() {
  printf 'Status: %s\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\r\n%s\n' "$1" "$2"
}

# field NAME: one value of a form that was read into $form.
field() {
  raw=$(printf '%s' "$form" | tr '&' '\n' | sed -n "s/^$1=//p" | head -n 1)
  httpd -d "$raw"
}
