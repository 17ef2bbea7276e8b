"""What the examples' programs share. They run with the root of the repository in PYTHONPATH."""
