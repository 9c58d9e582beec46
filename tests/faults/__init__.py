"""Promotion, rollback and janitor under violence: killed at every point, on a full disk, without Docker."""
