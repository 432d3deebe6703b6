"""``python -m mtattn`` is the command ``mtattn``."""

from mtattn.cli import main

if __name__ == "__main__":
    main()
