"""Rounds and the jobs that are made of them: a pure machine for one round, and the shell that conducts it.

    states, events, effects, transitions   what a round can be in, hear and ask for, as data
    machine                                one round, without I/O and clock
    assigning, selection, recording        pure steps between jobs, rounds and records
    ports                                  what the shell needs of others, as protocols
    conductor                              the API of the fleet, the sites and the operators

A round that runs is `RoundMachine`; `ActiveRound` runs its effects; `JobRunner` starts one round of a
job after another; `Conductor` holds the runners.
"""
