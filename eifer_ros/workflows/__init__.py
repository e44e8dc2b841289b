"""Whole jobs, built from components: what the command line runs.

No printing here; progress goes to a callback.
"""
