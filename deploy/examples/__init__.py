"""Complete small jobs, one for each task: a real pretrained model, real data of three plants, a job file."""
