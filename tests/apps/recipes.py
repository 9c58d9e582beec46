"""Recipes of the real applications, as their authors write them, and what is put into a new installation of each."""

from __future__ import annotations

import json
import shlex

from tests.apps.images import IHATEMONEY, MARIADB, MINIFLUX, NODERED, POSTGRES, PREFIX

FILES = dict[str, str]

_PG = "/var/lib/postgresql/data"
_PG_DUMP = f"{_PG}/dump.sql"


def pg_labels(dumped: str = "miniflux", restored: str = "miniflux", *, over: bool = False) -> list[str]:
    """The database's backup labels; which database is dumped, and which is made anew from the dump. `over`: it is loaded over
    what is there, which goes on after each error.
    """
    as_user = "psql -qX -v ON_ERROR_STOP=1 -U miniflux"
    anew = f"-c 'DROP DATABASE {restored} WITH (FORCE)' -c 'CREATE DATABASE {restored}'"
    loaded = f"{as_user} -d template1 {anew} && {as_user} -d {restored} -f {_PG_DUMP}"
    if over:
        loaded = f"psql -qX -U miniflux -d {restored} -f {_PG_DUMP}"
    return [
        "backupbot.backup=true",
        f"backupbot.backup.pre-hook=pg_dump -U miniflux {dumped} > {_PG_DUMP}",
        f"backupbot.backup.path={_PG_DUMP}",
        f"backupbot.restore.post-hook={loaded}",
    ]


_CONNECTED = (
    'export DATABASE_URL="host=db user=miniflux dbname=miniflux sslmode=disable password=$$(cat /run/secrets/db_password)"'
)
_AWAITED = 'until psql -qX "$$DATABASE_URL" -c "SELECT 1" > /dev/null 2>&1; do sleep 1; done'
_MADE = 'psql -qX "$$DATABASE_URL dbname=postgres" -c "CREATE DATABASE miniflux" > /dev/null 2>&1'


def miniflux(
    tag: str,
    version: str,
    *,
    image: str = "",
    start: str = "exec miniflux",
    labels: list[str] | None = None,
    makes: bool = False,
    database: str = "",
) -> FILES:
    """Miniflux and its PostgreSQL. `makes`: it makes its own database beside the one that the image has made; `database`: what
    is done before the server is begun.
    """
    labels = pg_labels() if labels is None else labels
    awaited = _AWAITED.replace("; do ", f"; do {_MADE}; ") if makes else _AWAITED
    compose = f"""
version: "3.8"
services:
  app:
    image: {image or f"{PREFIX}/miniflux:{version}"}
    command: ["sh", "-c", {json.dumps(f"{_CONNECTED}; {awaited}; {start}")}]
    networks: [proxy, internal]
    secrets: [db_password, admin_password]
    environment:
      - RUN_MIGRATIONS=1
      - CREATE_ADMIN=1
      - ADMIN_USERNAME=admin
      - ADMIN_PASSWORD_FILE=/run/secrets/admin_password
      - BASE_URL=https://${{DOMAIN}}
    healthcheck: {{test: ["CMD", "miniflux", "-healthcheck", "auto"], interval: 2s, timeout: 60s, retries: 5, start_period: 60s}}
    deploy:
      restart_policy: {{condition: any, delay: 2s}}
      update_config: {{failure_action: rollback, order: start-first}}
      labels:
        - "coop-cloud.${{STACK_NAME}}.version={tag}"
        - "traefik.enable=true"
        - "traefik.http.routers.${{STACK_NAME}}.rule=Host(`${{DOMAIN}}`)"
        - "traefik.http.services.${{STACK_NAME}}.loadbalancer.server.port=8080"
  db:
    image: {POSTGRES}
    command: ["sh", "-c", {json.dumps(f"{database or ':'}; exec postgres-start postgres")}]
    networks: [internal]
    environment:
      - POSTGRES_USER=miniflux
      - POSTGRES_DB={"postgres" if makes else "miniflux"}
      - POSTGRES_PASSWORD_FILE=/run/secrets/db_password
    secrets: [db_password]
    volumes: ["db:{_PG}"]
    healthcheck: {{test: ["CMD", "pg_isready", "-qU", "miniflux"], interval: 2s, timeout: 60s, retries: 5, start_period: 60s}}
    deploy: {{labels: {json.dumps(labels)}}}
networks:
  proxy: {{external: true}}
  internal: {{}}
secrets:
  db_password: {{external: true, name: "${{STACK_NAME}}_db_password_${{SECRET_DB_PASSWORD_VERSION}}"}}
  admin_password: {{external: true, name: "${{STACK_NAME}}_admin_password_${{SECRET_ADMIN_PASSWORD_VERSION}}"}}
volumes:
  db: {{}}
"""
    sample = (
        "TYPE=miniflux\nDOMAIN=reader.example.com\nSECRET_DB_PASSWORD_VERSION=v1\nSECRET_ADMIN_PASSWORD_VERSION=v1 # length=20\n"
    )
    return {"compose.yml": compose, ".env.sample": sample}


_DB = "/var/lib/mysql"
_AS_ROOT = '-u root -p"$$(cat /run/secrets/db_root_password)"'


def maria_labels(restored: str = "ihatemoney") -> list[str]:
    """The database's backup labels; into which database the dump is put back, if any."""
    labels = [
        "backupbot.backup=true",
        f"backupbot.backup.pre-hook=mariadb-dump --single-transaction {_AS_ROOT} ihatemoney > {_DB}/dump.sql",
        f"backupbot.backup.path={_DB}/dump.sql",
    ]
    return labels + ([f"backupbot.restore.post-hook=mariadb {_AS_ROOT} {restored} < {_DB}/dump.sql"] if restored else [])


_SETTINGS = """
import os
SECRET_KEY = KEY
{{ if env "DATABASE_HOST" -}}
SQLALCHEMY_DATABASE_URI = "mysql+pymysql://ihatemoney:{{ secret "db_password" }}@{{ env "DATABASE_HOST" }}/ihatemoney"
{{ else -}}
SQLALCHEMY_DATABASE_URI = "sqlite:////database/ihatemoney.db"
{{ end -}}
"""
_MARIA = 'until nc -w 5 "$${DATABASE_HOST:-db}" 3306 < /dev/null > /dev/null 2>&1; do sleep 1; done'
_SERVE = "exec python3 -m gunicorn --bind=0.0.0.0:8000 --threads=4 --worker-tmp-dir=/dev/shm ihatemoney.wsgi:application"
#: Runs a statement in MariaDB, which may fail, before the application is begun.
_STATEMENT = """
import os, sys, pymysql
password = open("/run/secrets/db_password").read()
with pymysql.connect(host="db", user="ihatemoney", password=password, database="ihatemoney", autocommit=True) as database:
    database.cursor().execute(sys.argv[1])
"""


#: Carries what is in the SQLite file into MariaDB, once, before the application is begun.
_CARRIED = """
import os, sqlite3, pymysql
from ihatemoney.run import create_app
create_app()
old = "/database/ihatemoney.db"
if os.path.exists(old):
    password = open("/run/secrets/db_password").read()
    database = pymysql.connect(host="db", user="ihatemoney", password=password, database="ihatemoney")
    cursor, rows = database.cursor(), sqlite3.connect(old)
    cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
    cursor.execute("SHOW TABLES")
    for table in (name for (name,) in cursor.fetchall() if name != "alembic_version" and not name.startswith("canonq")):
        names = ", ".join(f"`{one[1]}`" for one in rows.execute(f'PRAGMA table_info("{table}")'))
        for row in rows.execute(f'SELECT * FROM "{table}"').fetchall() if names else ():
            cursor.execute(f"INSERT INTO `{table}` ({names}) VALUES ({', '.join(['%s'] * len(row))})", row)
    database.commit()
    os.rename(old, old + ".carried")
"""


def ihatemoney(
    tag: str,
    version: str,
    *,
    host: str = "DATABASE_HOST=db",
    statement: str = "",
    labels: list[str] | None = None,
    carries: bool = False,
    key: str = '"{{ secret "secret_key" }}"',
    settings: str = "v1",
) -> FILES:
    """I Hate Money and its MariaDB; without its `host`, it keeps a SQLite file. `carries`: from that one into MariaDB."""
    labels = maria_labels() if labels is None else labels
    before = f"python3 -c {shlex.quote(_STATEMENT)} {shlex.quote(statement)}" if statement else ":"
    before = f"python3 -c {shlex.quote(_CARRIED)}" if carries else before
    compose = f"""
version: "3.8"
services:
  app:
    image: {PREFIX}/ihatemoney:{version}
    command: ["sh", "-c", {json.dumps(f"{_MARIA}; {before}; {_SERVE}")}]
    networks: [proxy, internal]
    secrets: [db_password, secret_key]
    environment: ["{host}", IHATEMONEY_SETTINGS_FILE_PATH=/etc/ihatemoney.cfg]
    configs: [{{source: settings, target: /etc/ihatemoney.cfg}}]
    volumes: ["files:/database"]
    healthcheck:
      test: ["CMD", "wget", "-qO", "/dev/null", "http://127.0.0.1:8000/"]
      interval: 2s
      timeout: 60s
      retries: 5
      start_period: 90s
    deploy:
      restart_policy: {{condition: any, delay: 2s}}
      update_config: {{failure_action: rollback, order: start-first}}
      labels:
        - "coop-cloud.${{STACK_NAME}}.version={tag}"
        - "backupbot.backup=true"
  db:
    image: {MARIADB}
    networks: [internal]
    environment:
      - MYSQL_DATABASE=ihatemoney
      - MYSQL_USER=ihatemoney
      - MYSQL_PASSWORD_FILE=/run/secrets/db_password
      - MYSQL_ROOT_PASSWORD_FILE=/run/secrets/db_root_password
    secrets: [db_password, db_root_password]
    volumes: ["db:{_DB}"]
    deploy: {{labels: {json.dumps(labels)}}}
networks:
  proxy: {{external: true}}
  internal: {{}}
secrets:
  db_password: {{external: true, name: "${{STACK_NAME}}_db_password_${{SECRET_DB_PASSWORD_VERSION}}"}}
  db_root_password: {{external: true, name: "${{STACK_NAME}}_db_root_password_${{SECRET_DB_ROOT_PASSWORD_VERSION}}"}}
  secret_key: {{external: true, name: "${{STACK_NAME}}_secret_key_${{SECRET_SECRET_KEY_VERSION}}"}}
configs:
  settings: {{name: "${{STACK_NAME}}_settings_${{SETTINGS_VERSION}}", file: settings.cfg.tmpl, template_driver: golang}}
volumes:
  db: {{}}
  files: {{}}
"""
    names = ("DB_PASSWORD", "DB_ROOT_PASSWORD", "SECRET_KEY")
    sample = "".join(f"SECRET_{name}_VERSION=v1\n" for name in names)
    return {
        "compose.yml": compose,
        ".env.sample": f"TYPE=ihatemoney\nDOMAIN=money.example.com\n{sample}",
        "abra.sh": f"export SETTINGS_VERSION={settings}\n",
        "settings.cfg.tmpl": _SETTINGS.replace("= KEY", f"= {key}"),
    }


def nodered(tag: str, version: str, *, folder: str = "/data", before: str = ":", labels: tuple[str, ...] = ()) -> FILES:
    """Node-RED, which keeps all that it has in files; `before`: what is done at each start."""
    serve = f"exec node /srv/app/node_modules/node-red/red.js --userDir {folder}"
    told = [f"coop-cloud.${{STACK_NAME}}.version={tag}", "backupbot.backup=true", *labels]
    compose = f"""
version: "3.8"
services:
  app:
    image: {PREFIX}/nodered:{version}
    command: ["sh", "-c", {json.dumps(f"{before}; {serve}")}]
    networks: [proxy]
    volumes: ["data:/data"]
    healthcheck:
      test: ["CMD", "wget", "-qO", "/dev/null", "http://127.0.0.1:1880/"]
      interval: 2s
      timeout: 60s
      retries: 5
      start_period: 90s
    deploy:
      restart_policy: {{condition: any, delay: 2s}}
      update_config: {{failure_action: rollback, order: stop-first}}
      labels: {json.dumps(told)}
networks:
  proxy: {{external: true}}
volumes:
  data: {{}}
"""
    return {"compose.yml": compose, ".env.sample": "TYPE=nodered\nDOMAIN=flows.example.com\n"}


OLD = {"miniflux": f"1.0.0+{MINIFLUX[0]}", "ihatemoney": f"1.0.0+{IHATEMONEY[0]}", "nodered": f"1.0.0+{NODERED[0]}"}
NEW = {"miniflux": f"1.1.0+{MINIFLUX[1]}", "ihatemoney": f"1.1.0+{IHATEMONEY[1]}", "nodered": f"1.1.0+{NODERED[1]}"}

#: Beside each: not every kernel that tests run on can balance what comes to a service's own address.
OVERLAY = 'version: "3.8"\nservices:\n  db:\n    deploy:\n      endpoint_mode: dnsrr\n'
#: Its migrations drop the table, and another one takes its place.
DECLARED = '[data.volatile]\n"{table}" = "people log in anew"\n'
#: What the person who enrols it puts beside it.
TOML = {
    "miniflux": '[health]\nport = 8080\npath = "/healthcheck"\ntimeout = 600\n',
    "ihatemoney": "[health]\nport = 8000\ntimeout = 600\n",
    "nodered": "[health]\nport = 1880\ntimeout = 600\n",
}
SHARED = {
    "in_miniflux.py": """
import base64


def ask(app, method, path, **more):
    login = base64.b64encode(b"admin:" + app.secret("admin_password").encode()).decode()
    return app.http.request(method, path, headers={"Authorization": f"Basic {login}"}, timeout=60, **more)


def fill(app):
    assert app.http.get("/").status == 200  # which begins a session
    for title in ("Gardens", "Bicycles", "Bread"):
        assert ask(app, "POST", "/v1/categories", json={"title": title}).status in (201, 400), title


def titles(app):
    return {one["title"] for one in ask(app, "GET", "/v1/categories").json()}
""",
    "in_ihatemoney.py": '''
import base64

LOGIN = {"Authorization": "Basic " + base64.b64encode(b"holiday:sand-castle").decode()}


# The older release makes a hash of passwords that is too long for its own table: this one fits.
PROJECT = """
from ihatemoney.models import Project, db
from ihatemoney.run import create_app
from werkzeug.security import generate_password_hash

with create_app().app_context():
    password = generate_password_hash("sand-castle", method="pbkdf2:sha256")
    db.session.add(
        Project(id="holiday", name="Holiday", password=password, contact_email="a@example.com", default_currency="XXX")
    )
    db.session.commit()
"""


def ask(app, method, path, **more):
    return app.http.request(method, path, headers=LOGIN, timeout=60, **more)


def fill(app):
    if ask(app, "GET", "/api/projects/holiday").status == 200:
        return  # the canonical's data
    made = app.exec("app", "python3", "-c", PROJECT)
    assert made.status == 0, made.output
    for name in ("Ada", "Ben"):
        assert ask(app, "POST", "/api/projects/holiday/members", form={"name": name}).status == 201
    ids = [one["id"] for one in ask(app, "GET", "/api/projects/holiday/members").json()]
    for what in ("Ferry", "Tents", "Ice cream"):
        bill = {"date": "2024-07-01", "what": what, "payer": ids[0], "payed_for": ids[1], "amount": "12.5"}
        assert ask(app, "POST", "/api/projects/holiday/bills", form=bill | {"original_currency": "XXX"}).status == 201, what


def bills(app):
    return {one["what"] for one in ask(app, "GET", "/api/projects/holiday/bills").json()}
''',
    "in_nodered.py": """
PLACES = ("Garden", "Greenhouse", "Cellar")


def fill(app):
    flows = [{"id": name.lower(), "type": "tab", "label": name, "info": "Water it. " * 200} for name in PLACES]
    assert app.http.request("POST", "/flows", json=flows, timeout=60).status == 204


def labels(app):
    return {one["label"] for one in app.http.request("GET", "/flows", timeout=60).json() if one["type"] == "tab"}
""",
}
#: A mark that only who has the key of an earlier start can read.
SEALED = """
from in_ihatemoney import ask


def write_marker(app, text):
    assert ask(app, "POST", "/api/projects/holiday/members", form={"name": text}).status == 201
    token = ask(app, "GET", "/api/projects/holiday/token").json()["token"]
    assert app.exec("app", "sh", "-c", 'printf %s "$0" > /database/token', token).status == 0


def read_marker(app):
    token = app.exec("app", "cat", "/database/token").output.strip()
    path, headers = "/api/projects/holiday/members", {"Authorization": f"Bearer {token}"}
    answer = app.http.request("GET", path, headers=headers, timeout=60)
    return answer.json()[-1]["name"] if answer.status == 200 else f"the token is not taken any more: {answer.status}"
"""
#: What the person who enrols Miniflux asks for that new installations are not open.
NOBODY_BUT_US = """

def test_nobody_comes_in_as_a_guest(app):
    import base64

    login = base64.b64encode(b"guest:guest123").decode()
    answer = app.http.request("GET", "/v1/me", headers={"Authorization": f"Basic {login}"}, timeout=60)
    assert answer.status == 401, "guest:guest123 is let in"
"""
HOOKS = {name: f"from in_{name} import fill\n\nafter_install = populate = fill\n" for name in TOML}
TESTS = {
    "nodered": """
from in_nodered import labels


def test_flows_are_shown(app):
    assert labels(app) == {"Garden", "Greenhouse", "Cellar"}
""",
    "miniflux": """
from in_miniflux import titles


def test_categories_are_shown(app):
    assert titles(app) >= {"Gardens", "Bicycles", "Bread"}
""",
    "ihatemoney": """
from in_ihatemoney import bills


def test_bills_are_shown(app):
    assert bills(app) == {"Ferry", "Tents", "Ice cream"}
""",
}
