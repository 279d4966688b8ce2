"""`python -m sega_ros.cli` is `sega`."""

import sys

from sega_ros.cli import main

sys.exit(main())
