"""`python -m opendesk`."""

from opendesk.cli import main

main()
