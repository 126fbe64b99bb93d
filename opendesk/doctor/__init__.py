"""What ails an installation, and what to do: `looking` gathers facts and changes nothing, `judging` makes findings of them, pure."""
