"""A simulated fleet: hundreds of light agents against one real coordinator, for tests and benchmarks.

    steps, faults          where in a round an agent may be held or cut off, and who is
    update, proof          updates that show in the model who was counted, and how that is read
    agent, worker          the real agent without training, and a process that runs many of them
    fleet, headquarters    the processes of both sides, from the outside
    book, job              what the coordinator has stored, and what it is asked to do
    course                 rounds with drop-outs and kills, from the first token to the last figure

Agents are the product's own session, secure aggregation, transfers and identity over mTLS on loopback. Only the
measurement of the PC, the preparation of a job and the training are made up.
"""
