"""Upstreams, mirrors and their forge; which releases there are, and what people have said of them."""
