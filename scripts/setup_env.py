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

# Where PYTHONSAFEPATH is set, Python leaves out the folder of the file that it runs.
sys.path.insert(0, __file__.rpartition("/")[0] or ".")

from provision.main import main  # noqa: E402  (only after the version check)

sys.exit(main())
