"""``python -m brainrdl`` is the command ``brainrdl``."""

from brainrdl.cli.app import main

if __name__ == "__main__":
    main()
