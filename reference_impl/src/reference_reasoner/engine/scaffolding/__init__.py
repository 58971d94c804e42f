"""What `new` writes: a data set, a model, a task, and tests, from the texts in seeds/."""
