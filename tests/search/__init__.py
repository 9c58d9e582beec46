"""A random search for orders of commands after which something that must hold does not (SPEC section 5)."""
