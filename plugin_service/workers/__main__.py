"""`python -m plugin_service.workers`."""

import sys

from plugin_service.workers.app import main

sys.exit(main())
