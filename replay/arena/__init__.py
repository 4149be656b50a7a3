"""Decoded chunks in memory that a machine's readers share, and what fills it."""
