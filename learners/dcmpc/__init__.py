"""DC-MPC: a world model over discrete codes, and planning in it (Scannell et al. 2025, arXiv 2503.00653)."""
