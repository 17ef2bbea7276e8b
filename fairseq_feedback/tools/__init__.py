"""The command `fairseq-feedback`. Nothing else in this package imports its tools.

A tool is a module with a docstring, whose first line is its summary, add_arguments(parser) and main(args); command.py
names it. torch, fairseq and extras are imported inside its functions, so that --help answers at once.
"""
