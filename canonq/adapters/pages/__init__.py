"""Pages, badges and the feed: Jinja2 templates, with everything from outside escaped."""
