"""What operators see: logs, metrics, the service manager."""
