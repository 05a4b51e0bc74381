"""The demo: a real coordinator and five real agents fine-tune MiniLM on maintenance work orders.

`run` conducts, `work_orders` prepares the data, `plant` runs the processes, `memory` cages them,
`faults` kills one of them twice, `recomputation` checks exactness as a program of its own, and
`report` tells what came of it.
"""
