"""What the user reads: the lesson plan as Markdown, its name, and its safe way into `reports/`."""
