"""Texts that Swarm fills in: what real recipes say passes, and whatever would grow in the Engine's memory has a word."""

from __future__ import annotations

import time

import pytest

from canonq.core.stack.templates import MOST_TAKEN, strange

PASSES = [
    "",
    "no braces { } }} at all",
    '{{ env "DOMAIN" }}',
    '{{env `A`}}:{{- secret "db_password" -}}',
    '{{ if eq (env "FEDERATION") "1" }}on{{ else if and (env "A") (not (env "B")) }}x{{ else }}off{{ end }}',
    '{{/* a {{ comment }} */}}{{ .Service.Name }}.{{ .Task.Slot }} {{index .Service.Labels "a"}}',
    '{{ $a := env "A" }}{{ with $a }}{{ . }}{{ end }}',
    'password: "{{ secret "a" }}" # }} and {{ "}}" }}',
    "{{ len (config \"x\") }}{{ 'x' }}{{ 0x1f }}",
]
GROWS = {
    '{{ printf "%1000000d" 1 }}': "printf",
    '{{ printf "%*d" 1000000 1 }}': "printf",
    '{{ $a := "x" }}{{ $a = print $a $a }}': "print",
    '{{ with "x" }}{{ with println . . }}{{ . }}{{ end }}{{ end }}': "println",
    '{{ define "a" }}{{ template "a" }}{{ template "a" }}{{ end }}': "define",
    '{{ block "a" . }}x{{ end }}': "block",
    '{{ template "a" }}': "template",
    "{{ range 1000000000 }}x{{ end }}": "range",
    '{{ env "A" | js | js | js }}': "js",
    '{{ html "<" }}': "html",
    "{{ call .X }}": "call",
    "{{ nobody_knows_it }}": "nobody_knows_it",
    '{{ "never closed': "?",
    "{{ /* never closed }}": "?",
    "{{ é }}": "?",
    "{{": "?",
    "{{ env 'A\n' }}": "?",
    '{{ env "A" }}' * (MOST_TAKEN + 1): "many",
    '{{ with env "A" }}' + "{{.}}" * MOST_TAKEN + "{{end}}": "many",
    "{{$a := `x`}}" + "{{$a}}" * MOST_TAKEN: "many",
}


@pytest.mark.parametrize("text", PASSES)
def test_what_recipes_have_filled_in_passes(text: str) -> None:
    assert strange(text) is None


@pytest.mark.parametrize("text", GROWS, ids=lambda text: text[:30])
def test_what_may_become_of_any_size_has_a_word(text: str) -> None:
    assert strange(text) == GROWS[text]


@pytest.mark.parametrize(
    "text", ["{" * 500_000, "{{ " + "(" * 250_000, "{{`" * 100_000, '{{"' + "\\" * 250_000, "{{/*" * 100_000]
)
def test_half_a_megabyte_of_braces_is_read_soon(text: str) -> None:
    began = time.process_time()
    strange(text)
    assert time.process_time() - began < 1
