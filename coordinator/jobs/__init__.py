"""Jobs before their first round: the job file, the base model, and the plan that is made of both."""
