"""`python -m mld_ff` is `mld-ff`."""

from mld_ff.cli import main

if __name__ == "__main__":
    main()
