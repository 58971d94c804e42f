"""The template's part of the project: `copier update` merges here. It imports nothing of yours."""
