"""``python -m pyattn``: see pyattn/_command_line."""

import sys

from pyattn._command_line import main

if __name__ == "__main__":
    sys.exit(main())
