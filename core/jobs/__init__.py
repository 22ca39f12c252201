"""Work in the background: the queue and its database, heartbeats, the worker, a job's process, and
runners (plug-ins).
"""
