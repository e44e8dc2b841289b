"""Recordings of eifer for other people's tools."""
