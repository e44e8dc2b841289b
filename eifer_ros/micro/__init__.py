"""Micro-expressions in a stream: where a face moved briefly and slightly, from the picture, from the muscles,
and from both.
"""
