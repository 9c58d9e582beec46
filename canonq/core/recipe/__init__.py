"""What the files of a release say: env, compose, links, put together."""
