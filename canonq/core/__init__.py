"""Decisions as pure functions over values: no clock, no network, no disk."""
