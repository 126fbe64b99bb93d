"""Who may go online behind a hotspot: what was granted, and what a router has to hold for it."""
