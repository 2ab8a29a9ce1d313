"""`python -m procrastinate`: the command line."""

from procrastinate.cli import main

if __name__ == "__main__":
    main()
