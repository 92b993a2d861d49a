"""Where particles lie and how they are rotated: packing, crowding, distractors."""
