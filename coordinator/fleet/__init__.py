"""The sites that are there now: who is connected, who is alive, and what waits to be sent to whom."""
