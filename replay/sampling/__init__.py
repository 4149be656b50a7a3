"""Which windows a learner sees: the index and the draws. Plain numpy, no storage."""
