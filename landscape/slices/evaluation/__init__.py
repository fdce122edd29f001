"""Loss and accuracy at many points of a line or plane: by one process, by workers, or by the ranks of a group."""
