"""What an earlier system kept in files, taken over by `opendesk import`."""
