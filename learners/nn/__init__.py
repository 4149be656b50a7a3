"""Layers that the algorithms share."""
