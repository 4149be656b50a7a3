"""Touches simulators: environments, runners and the fleet that keeps them alive."""
