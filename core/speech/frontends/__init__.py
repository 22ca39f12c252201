"""Kinds of features, plug-ins: one file per front end that turns samples into frames."""
