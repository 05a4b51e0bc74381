"""The coordinator: a long-running daemon at headquarters that conducts jobs and rounds."""
