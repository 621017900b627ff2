"""`python -m network_extension` is `netext`."""

import sys

from .cli.main import main

sys.exit(main())
