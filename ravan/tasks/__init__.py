"""What a model is trained to do, the same at headquarters and at every site: one module a task.

A task builds its model from a folder, turns examples into batches, and says what a right answer is. These modules
import torch; where it is not wanted before a model is, they are imported late.
"""
