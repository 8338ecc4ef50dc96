"""Makes the virtual environment that everything else runs in: see `make help`.

Standard library only. This file also parses on old Pythons, so that they get a clear answer.
"""

import sys

OLDEST = (3, 10)

if sys.version_info < OLDEST:
    sys.exit(
        "setup: Python {}.{} is too old, 3.10 or newer is needed: install python3.10 or newer and "
        "run make PYTHON=<its name>".format(*sys.version_info[:2])
    )

from provision.main import main  # noqa: E402  (only after the version check)

sys.exit(main())
