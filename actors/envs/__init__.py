"""Environments behind one registry, with gymnasium's API."""
