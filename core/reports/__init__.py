"""From a finished run to what ships with the project: a checked copy, its model card, result pages,
spoken samples.
"""
