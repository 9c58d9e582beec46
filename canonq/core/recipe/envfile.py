"""Reading `.env.sample` and `abra.sh` as abra does (values, expansion, secret modifiers). Pure.

Source of the rules: Co-op Cloud's conventions for `.env` files. A value is never executed.
"""

from __future__ import annotations

import re
import string
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from canonq.core.errors import RecipeProblem
from canonq.core.recipe.fill import TooLong, fill
from canonq.core.text import beginning, unmerged, whole_number

_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
_EXPORT = re.compile(r"^\s*export\s+([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
_VARIABLE = re.compile(r"\\\$|\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_IN_QUOTES = re.compile(r"\\(.)|\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_MODIFIER = re.compile(r"(?<![^\s#;])([a-z]+)=([A-Za-z0-9,]+)")
_NOTE = re.compile(r"(?<![ \t])[ \t]+#|^#")  #: a run of blanks is looked at from its beginning only
_SECRET = re.compile(r"SECRET_([A-Za-z0-9_]+)_VERSION")
_OUT = re.compile(r"^[ \t]*+#[# \t]*+(?=(?:export[ \t]++)?SECRET_)")  #: what takes a secret's line out

#: Characters of a generated secret; the names are the words recipes use after `charset=`.
CHARSETS = {
    "default": string.ascii_letters + string.digits,
    "alnum": string.ascii_letters + string.digits,
    "special": "!@#$%^&*_-+=",
    "safespecial": "!@#%^&*_-+=",
    "hex": "0123456789abcdef",
}
DEFAULT_SECRET_LENGTH = 32
LARGEST_SECRET = (500 << 10) - 1  #: bytes that Docker takes as one
LONGEST_SECRET = 4096
LONGEST_VALUE = 64 << 10  #: characters of one value of an env
MOST_OF_ENV = 1 << 20  #: characters of all names and values
MOST_NAMES = 5000


@dataclass(frozen=True)
class SecretRule:
    """How one secret of a recipe is made, from its `SECRET_<NAME>_VERSION=v1  # length=32` line."""

    name: str  #: lower case, as the compose file's key
    version: str  #: such as v1
    length: int = DEFAULT_SECRET_LENGTH
    charset: str = CHARSETS["default"]
    generate: bool = True  #: False: `# generate=false`, a value must come from the enrolment
    problem: RecipeProblem | None = None  #: why none can be made; nobody has to know where none is to be made


def lines_of(text: str) -> list[str]:
    """The lines of a recipe's file as a shell and Docker see them: they end at a newline and at nothing else."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def parse_env(
    text: str,
    given: Mapping[str, str] | None = None,
    *,
    forced: Mapping[str, str] | None = None,
    where: str = ".env.sample",
) -> dict[str, str]:
    """Read KEY=value lines, later ones building on earlier ones with `$KEY` or `${KEY}`.

    `given` is known beforehand (DOMAIN, STACK_NAME), and lines for it are passed over. `forced` stands in place
    of what a line assigns, as if a person had edited it, so that later lines build on it; its values are read like
    double-quoted ones, once, and a value that names its own key builds on what the line would have given.
    RecipeProblem for an unclosed quote or a line that is neither a comment nor an assignment.
    """
    over, before = dict(forced or {}), dict(given or {})
    found = before | {key: _said(over[key], before, f"{key} under [env]") for key in before if key in over}
    taken = sum(len(key) + len(value) for key, value in found.items())
    plain: dict[str, str] = {}  # what the lines of overridden keys would have given
    for number, line in enumerate(lines_of(text), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None or "\0" in line:
            raise RecipeProblem(
                f"{where} line {number} is neither a comment nor KEY=value{unmerged(text)}.",
                mend="correct the line in the recipe.",
                code="env-unreadable",
            )
        key = match[1]
        if key in before:
            continue
        value = _value(match[2], ChainMap({key: plain[key]}, found) if key in plain else found, f"{where} line {number}")
        if key in over:
            plain[key] = value
            value = _said(over[key], ChainMap({key: value}, found), f"{key} under [env]")
        taken = _room_for(found, taken, key, value, f"{where} line {number}")
    for key in over:
        if key not in found:
            taken = _room_for(found, taken, key, _said(over[key], found, f"{key} under [env]"), where)
    return found


def _room_for(found: dict[str, str], taken: int, key: str, value: str, where: str) -> int:
    """Put a value in its place; what all take by now. RecipeProblem above what one env may have."""
    taken += len(value) - len(found[key]) if key in found else len(key) + len(value)
    found[key] = value
    if len(value) > LONGEST_VALUE:
        raise _too_long(where)
    if taken > MOST_OF_ENV or len(found) > MOST_NAMES:
        raise RecipeProblem(
            f"{where}: {len(found)} names with {taken} characters; an env has at most {MOST_NAMES} and {MOST_OF_ENV}.",
            mend="keep data out of the env; lines that build on each other double with each one.",
            code="env-too-large",
        )
    return taken


def parse_exports(text: str, env: Mapping[str, str], given: Collection[str] = ()) -> dict[str, str]:
    """Read the `export X_VERSION=v1` lines of an abra.sh; everything else in it is code and is left alone.

    Lines for what is `given` (DOMAIN, STACK_NAME) are passed over: another name or domain would be somebody else's.

    RecipeProblem for one that was committed in the middle of a merge: no shell reads it, and which of its lines count is a guess.
    """
    if said := unmerged(text):
        raise RecipeProblem(f"abra.sh cannot be read{said}.", mend="finish the merge, and tag again.", code="env-unreadable")
    found: dict[str, str] = {}
    known, taken = ChainMap(found, dict(env)), 0
    for number, line in enumerate(lines_of(text), start=1):
        if (match := _EXPORT.match(line)) and match[1] not in given:
            if "$(" in match[2] or "`" in match[2]:
                continue  # a command substitution: abra would run it, canonq runs no recipe code on the host
            value = _value(match[2], known, f"abra.sh line {number}")
            taken = _room_for(found, taken, match[1], value, f"abra.sh line {number}")
    return found


def _value(raw: str, known: Mapping[str, str], where: str) -> str:
    text = raw.strip(" \t")
    if text[:1] == "'":
        end = text.find("'", 1)
        if end < 0:
            raise _unclosed(where, "'")
        return text[1:end]
    if text[:1] == '"':
        quoted = _QUOTED.match(text)
        if quoted is None:
            raise _unclosed(where, '"')
        return _said(quoted[1], known, where)
    try:
        return _expand(_NOTE.split(text, maxsplit=1)[0].rstrip(" \t"), known)
    except TooLong as error:
        raise _too_long(where) from error


def _said(text: str, known: Mapping[str, str], where: str) -> str:
    """What stands between double quotes, filled in."""
    try:
        return fill(_IN_QUOTES, text, lambda found: _piece(found, known), LONGEST_VALUE)
    except TooLong as error:
        raise _too_long(where) from error


def _too_long(where: str) -> RecipeProblem:
    return RecipeProblem(
        f"{where}: the value has more than {LONGEST_VALUE} characters once it is filled in.",
        mend="keep data out of the env; lines that build on each other double with each one.",
        code="env-too-large",
    )


def _unclosed(where: str, quote: str) -> RecipeProblem:
    return RecipeProblem(f"{where}: the {quote} is not closed.", mend="close the quote.", code="env-unreadable")


def _piece(found: re.Match[str], known: Mapping[str, str]) -> str:
    if found[1]:
        return "\n" if found[1] == "n" else found[1]
    return known.get(found[2] or found[3], "")


def _expand(text: str, known: Mapping[str, str]) -> str:
    return fill(_VARIABLE, text, lambda found: "$" if found[0] == "\\$" else known.get(found[1] or found[2], ""), LONGEST_VALUE)


def secret_rules(sample: str, env: Mapping[str, str]) -> dict[str, SecretRule]:
    """The secrets an app needs: names and versions from `env`, modifiers from the sample's comments.

    A line that is commented out counts where no other has that name: who takes the `#` away, or sets it by [env], means it.
    """
    comments: dict[str, str] = {}
    for line in sorted(lines_of(sample), key=lambda line: not line.lstrip().startswith("#")):
        match = _LINE.match(_OUT.sub("", line))
        if match:
            comments[match[1]] = match[2].partition("#")[2]
    rules: dict[str, SecretRule] = {}
    for key, version in env.items():
        if (named := _SECRET.fullmatch(key)) and version:
            name = named[1].lower()
            rules[name] = _rule(name, version, dict(_MODIFIER.findall(comments.get(key, ""))))
    return rules


def _rule(name: str, version: str, modifiers: Mapping[str, str]) -> SecretRule:
    asked = modifiers.get("length", "")
    length = whole_number(asked, LONGEST_SECRET) if asked else DEFAULT_SECRET_LENGTH
    problem: RecipeProblem | None = None
    if not length:
        problem = RecipeProblem(
            f"The secret '{name}' asks for length={beginning(asked, 20)}; 1 to {LONGEST_SECRET} can be made.",
            mend="correct the length in .env.sample.",
            code="secret-length",
        )
    words = modifiers.get("charset", "default").split(",")
    unknown = [word for word in words if word not in CHARSETS]
    if unknown:
        problem = RecipeProblem(
            f"The secret '{name}' asks for charset={','.join(words)}; known are {', '.join(CHARSETS)}.",
            mend="correct the charset in .env.sample.",
            code="secret-charset",
        )
    characters = "".join(dict.fromkeys("".join(CHARSETS.get(word, "") for word in words)))
    return SecretRule(name, version, length or DEFAULT_SECRET_LENGTH, characters, modifiers.get("generate") != "false", problem)


def might_be(rule: SecretRule, value: str) -> bool:
    """Whether a secret might have been made by this rule."""
    return rule.problem is None and len(value) == rule.length and set(value) <= set(rule.charset)


def generate_secret(rule: SecretRule, choose: Callable[[str], str]) -> str:
    """Make one secret; `choose` picks one character of a text (secrets.choice outside of tests). RecipeProblem when it cannot."""
    if rule.problem is not None:
        raise rule.problem
    return "".join(choose(rule.charset) for _ in range(rule.length))


def render_env(env: Mapping[str, str]) -> str:
    """Write `env` as a file that `parse_env` and abra read back to the same values."""
    lines = []
    for key, value in env.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", "\\n")
        lines.append(f'{key}="{escaped}"')
    return "\n".join(lines) + "\n"
