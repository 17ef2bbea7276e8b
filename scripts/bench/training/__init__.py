"""What train.py is made of: what is timed, the gate before it, and its table."""
