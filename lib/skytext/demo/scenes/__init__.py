"""Generated remote-sensing scenes: painters, truth records, and descriptions of the truth."""
