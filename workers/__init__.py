"""The Celery side of canonq: the app, thin tasks, and the process tree of a single host."""
