"""The sections of the page: each made of facts, without looking at anything."""
