"""A random search for orders of commands after which something that must hold does not (docs/rules.md 5)."""
