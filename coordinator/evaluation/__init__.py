"""Everything that needs torch at headquarters, in a process of its own: looking into models, scoring versions."""
