"""Stores experience: the schema, the codec, Redis shards, the index, sampling."""
