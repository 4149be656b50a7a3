"""Playing a world model: frames are dreamt, the actions are yours."""
