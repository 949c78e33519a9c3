"""``python -m kvstore_cli`` is the `kvstore` command."""

import sys

from kvstore_cli.main import main

sys.exit(main())
