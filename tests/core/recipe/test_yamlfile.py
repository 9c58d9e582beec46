"""YAML as Docker reads it."""

from __future__ import annotations

import pytest

from canonq.core.errors import RecipeProblem
from canonq.core.recipe.yamlfile import dump_yaml, load_yaml


def test_yaml_is_read_as_docker_reads_it() -> None:
    read = load_yaml("a: yes\nb: 22:22\nc: 0555\nd: 2020-01-01\ne: 1e3\nf: ~\n", where="x")
    assert read == {"a": "yes", "b": "22:22", "c": 0o555, "d": "2020-01-01", "e": 1000.0, "f": None}
    assert load_yaml(dump_yaml({"a": "b"}), where="x") == {"a": "b"}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(8)
)


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "- a", "a: [", "a: !!python/object:os.system x", BOMB, "", "a: " + "[" * 200 + "]" * 200, "x" * (1 << 21)],
)
def test_a_file_that_is_no_mapping_or_a_bomb_is_refused(text: str) -> None:
    with pytest.raises(RecipeProblem, match=r"compose\.yml"):
        load_yaml(text, where="compose.yml")


def test_of_several_documents_and_tags_of_somebodys_own_docker_reads_what_is_plain() -> None:
    text = "a: !reset [x]\nb: !other {c: =}\n---\na: [\n"
    assert load_yaml(text, where="x") == {"a": ["x"], "b": {"c": "="}}


@pytest.mark.parametrize(
    ("said", "read"),
    [("08", 8), ("010", 8), ("0o14", 12), ("0b11", 3), ("-0o7", -7), ("+12", 12), ("1__0", 10), ("007", 7), ("0888", 888),
     ("0x1F", 31), ("0x", "0x"), ("1:20", "1:20"), ("1e400", "1e400"), ("12e03", 12000.0), ("1.2.3", "1.2.3"), ("0.0", 0.0)],
)  # fmt: skip
def test_numbers_are_what_dockers_reader_makes_of_them(said: str, read: object) -> None:
    """Seen of `docker stack config` 28.2."""
    assert load_yaml(f"a: {said}\n", where="x") == {"a": read}
