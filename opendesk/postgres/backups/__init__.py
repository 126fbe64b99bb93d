"""Backups of the whole database in one file each, and their way back.

A backup is a tar file of two parts, so that it can be read without OpenDesk: `opendesk.dump`, as pg_dump writes it, and
`manifest.json`, which says what is in it.
"""
