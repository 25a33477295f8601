"""`python -m makemore` is the console script `makemore`, which belongs to the harness."""

import runpy

if __name__ == "__main__":
    runpy.run_module("sweeps", run_name="__main__")
