"""Sweeps as a whole: what is tried again, who was lost on the way, which nights were missed."""
