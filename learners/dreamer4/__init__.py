"""Dreamer 4: tokenizer, dynamics, agent, imagination."""
