"""Looking after a replay: `python -m distwm.replay`."""
