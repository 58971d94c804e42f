"""The reference as the engine sees it: its project.py, handed over as its command line does it."""

from reference_reasoner import project
from reference_reasoner.engine.project import Project

REFERENCE = Project.of(project)
