"""How facts are come by: each look is bounded in time by `examination`, and none of them changes anything."""
