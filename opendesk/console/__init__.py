"""The console: one page for admins that shows what the daemon does, live."""
