"""What a person types, and what schedules the work."""
