"""`python -m jaxcur.cli` is `jaxcur`."""

import sys

from jaxcur.cli import main

if __name__ == "__main__":
    sys.exit(main())
