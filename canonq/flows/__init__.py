"""The steps of the chain as plain functions over a World. No Celery in here."""
