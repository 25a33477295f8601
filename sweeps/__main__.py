"""`python -m sweeps` is the console script `makemore`."""

from sweeps.cli import main

if __name__ == "__main__":
    main()
