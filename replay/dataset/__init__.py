"""Recorded data on disk: sharded episodes with a manifest and hashes."""
