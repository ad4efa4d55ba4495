"""`python -m attcli` is the `attcli` command."""

from attcli.cli import main

if __name__ == "__main__":
    main()
