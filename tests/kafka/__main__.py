"""`./dev kafka`."""

import sys

from tests.kafka.broker import main

sys.exit(main())
