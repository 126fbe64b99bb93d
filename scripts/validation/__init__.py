"""docs/validation.md, done and compared: `page` reads it, `walk` runs its blocks, `matching` compares, `world` is what they run in."""
