"""Measuring canonq beside a baseline, in one run."""
