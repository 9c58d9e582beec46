"""Where recipes come from: addresses, mirrors, pushes, pull requests, the catalogue."""
