"""Has the weights: one folder per algorithm, the layers they share, the learner."""
