"""An environment in a process of its own: deadlines, limits, nothing left behind."""
