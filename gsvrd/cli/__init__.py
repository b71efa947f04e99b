"""The two commands. An edge: here every error of ours becomes a sentence, a hint and an exit code."""
