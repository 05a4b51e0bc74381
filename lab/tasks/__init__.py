"""What is learnt: real models on real data, in a form that any split can be dealt from."""
