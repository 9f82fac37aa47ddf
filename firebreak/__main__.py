"""`python -m firebreak` is the command `firebreak`."""

from firebreak.cli.main import main

if __name__ == "__main__":
    main()
