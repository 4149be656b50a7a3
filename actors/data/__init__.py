"""Recordings of others, in the conventions of their simulators, read as episodes of ours."""
