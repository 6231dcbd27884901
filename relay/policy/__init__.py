"""Policies: YAML files become closures that judge one recipient's copy in microseconds.

Pure: file contents, the time and time zones are arguments. What cannot be decided protects (law 3).
"""
