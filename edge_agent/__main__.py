"""`python -m edge_agent` is `ravan-agent`."""

from edge_agent.cli import main

main()
