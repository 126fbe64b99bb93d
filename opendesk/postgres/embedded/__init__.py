"""A PostgreSQL server of our own: its programs, account, folder, process and life."""
