"""`python -m tfp_flows` is `tfp-flows`."""

import sys

from tfp_flows_command import main

if __name__ == "__main__":
    sys.exit(main())
