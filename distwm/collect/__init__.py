"""Collection without training: several environments side by side, into one replay."""
