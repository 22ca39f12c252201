"""One speech recognizer in every size: prepares speech, trains, searches and evaluates a pruning
supernet.
"""

__version__ = "0.2.0"
