"""Variables in compose files."""

from __future__ import annotations

import pytest

from canonq.core.errors import RecipeProblem
from canonq.core.recipe.interpolate import interpolate_text


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$A/${A}", "1/1"),
        ("${B:-x}${B-y}${C-z}", "xz"),
        ("$$A", "$A"),
        ("${A:-}", "1"),
        ("Host(`$A`)", "Host(`1`)"),
        ("${C}", ""),
        # As Docker has it, and so whoever deploys the release:
        ("$A-rest.of.it", "1"),
        ("$C-rest.of.it", "rest.of.it"),
        ("${C:?must be non-empty}", "empty"),
        ("${C-a:-b}", "b"),
        ("${C:-${A}}", "${A}"),
    ],
)
def test_variables_have_the_forms_of_compose(text: str, filled: str) -> None:
    assert interpolate_text(text, {"A": "1", "B": ""}, where="x") == filled


@pytest.mark.parametrize("text", ["${A", "$1", "${C:?say why}", "a $ b", "${A:+x}", "${A+x}"])
def test_a_bad_or_missing_variable_is_named(text: str) -> None:
    with pytest.raises(RecipeProblem, match=r"compose\.yml"):
        interpolate_text(text, {"A": "1"}, where="compose.yml")
