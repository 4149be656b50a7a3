"""LeRobot data sets, version 3: export and import."""
