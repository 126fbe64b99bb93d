"""OpenDesk: rent PCs by the minute, and sell access behind MikroTik hotspots."""
