"""What learners draw from: the live replay, episodes in memory, mixtures."""
