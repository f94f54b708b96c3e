"""``python -m durably``: the command line."""

from durably.cli import main

if __name__ == "__main__":
    main()
