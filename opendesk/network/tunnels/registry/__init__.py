"""Devices, their keys and addresses, and who is bound to which: what is asked of the interface, in SQL."""
