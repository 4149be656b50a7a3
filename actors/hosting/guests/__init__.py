"""Environments as they are made in a process of their own, with packages that the main interpreter does not have."""
