"""What is solved: the problem, its mesh and schedules, its measures and energies, its end state."""
