"""The one-screen view of a supernet: slider, numbers, curve, network and transcript move together.

data.py makes what the component needs, component.js draws it; nothing here knows a page.
"""
