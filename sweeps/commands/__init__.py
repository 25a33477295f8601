"""The commands that a user types, each in a module of its own."""
