"""`python -m appliance` is `voiced`."""

import sys

from appliance.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
