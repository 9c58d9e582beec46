"""The edges: one module for each outside thing. They act; they decide nothing."""
