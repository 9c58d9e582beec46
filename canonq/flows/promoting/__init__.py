"""A proven release becomes the canonical; and the ways back."""
