"""From an actor's steps to acknowledged chunks, also while Redis is away."""
