"""The tasks: a data set, a model, a loss and scores under one name. All yours."""
