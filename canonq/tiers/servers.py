"""Questions to the database servers that an app has: in their own container, by their own client, as whoever it may be there.

The official images say by their environment, or by files that it names, who may come in; the socket lets root in where nothing
does. No password is an argument of any program.
"""

# ruff: noqa: E501, S608 - the statements are canonq's own
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from canonq.core.errors import RecipeProblem, TimedOut
from canonq.core.stack.census import MOST_ROWS, DatabaseCount
from canonq.core.stack.databases import (
    MONGO,
    MYSQLS,
    NOT_YET,
    POSTGRES,
    REDIS,
    Reading,
    kinds_of_processes,
    like,
    reading,
    server_kind,
    wants_password,
    way_into_redis,
)
from canonq.core.text import readable
from canonq.ports import Data

_TIMEOUT = 60.0  #: seconds for one question
# What a container's programs print is its own doing.
_NUMBER, _DATABASE = re.compile(r"[0-9]{1,15}"), re.compile(r"db[0-9]{1,5}")
_OF_THE_SERVER = "postgres"
_FIRST = "db0"  #: of a Redis, in which canonq's own keys are
_MOST_TABLES, _LONGEST = 10_000, 200  #: tables of a server; characters of a name
TABLE, LEDGER = "canonq_marker", "canonq_ledger"
DESTROYED = "destroyed"  #: what is in the place of a mark that a restore has to bring back

# `given NAME`: the value of a variable, or of the file that NAME_FILE or FILE__NAME names.
_GIVEN = (
    'given() { eval "v=\\${$1:-}"; if [ -z "$v" ]; then eval "w=\\${$1_FILE:-\\${FILE__$1:-}}"; [ -z "$w" ] || v=$(cat "$w" 2>/dev/null); fi; '
    'printf %s "$v"; }\n'
    'first() { for n in "$@"; do v=$(given "$n"); [ -z "$v" ] || { printf %s "$v"; return; }; done; }\n'
)

# Servers speak many languages: SQLSTATEs and pg_isready say the same in all of them.
# Who asks is what the images of postgres, Bitnami and Red Hat are told; a socket may want a password, too. An app may have its
# tables in another database than the one that the image was told of: a mark goes there, and is looked for where there is one.
_OWN = f"NOT IN ('{TABLE}', '{LEDGER}')"
_PSQL = (
    'u=$(first POSTGRES_USER POSTGRESQL_USERNAME POSTGRESQL_USER); u="${u:-postgres}"\n'
    'd=$(first POSTGRES_DB POSTGRES_DATABASE POSTGRESQL_DATABASE); d="${d:-$u}"\n'
    'w=$(first POSTGRES_PASSWORD POSTGRESQL_PASSWORD); [ -z "$w" ] || export PGPASSWORD="$w"\n'
    'p() { psql -X -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -qtA -U "$u" "$@"; }\n'
    "all() { p -d \"$d\" -c 'SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate'; }\n"
    'has() { p -d "$1" -c "SELECT count(*) FROM pg_tables WHERE schemaname !~ '
    "'^pg_' AND schemaname <> 'information_schema' AND tablename $2\" 2>/dev/null </dev/null; }\n"
    'most() { all 2>/dev/null | { x=$d; n=$(has "$d" "$1"); while IFS= read -r b; do m=$(has "$b" "$1"); '
    '[ "${m:-0}" -le "${n:-0}" ] || { n=$m; x=$b; }; done; printf %s "$x"; }; }\n'
    # Where canonq's mark is; of several places, one where it was not written over.
    f'marked() {{ {{ echo "$d"; all 2>/dev/null; }} | {{ x=; while IFS= read -r b; do n=$(has "$b" "= \'{TABLE}\'"); '
    f'[ "${{n:-0}}" != 0 ] || continue; [ -n "$x" ] || x=$b; t=$(p -d "$b" -c "SELECT text FROM {TABLE}" 2>/dev/null </dev/null); '
    f'[ "$t" = {DESTROYED} ] || {{ x=$b; break; }}; done; printf %s "$x"; }}; }}\n'
    'case "$0" in\n'
    'count) echo "main $d"; l=$(all); s=$?; [ "$s" != 0 ] || { printf "%s\\n" "$l" | while IFS= read -r b; do echo "in $b"; '
    'printf "%s\\n" "$1" | p -F "$2" -d "$b" || exit 1; done; exit $?; };;\n'
    f'write|enter) [ "$(has "$d" "{_OWN}")" != 0 ] || d=$(most "{_OWN}");;\n'
    f"entered) d=$(most \"= '{LEDGER}'\");;\n"
    # With no mark and no table of the app's, there is nothing that a restore could meet.
    f'destroy) x=$(marked); if [ -n "$x" ]; then d=$x; else [ "$(has "$d" "{_OWN}")" != 0 ] || d=$(most "{_OWN}"); '
    f'[ "$(has "$d" "{_OWN}")" != 0 ] || exit 0; fi;;\n'
    "*) x=$(marked); d=${x:-$d};;\n"
    "esac\n"
    '[ "$0" = count ] || { p -d "$d" -c "$1"; s=$?; }\n'
    f'[ "$s" = 2 ] || exit "$s"; pg_isready -q; case $? in 1|2) exit {NOT_YET};; esac; exit 2'
)
# Schemas of `pg_` are the server's own, and hold the temporary tables of other sessions, which nobody else may read.
_PG_COUNT = (
    "SELECT format('SELECT %L, count(*) FROM (SELECT 1 FROM %I.%I LIMIT " + str(MOST_ROWS) + ") x', "
    "CASE schemaname WHEN 'public' THEN tablename ELSE schemaname || '.' || tablename END, schemaname, tablename) FROM pg_tables "
    f"WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema' AND tablename {_OWN} \\gexec"
)

# What is in memory only goes with each start, and is nothing to keep.
_MYSQL_TABLES = (
    "table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND COALESCE(engine, '') <> 'MEMORY' AND table_schema NOT IN "
    "('mysql', 'information_schema', 'performance_schema', 'sys')"
)
_MYSQL = (
    "c=$(command -v mariadb || command -v mysql) || exit 127\n"
    "d=$(first MARIADB_DATABASE MYSQL_DATABASE)\n"
    'as() { u=$1; export MYSQL_PWD="$2"; e=$("$c" -u "$u" -N -B -e "SELECT 1" 2>&1 >/dev/null); }\n'
    'as root "$(first MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD)" || as root "" || '
    'as "$(first MARIADB_USER MYSQL_USER)" "$(first MARIADB_PASSWORD MYSQL_PASSWORD)" || { printf "%s\\n" "$e" >&2; exit 1; }\n'
    'q() { "$c" -u "$u" -N -B "$@"; }\n'
    # The schemas with tables that are `$1`, that with the most first; the one that the image was told of comes before all.
    'of() { q ${d:+-D "$d"} -e "SELECT table_schema FROM information_schema.tables WHERE '
    f"{_MYSQL_TABLES} AND table_name $1 GROUP BY table_schema "
    'ORDER BY COALESCE(table_schema = DATABASE(), 0) DESC, COUNT(*) DESC, 1 LIMIT ${2:-1}"; }\n'
    f'marked() {{ of "= \'{TABLE}\'" 100 | {{ x=; while IFS= read -r s; do [ -n "$x" ] || x=$s; '
    f't=$(q -D "$s" -e "SELECT text FROM {TABLE}" 2>/dev/null </dev/null); '
    f'[ "$t" = {DESTROYED} ] || {{ x=$s; break; }}; done; printf %s "$x"; }}; }}\n'
    '[ -n "$d" ] || d=$(q -e "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN '
    "('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY 1 LIMIT 1\")\n"
    'case "$0" in\n'
    'count) echo "main $d"; l=$(q --raw -e "$1") || exit 1; [ -z "$l" ] || printf "%s\\n" "$l" | q; exit $?;;\n'
    f'write|enter) w=$(of "{_OWN}");;\n'
    f"entered) w=$(of \"= '{LEDGER}'\");;\n"
    f'destroy) w=$(marked); [ -n "$w" ] || w=$(of "{_OWN}") || exit 1; [ -n "$w" ] || exit 0;;\n'
    "*) w=$(marked);;\n"
    "esac\n"
    'd="${w:-$d}"; [ -n "$d" ] || { echo "it has no database yet" >&2; exit 1; }; q -D "$d" -e "$1"'
)
_MYSQL_COUNT = (
    "SELECT CONCAT('SELECT ', QUOTE(table_schema), ', ', QUOTE(table_name), ', COUNT(*) FROM (SELECT 1 FROM `', "
    "REPLACE(table_schema, '`', '``'), '`.`', REPLACE(table_name, '`', '``'), '` LIMIT " + str(MOST_ROWS) + ") x;') "
    f"FROM information_schema.tables WHERE {_MYSQL_TABLES} AND table_name {_OWN}"
)

# A Redis keeps something where it writes it down; what expires may be gone at any time.
_REDIS = (
    "c=$(command -v redis-cli || command -v valkey-cli) || exit 127\n"
    "a=$(first REDISCLI_AUTH REDIS_PASSWORD VALKEY_PASSWORD)\n"
    '[ -z "${GIVEN_CONF:-}" ] || f=$(sed -n \'s/^[[:space:]]*requirepass[[:space:]][[:space:]]*"\\{0,1\\}\\([^"]*\\)"\\{0,1\\}'
    '[[:space:]]*$/\\1/p\' "$GIVEN_CONF" 2>/dev/null | tail -n 1)\n'
    "a=${f:-$a}\n"
    '[ -z "${GIVEN_WORD:-}" ] || a=$(eval "a=$GIVEN_WORD" 2>/dev/null; printf %s "$a")\n'
    '[ -z "$a" ] || export REDISCLI_AUTH="$a"\n'
    'q() { "$c" --no-auth-warning "$@"; }\n'
    'w=$(q PING 2>&1); [ "$w" = PONG ] || { printf "%s\\n" "$w" >&2; exit 1; }\n'
    'case "$0" in\n'
    "count) q CONFIG GET dir; q CONFIG GET save; q CONFIG GET appendonly; echo keyspace; q INFO keyspace; echo own; "
    f"q EXISTS {TABLE} {LEDGER};;\n"
    f'write) q SET {TABLE} "$1" >/dev/null;; read) q GET {TABLE};;\n'
    f'enter) q SADD {LEDGER} "$1" >/dev/null;; entered) q SMEMBERS {LEDGER};; esac'
)

_MONGO = (
    "c=$(command -v mongosh || command -v mongo) || exit 127\n"
    "export CANONQ_U=$(given MONGO_INITDB_ROOT_USERNAME) CANONQ_P=$(given MONGO_INITDB_ROOT_PASSWORD)\n"
    "export CANONQ_W=$0 CANONQ_T=$1\n"
    '"$c" --quiet --norc --eval "$2"'
)
_MONGO_CODE = (
    "var e = function (k) { return typeof process !== 'undefined' && process.env ? process.env[k] : _getEnv(k); }; "
    "if (e('CANONQ_U')) { db.getSiblingDB('admin').auth(e('CANONQ_U'), e('CANONQ_P')); } "
    "var own = db.getSiblingDB('admin').runCommand({listDatabases: 1, nameOnly: true}).databases.map(function (d) { return d.name; })"
    ".filter(function (n) { return ['admin', 'config', 'local'].indexOf(n) < 0; }); "
    "var at = db.getSiblingDB(own.length ? own[0] : 'canonq'); var t = e('CANONQ_T'); "
    "switch (e('CANONQ_W')) { "
    f"case 'write': at.{TABLE}.deleteMany({{}}); at.{TABLE}.insertOne({{_id: 1, text: t}}); break; "
    f"case 'read': own.forEach(function (n) {{ db.getSiblingDB(n).{TABLE}.find().forEach(function (d) {{ print(d.text); }}); }}); break; "
    f"case 'enter': at.{LEDGER}.insertOne({{text: t}}); break; "
    f"case 'entered': own.forEach(function (n) {{ db.getSiblingDB(n).{LEDGER}.find().forEach(function (d) {{ print(d.text); }}); }}); break; "
    f"case 'destroy': var has = own.filter(function (n) {{ return db.getSiblingDB(n).{TABLE}.findOne(); }}); "
    f"(has.length ? has.map(function (n) {{ return db.getSiblingDB(n); }}) : own.length ? [at] : []).forEach(function (d) {{ "
    f"d.{TABLE}.deleteMany({{}}); d.{TABLE}.insertOne({{_id: 1, text: t}}); }}); break; "
    "case 'count': print('main ' + (own[0] || '')); own.forEach(function (n) { db.getSiblingDB(n).getCollectionInfos({type: 'collection'})"
    f".forEach(function (c) {{ if (c.name !== '{TABLE}' && c.name !== '{LEDGER}' && c.name.indexOf('system.') !== 0) {{ "
    "print(n + '\\t' + c.name + '\\t' + db.getSiblingDB(n).getCollection(c.name).estimatedDocumentCount()); } }); }); }"
)

#: Kind -> the script, and what `count` hands to it.
_SCRIPTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    POSTGRES: (_PSQL, (_PG_COUNT, "\t")),
    **dict.fromkeys(MYSQLS, (_MYSQL, (_MYSQL_COUNT,))),
    REDIS: (_REDIS, ()),
    MONGO: (_MONGO, ("", _MONGO_CODE)),
}
# One row under one key: a restore that does not replace what is there leaves a destroyed mark as it is, as it would an app's rows.
_MARK = (
    f"DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} (one INT PRIMARY KEY, text VARCHAR(500)); "
    f"INSERT INTO {TABLE} VALUES (1, '%s')"
)
_MADE = {"write": TABLE, "destroy": TABLE, "enter": LEDGER}
_ITS_TABLE: Mapping[str, str] = {**_MADE, "read": TABLE, "entered": LEDGER}
_SQL: Mapping[str, str] = {
    "write": _MARK,
    "read": f"SELECT text FROM {TABLE}",
    "destroy": _MARK,
    "enter": f"CREATE TABLE IF NOT EXISTS {LEDGER} (text VARCHAR(500)); INSERT INTO {LEDGER} VALUES ('%s')",
    "entered": f"SELECT text FROM {LEDGER}",
}
# Whose own tables are in none of the schemas that are looked into by themselves has a mark where most of them are: that is what is
# dumped. It stays in the schema that it is in.
_PG_THEIR_TABLES = f"FROM pg_tables WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema' AND tablename {_OWN}"
_PG_WITHIN = (
    "DO $canonq$ DECLARE s name; BEGIN "
    "SELECT schemaname INTO s FROM pg_tables WHERE tablename = '{table}' AND schemaname !~ '^pg_' LIMIT 1; "
    f"IF s IS NULL AND NOT EXISTS (SELECT {_PG_THEIR_TABLES} AND schemaname = current_schema()) THEN "
    f"SELECT schemaname INTO s {_PG_THEIR_TABLES} AND schemaname NOT IN (SELECT n.nspname FROM pg_namespace n JOIN pg_depend e "
    "ON e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e') GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1; "
    "END IF; IF s IS NOT NULL THEN "
    "PERFORM set_config('search_path', quote_ident(s) || ', ' || current_setting('search_path'), true); "
    "END IF; END $canonq$; "
)
# What a superuser makes can be dumped and replaced by nobody else: it is given to whom most of the app's tables are, and whoever
# may read one of those may read it, too.
_PG_THEIRS = (
    "; DO $canonq$ DECLARE o name; t regclass; g record; BEGIN "
    f"SELECT tableowner INTO o {_PG_THEIR_TABLES} GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1; "
    f"FOREACH t IN ARRAY ARRAY[to_regclass('{TABLE}'), to_regclass('{LEDGER}')] LOOP CONTINUE WHEN t IS NULL; "
    "IF o IS NOT NULL THEN EXECUTE format('ALTER TABLE %s OWNER TO %I', t, o); END IF; "
    "FOR g IN SELECT DISTINCT grantee AS to_whom FROM information_schema.role_table_grants WHERE privilege_type = 'SELECT' "
    f"AND table_schema !~ '^pg_' AND table_schema <> 'information_schema' AND table_name {_OWN} "
    "AND grantee <> COALESCE(o, '') LOOP EXECUTE format('GRANT SELECT ON %s TO ', t) || "
    "CASE g.to_whom WHEN 'PUBLIC' THEN 'PUBLIC' ELSE quote_ident(g.to_whom) END; END LOOP; END LOOP; "
    "EXCEPTION WHEN insufficient_privilege THEN NULL; END $canonq$"
)
#: Kind -> which database canonq's marker is in.
_WHERE: Mapping[str, str] = {POSTGRES: "SELECT current_database()", **dict.fromkeys(MYSQLS, "SELECT DATABASE()")}


@dataclass(frozen=True)
class Servers:
    """The database servers of what runs."""

    kinds: Mapping[str, str]  #: service -> kind of the one that is marked and counted in it
    beside: Mapping[str, tuple[str, ...]]  #: service -> kinds of those that run in the same container


def found_in(data: Data, stack: str, images: Mapping[str, str]) -> Servers:
    """The servers among services (service -> image), by their images' names, or by what runs in their containers."""
    kinds, beside = {}, {}
    for service, image in sorted(images.items()):
        named = server_kind(image)
        found = (named,) if named is not None else _running(data, stack, service)
        if found:
            kinds[service] = found[0]
        if found[1:]:
            beside[service] = found[1:]
    return Servers(kinds, beside)


def like_it(data: Data, stack: str, place: str, kind: str, kinds: Mapping[str, str]) -> dict[str, str]:
    """Service -> kind of the servers (`kinds`) that may have what a server of this kind at `place` had. Where none of them may,
    it is looked at what runs there now: it may be beside another one, or have been starting still."""
    if found := like(place, kind, kinds):
        return found
    looked = (like(place, kind, {place: running}) for running in _running(data, stack, place))
    return next(filter(None, looked), {})


def _running(data: Data, stack: str, service: str) -> tuple[str, ...]:
    try:
        ended = data.execute(stack, service, ["sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null", "comm", "of", "all"], _TIMEOUT)
    except (RecipeProblem, TimedOut):
        return ()
    return kinds_of_processes(ended.output.split())


def ask(data: Data, stack: str, service: str, kind: str, what: str, text: str = "") -> Reading:
    """Write or read canonq's marker in a server, `destroy` it by writing another text over it, `enter` a text into its ledger, or ask for all that was `entered`.

    Docker that does not answer is not the server's answer.
    """
    script, more = _SCRIPTS[kind]
    said = _SQL[what].replace("%s", text.replace("'", "''")) if kind in (*MYSQLS, POSTGRES) else text
    if kind == POSTGRES:
        said = _PG_WITHIN.replace("{table}", _ITS_TABLE[what]) + said + (_PG_THEIRS if what in _MADE else "")
    return _asked(data, stack, service, kind, ["sh", "-c", _GIVEN + script, what, said, *(more[1:] if kind == MONGO else ())])


def home(data: Data, stack: str, service: str, kind: str) -> str:
    """The database of a server that canonq's marker is in; empty where that is not known."""
    if kind not in _WHERE:
        return ""
    said = _asked(data, stack, service, kind, ["sh", "-c", _GIVEN + _SCRIPTS[kind][0], "where", _WHERE[kind]])
    return said.lines[0].strip() if said.state == "answered" and said.lines else ""


def _asked(data: Data, stack: str, service: str, kind: str, command: list[str]) -> Reading:
    try:
        ended = data.execute(stack, service, command, _TIMEOUT)
        said = reading(ended.status, ended.answer, ended.errors, kind)
        if kind == REDIS and wants_password(said) and (given := way_into_redis(data.started_as(stack, service))):
            ended = data.execute(stack, service, command, _TIMEOUT, given)
            said = reading(ended.status, ended.answer, ended.errors, kind)
    except (RecipeProblem, TimedOut) as error:
        return Reading("not-yet", why=error.what)
    return said


def count(data: Data, stack: str, service: str, kind: str) -> DatabaseCount | None:
    """Its tables and their rows; None for a store that writes nothing down, of which nothing is missed."""
    if kind not in _SCRIPTS:
        return DatabaseCount(kind=kind, why_not="canonq does not know how to ask it")
    script, more = _SCRIPTS[kind]
    said = _asked(data, stack, service, kind, ["sh", "-c", _GIVEN + script, "count", *more])
    if said.state != "answered":
        return DatabaseCount(kind=kind, why_not=said.why)
    if kind == REDIS:
        kept = _kept_by_redis(data, stack, service, said.lines)
        return None if kept is None else DatabaseCount(kind=kind, tables=kept)
    tables, databases = read_counts(said.lines)
    return DatabaseCount(kind=kind, tables=tables, unmarked=_beside(databases, always_main=kind == MONGO))


@dataclass
class Tables:
    """How many there are in a database."""

    all: int = 0
    filled: int = 0  #: with rows


def _beside(databases: Mapping[str, Tables], *, always_main: bool) -> tuple[str, ...]:
    """Of databases (the app's main one first), those with rows that take no mark. One that the server makes for whoever
    administers it is none, unless it is the main one.

    As the scripts choose: the main one takes the mark where it has a table (`always_main`: anyhow), else the one with most.
    """
    main = next(iter(databases), "")
    chosen = always_main or (main in databases and databases[main].all)
    marked = main if chosen else max(databases, key=lambda name: databases[name].all, default="")
    filled = [name for name, tables in databases.items() if tables.filled and (name == main or name != _OF_THE_SERVER)]
    return tuple(readable(name)[:_LONGEST] for name in filled if name != marked)


def read_counts(lines: tuple[str, ...]) -> tuple[dict[str, int], dict[str, Tables]]:
    """Table -> rows of what `count` printed, and database -> its tables, the app's main one first.

    Tables that are not in that one have the name of theirs before them.
    """
    main = within = ""
    found: dict[str, int] = {}
    databases: dict[str, Tables] = {}
    for line in lines:
        if line.startswith("main ") and "\t" not in line:
            main = line[5:]
            databases.setdefault(main, Tables())
        elif line.startswith("in ") and "\t" not in line:
            within = line[3:]
        elif len(parts := line.split("\t")) > 1 and _NUMBER.fullmatch(parts[-1]) and len(found) < _MOST_TABLES:
            database, table = (parts[0], parts[-2]) if len(parts) > 2 else (within, parts[0])
            found[readable(table if database == main else f"{database}.{table}")[:_LONGEST]] = int(parts[-1])
            of = databases.setdefault(database, Tables())
            of.all, of.filled = of.all + 1, of.filled + (parts[-1].strip("0") != "")
    return found, databases


def _kept_by_redis(data: Data, stack: str, service: str, lines: tuple[str, ...]) -> dict[str, int] | None:
    """Database -> keys that do not expire, and are not canonq's; None where it does not write them into a volume."""
    told = [line.strip() for line in lines]
    ours = [line for line in told[told.index("own") + 1 :] if line] if "own" in told else []
    own = int(ours[0]) if ours and _NUMBER.fullmatch(ours[0]) else 0
    if "keyspace" not in told:
        return None
    settings = dict(zip(told[: told.index("keyspace")][::2], told[: told.index("keyspace")][1::2], strict=False))
    writes = bool(settings.get("save")) or settings.get("appendonly") == "yes"
    folder = settings.get("dir", "")
    if not writes or not any(
        of == service and f"{folder}/".startswith(f"{at.rstrip('/')}/") for _, of, at in data.mounted(stack)
    ):
        return None
    found = {}
    for line in told[told.index("keyspace") :]:
        name, _, numbers = line.partition(":")
        keys = dict(pair.split("=", 1) for pair in numbers.split(",") if "=" in pair)
        expires = keys.get("expires", "0")
        if _DATABASE.fullmatch(name) and _NUMBER.fullmatch(keys.get("keys", "")) and _NUMBER.fullmatch(expires):
            found[name] = int(keys["keys"]) - int(expires) - (own if name == _FIRST else 0)
    return {name: max(0, keys) for name, keys in found.items()}
