"""canonq keeps, for every enrolled Co-op Cloud recipe, one proven canonical."""

__version__ = "0.1.0"
