"""Programs to run. `docstrings` is a module that some of them and bench.py share."""
