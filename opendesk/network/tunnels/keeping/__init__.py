"""The interface is kept as the registry has it: read, plan, apply, read again; and who was heard of when."""
